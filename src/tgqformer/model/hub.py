"""Saved models on the Hugging Face Hub: found by a name, or put there. Nothing that comes from the hub is run."""

from __future__ import annotations

import re
from pathlib import Path

from tgqformer.errors import TgqError
from tgqformer.packages import PRETRAINED, pretrained_folder

FILES = ["*.json", "*.safetensors", "*.txt", "*.model", "*.jinja", "*.md"]
"""What is fetched and put: settings, weights, tokenizers, the card. No code, and no pickle."""
_ID = re.compile(r"([\w-][\w.-]*/[\w-][\w.-]*)(?:@([\w./-]+))?")


def locate_model(place: Path | str, *, revision: str | None = None, local_files_only: bool = False) -> Path:
    """Return the folder of a saved model; one of the hub is fetched into the hub's cache.

    Args:
        place: a folder; the name of a pretrained model that is installed, `small`; or a hub id, `OWNER/NAME` or
            `OWNER/NAME@REVISION`.
        revision: a branch, a tag or a commit, of a hub id without one of its own.
        local_files_only: take a model of the hub from the cache, and ask nobody.

    Raises:
        TgqError: if there is no such folder, or the hub does not give it.
    """
    folder, found = Path(place), _ID.fullmatch(str(place))
    if folder.exists() or (found and folder.parent.exists()):  # a path with a slip is not asked of the hub
        if revision is not None or not folder.exists():
            why = "a folder has no revision" if folder.exists() else f"there is no folder {folder}"
            raise TgqError(f"{why}; give a folder of a saved model, or a hub id OWNER/NAME")
        return folder
    if str(place) in PRETRAINED:
        return pretrained_folder(str(place))
    if found is None:
        known = ", ".join(PRETRAINED)
        raise TgqError(
            f"{place} is not a saved model: there is no such folder; give one, a hub id OWNER/NAME, or {known}"
        )
    if revision is not None and found[2] is not None and found[2] != revision:
        raise TgqError(f"{place} names a revision, and {revision!r} is given too; leave one out")
    return _fetch(found[1], revision or found[2], local_files_only)


def name_of(folder: Path) -> str:
    """Name a model's folder so that it is found again: `OWNER/NAME@COMMIT` if the hub gave it, else its path."""
    parents = folder.absolute().parents
    if len(parents) > 1 and parents[0].name == "snapshots" and parents[1].name.startswith("models--"):
        return f"{parents[1].name.removeprefix('models--').replace('--', '/', 1)}@{folder.name}"
    return str(folder.resolve())


def known_place(name: str) -> Path:
    """Return the folder of what `name_of` named; a model of the hub is fetched if it is not there any more."""
    return Path(name) if Path(name).is_absolute() else locate_model(name)


def push_folder(
    folder: Path,
    repo: str,
    *,
    revision: str | None = None,
    private: bool | None = None,
    token: str | None = None,
    message: str = "A model of tgqformer",
) -> str:
    """Put the folder of a saved model on the hub, as it is; return its name with the commit, `OWNER/NAME@COMMIT`.

    Args:
        folder: of the model. repo: `OWNER/NAME`; it is made if it is not there.
        revision: the branch; made if it is not there. private: of a new repository.
        token: of the hub; by default the one of `hf auth login` or of the variable HF_TOKEN.
        message: of the commit.

    Raises:
        TgqError: if the hub refuses, or cannot be reached.
    """
    from huggingface_hub import HfApi

    if not _ID.fullmatch(repo) or "@" in repo:
        raise TgqError(f"{repo!r} is no hub id; write OWNER/NAME")
    api = HfApi(token=token)
    try:
        api.create_repo(repo, private=private, exist_ok=True)
        if revision is not None:
            api.create_branch(repo, branch=revision, exist_ok=True)
        made = api.upload_folder(
            repo_id=repo,
            folder_path=folder,
            revision=revision,
            commit_message=message,
            allow_patterns=FILES,
            delete_patterns=FILES,
        )
    except _troubles() as error:
        raise _refused(repo, "does not take", error) from error
    return f"{repo}@{made.oid}"


def _fetch(repo: str, revision: str | None, local_files_only: bool) -> Path:
    from huggingface_hub import snapshot_download

    try:
        found = snapshot_download(repo, revision=revision, allow_patterns=FILES, local_files_only=local_files_only)
    except _troubles() as error:
        raise _refused(repo if revision is None else f"{repo}@{revision}", "does not give", error) from error
    return Path(found)


def _troubles() -> tuple[type[BaseException], ...]:
    """Return what a call to the hub may raise: its own errors, and those of its HTTP client, which they derive from."""
    from huggingface_hub.errors import HfHubHTTPError

    return (*HfHubHTTPError.__bases__, OSError, ValueError, RuntimeError)


def _refused(repo: str, verb: str, error: BaseException) -> TgqError:
    why = " ".join(str(error).split())[:300]
    return TgqError(f"the hub {verb} {repo!r}: {why}; check the id and `hf auth whoami`, or give a folder")
