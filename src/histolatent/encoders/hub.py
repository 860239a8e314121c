"""The Hugging Face hub and its local cache: a commit for each download, and a sentence for each refusal."""

import contextlib
import errno
import os
import re
from pathlib import Path

from ..errors import EncoderError, OptionError, require

SAFE, PICKLED = "model.safetensors", "pytorch_model.bin"
WEIGHTS = (SAFE, "model.safetensors.index.json", PICKLED)
HUB = "https://huggingface.co"
TIMEOUT_S = 20
_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS)
_COMMIT = re.compile(r"[0-9a-f]{40}")
_REPOSITORY = re.compile(r"[\w.-]+/[\w.-]+")


def cache_folder() -> Path:
    """Return the folder of the local cache, from HF_HUB_CACHE, HF_HOME or the default, read at each call."""
    for variable in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        if os.environ.get(variable):
            return Path(os.environ[variable]).expanduser()
    home = os.environ.get("HF_HOME")
    if home:
        return Path(home).expanduser() / "hub"
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "huggingface" / "hub"


def repository_folder(repository: str) -> Path:
    """Return where the cache keeps a repository, whether or not it is there.

    >>> repository_folder("owkin/phikon").name
    'models--owkin--phikon'
    """
    return cache_folder() / f"models--{repository.replace('/', '--')}"


def has_weights(repository: str) -> bool:
    """Say whether any snapshot of a repository in the cache holds a weights file."""
    snapshots = repository_folder(repository) / "snapshots"
    return any(path.exists() for name in WEIGHTS for path in snapshots.glob(f"*/{name}"))


def cached_commit(repository: str, revision: str = "main") -> str | None:
    """Return the commit that the local cache knows for a branch or tag."""
    try:
        commit = (repository_folder(repository) / "refs" / revision).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        return None
    return commit if _COMMIT.fullmatch(commit) else None


def resolve_commit(repository: str, revision: str | None = None, *, gated: bool = False) -> str:
    """Return the commit hash of a repository: as given, else as the local cache knows it, else as the hub says.

    The cache comes first, so that a run does not change under one's hands; name a newer commit to move on.

    Raises
    ------
    EncoderError
        If it cannot be had: no revision, no embedding.

    >>> resolve_commit("owkin/phikon", "05266cbdde00f8b81d9e9beb9b3e0dc56b8a3ab3")
    '05266cbdde00f8b81d9e9beb9b3e0dc56b8a3ab3'
    """
    if not _REPOSITORY.fullmatch(repository):
        raise OptionError("this is not a repository of the hub", received=repr(repository), valid="organisation/name")
    if revision and _COMMIT.fullmatch(revision):
        return revision
    known = cached_commit(repository, revision or "main")
    if known:
        return known
    hub = require("huggingface_hub", "encoders")
    try:
        answer = hub.HfApi().model_info(repository, revision=revision, timeout=TIMEOUT_S).sha
    except _network_errors() as error:
        raise _refusal(repository, revision, error, gated=gated) from error
    if not answer:
        raise EncoderError(f"the hub names no commit for {repository}", fix=f"hf:{repository}@COMMIT")
    _remember(repository, revision or "main", answer)
    return answer


def fetch(repository: str, filename: str, commit: str, *, gated: bool = False) -> Path | None:
    """Return a file of a repository at a commit, from the local cache or downloaded into it; None if it has none.

    Downloads show huggingface_hub's progress and resume where they stopped.
    """
    cached = repository_folder(repository) / "snapshots" / commit / filename
    if cached.exists():
        return cached
    if (repository_folder(repository) / ".no_exist" / commit / filename).exists():
        return None
    hub = require("huggingface_hub", "encoders")
    try:
        return Path(hub.hf_hub_download(repository, filename, revision=commit, cache_dir=cache_folder()))
    except _network_errors() as error:
        absent, unknown = hub.errors.EntryNotFoundError, hub.errors.LocalEntryNotFoundError
        if isinstance(error, absent) and not isinstance(error, unknown):
            return None
        raise _refusal(repository, commit, error, gated=gated) from error


