"""Data sets of the Hugging Face hub, at one commit, by its own client."""

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ...errors import InputError, require

HUB = "https://huggingface.co"
TIMEOUT_S = 20
_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS)


def commit_of(repository: str) -> str:
    """Return the commit that the main branch of a data set is at now."""
    return _asked(repository, lambda hub: _client(hub).dataset_info(repository, timeout=TIMEOUT_S).sha)


def files_of(repository: str, commit: str, names: list[str]) -> dict[str, tuple[int, str | None]]:
    """Return size and, where the hub keeps one, sha256 of files of a data set; a file that is not there is absent."""

    def ask(hub: Any) -> dict[str, tuple[int, str | None]]:
        found = _client(hub).get_paths_info(repository, names, revision=commit, repo_type="dataset")
        kind = require("huggingface_hub.hf_api", "encoders").RepoFile
        files = [file for file in found if isinstance(file, kind)]
        return {file.path: (file.size, file.lfs.sha256 if file.lfs else None) for file in files}

    return _asked(repository, ask)


def download_of(repository: str, commit: str, name: str, folder: Path) -> None:
    """Bring one file into a folder, under its own name. It is resumed where it stopped."""

    def ask(hub: Any) -> None:
        hub.hf_hub_download(
            repository, name, repo_type="dataset", revision=commit, local_dir=folder, endpoint=_endpoint()
        )

    _asked(repository, ask)


def _endpoint() -> str:
    return os.environ.get("HF_ENDPOINT") or HUB


def _client(hub: Any) -> Any:
    return hub.HfApi(endpoint=_endpoint())


def _asked(repository: str, ask: Callable[[Any], Any]) -> Any:
    hub, errors = require("huggingface_hub", "encoders"), require("huggingface_hub.errors", "encoders")
    library = (base for base in errors.HfHubHTTPError.__bases__ if issubclass(base, Exception))
    try:
        return ask(hub)
    except (OSError, errors.EntryNotFoundError, *library) as error:
        if isinstance(error, OSError) and error.errno in _DISK:
            raise
        reason, fix = _reason(errors, repository, error)
        raise InputError(f"the data set {repository} {reason}", received=_endpoint(), fix=fix) from error


def _reason(errors: Any, repository: str, error: Any) -> tuple[str, str]:
    """Turn what the hub's client raised into what is wrong, and what to do."""
    page = f"{HUB}/datasets/{repository}"
    if isinstance(error, errors.GatedRepoError):
        return (
            "is gated, and this account has no access",
            f"accept its terms at {page}, and log in with `hf auth login`",
        )
    if isinstance(error, errors.RepositoryNotFoundError):
        return "is not there, or is private", f"look at {page}, or log in with `hf auth login`"
    missing = (errors.RevisionNotFoundError, errors.EntryNotFoundError)
    if isinstance(error, missing) and not isinstance(error, errors.LocalEntryNotFoundError):
        return "has no such commit or file", f"look at {page}"
    if isinstance(error, errors.HfHubHTTPError) and error.response is not None:
        return f"is refused with status {error.response.status_code}", "try again later"
    said = str(error).partition("\n")[0] or type(error).__name__
    return f"cannot be reached ({said})", "connect, and give the same command again; HF_ENDPOINT names a mirror"
