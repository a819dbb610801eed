"""The version of a saved model, and whether its vectors may be cut."""

from __future__ import annotations

from hashlib import blake2b, file_digest
from pathlib import Path

from tgqformer.errors import TgqError
from tgqformer.stages import NOTE

CARD = "README.md"
"""The model card, in the folder of a saved model."""
SENTENCE = ("modules.json", "config_sentence_transformers.json")
"""What tells sentence-transformers how the folder is loaded."""
UNSAVED = "unsaved"
"""The version of a model that was never read from a folder."""


def check_cut(frozen: object, dim: int | None, whole: int) -> None:
    """Refuse to keep the first `dim` of `whole` dimensions of vectors that begin at a frozen part.

    Those are the frozen picture's alone; without a picture they are zeros.

    Args:
        frozen: what the vectors begin at, or the settings of it; None where all of them is learned.

    Raises:
        TgqError: with what to do.
    """
    if frozen is not None and dim is not None and dim < whole:
        raise TgqError(
            f"the first {dim} of the model's {whole} dimensions are those of what it does not learn, first of the"
            " frozen picture; leave the number of dimensions out, or train a model with training.matryoshka"
        )


def version_of(folder: Path) -> str:
    """Name a saved model by the content of its files: equal folders, equal versions.

    Its card, our note, the files of sentence-transformers and hidden ones, such as the hub's `.gitattributes`, do not
    count: no vector depends on them.
    """
    digest = blake2b(digest_size=8)
    for path in sorted(path for path in folder.rglob("*") if path.is_file() and _counts(path.relative_to(folder))):
        digest.update(str(path.relative_to(folder)).encode())
        with path.open("rb") as file:
            digest.update(file_digest(file, "sha256").digest())
    return digest.hexdigest()


def _counts(path: Path) -> bool:
    return path.name not in (NOTE, CARD, *SENTENCE) and not any(part.startswith(".") for part in path.parts)