def fetch_weights(repository: str, commit: str, names: tuple[str, ...] = WEIGHTS, *, gated: bool = False) -> Path:
    """Return the first weights file that a repository has at a commit: what the cache holds, else in order of `names`.

    Raises
    ------
    EncoderError
        If there is none, or it cannot be had.
    """
    snapshot = repository_folder(repository) / "snapshots" / commit
    for name in names:
        if (snapshot / name).exists():
            return snapshot / name
    for name in names:
        found = fetch(repository, name, commit, gated=gated)
        if found is not None:
            return found
    raise EncoderError(
        f"{repository} holds no weights that can be loaded safely",
        received=f"commit {commit}",
        valid=" or ".join(names),
        fix=_local_hint(repository),
    )


def fetch_code(repository: str, commit: str, *, gated: bool = False) -> None:
    """Bring the Python files of a repository at a commit into the local cache."""
    hub = require("huggingface_hub", "encoders")
    try:
        hub.snapshot_download(repository, revision=commit, allow_patterns=["*.py"], cache_dir=cache_folder())
    except _network_errors() as error:
        raise _refusal(repository, commit, error, gated=gated) from error


def _remember(repository: str, revision: str, commit: str) -> None:
    """Note in the cache which commit a branch was, as huggingface_hub does, so that the next run works offline."""
    reference = repository_folder(repository) / "refs" / revision
    with contextlib.suppress(OSError):  # a cache that cannot be written is no reason to stop here
        reference.parent.mkdir(parents=True, exist_ok=True)
        reference.write_text(commit, encoding="utf-8")


def _refusal(repository: str, revision: str | None, error: Exception, *, gated: bool) -> EncoderError:
    """Turn what the hub's client raised into a sentence on how to get access, or to do without."""
    from huggingface_hub import errors

    access = f"accept its licence at {HUB}/{repository}, log in with `hf auth login`, and load it again"
    if isinstance(error, errors.GatedRepoError):
        return EncoderError(
            f"{repository} is gated, and this account has no access to it", fix=f"{access}; {_local_hint(repository)}"
        )
    if isinstance(error, errors.RevisionNotFoundError):
        return EncoderError(f"{repository} has no revision {revision!r}", fix=f"pick one at {HUB}/{repository}/commits")
    if isinstance(error, errors.RepositoryNotFoundError):
        return EncoderError(
            f"the hub has no model {repository!r}, or it is private",
            fix=f"correct the name, or log in with `hf auth login`; {_local_hint(repository)}",
        )
    if isinstance(error, OSError) and error.errno in _DISK:
        return EncoderError(
            f"the model cache cannot be written: {os.strerror(error.errno)}",
            received=cache_folder(),
            fix="free space, or set HF_HUB_CACHE to another folder",
        )
    if isinstance(error, errors.HfHubHTTPError) and error.response is not None:
        reason = f"the hub refused {repository} with status {error.response.status_code}"
        return EncoderError(reason, fix=f"try again later; {_local_hint(repository)}")
    return EncoderError(
        f"the hub cannot be reached, and the local cache does not hold {repository}",
        received=cache_folder(),
        fix=f"connect, then {access if gated else 'load it again'}; {_local_hint(repository)}",
    )


def _local_hint(repository: str) -> str:
    organisation, _, name = repository.partition("/")
    source = f"timm:{name}" if organisation == "timm" else f"hf:{repository}"
    return f"or point at local weights: {source}?weights=/path/to/{SAFE}"


def _network_errors() -> tuple[type[Exception], ...]:
    """Return what the hub's client may raise: its own errors, and those of the HTTP library that they derive from."""
    from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError

    library = (base for base in HfHubHTTPError.__bases__ if issubclass(base, Exception))
    return (OSError, EntryNotFoundError, *library)
