"""The version of a saved model."""

from __future__ import annotations

from hashlib import blake2b, file_digest
from pathlib import Path

from tgqformer.stages import NOTE


def version_of(folder: Path) -> str:
    """Name a saved model by the content of its files: equal folders, equal versions."""
    digest = blake2b(digest_size=8)
    for path in sorted(path for path in folder.rglob("*") if path.is_file() and path.name != NOTE):
        digest.update(str(path.relative_to(folder)).encode())
        with path.open("rb") as file:
            digest.update(file_digest(file, "sha256").digest())
    return digest.hexdigest()
