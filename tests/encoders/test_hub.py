"""Commits, files and refusals of the model hub, without the hub."""

import os

import pytest

pytest.importorskip("huggingface_hub")

from huggingface_hub import HfApi, constants, errors

from histolatent.encoders import encoder, hub
from histolatent.errors import EncoderError, OptionError

COMMIT = "0123456789abcdef0123456789abcdef01234567"  # what the fixture `cached` puts there
OTHER = "f" * 40


class Response:
    """What an error of the hub's client needs to know of an answer."""

    status_code = 503
    headers: dict[str, str] = {}  # noqa: RUF012
    request = None


def refusing(kind, monkeypatch):
    """Let the hub refuse with an error of one kind."""
    error = kind("no", response=Response()) if issubclass(kind, errors.HfHubHTTPError) else kind("no")

    def refuse(*args, **options):
        raise error

    monkeypatch.setattr(HfApi, "model_info", refuse)
    monkeypatch.setattr("huggingface_hub.hf_hub_download", refuse)


def test_a_whole_commit_needs_nobody(hub_cache):
    assert hub.resolve_commit("a/b", OTHER) == OTHER


def test_the_cache_knows_commits(cached):
    cached("a/b", {"config.json": {}})
    assert hub.resolve_commit("a/b") == COMMIT
    assert hub.resolve_commit("a/b", "main") == COMMIT
    with pytest.raises(EncoderError, match=r"cannot be reached"):
        hub.resolve_commit("a/b", "v2")


def test_the_answer_of_the_hub_is_remembered(hub_cache, monkeypatch):
    class Info:
        sha = OTHER

    monkeypatch.setattr(HfApi, "model_info", lambda self, repository, **options: Info)
    assert hub.resolve_commit("a/b") == OTHER
    refusing(errors.OfflineModeIsEnabled, monkeypatch)
    assert hub.resolve_commit("a/b") == OTHER
    assert (hub_cache / "models--a--b" / "refs" / "main").read_text() == OTHER


def test_files_come_from_the_cache(cached):
    snapshot = cached("a/b", {"config.json": {}, "pytorch_model.bin": b"x"})
    assert hub.fetch("a/b", "config.json", COMMIT) == snapshot / "config.json"
    assert hub.fetch_weights("a/b", COMMIT) == snapshot / "pytorch_model.bin"
    (snapshot.parents[1] / ".no_exist" / COMMIT).mkdir(parents=True)
    (snapshot.parents[1] / ".no_exist" / COMMIT / "model.safetensors").touch()
    assert hub.fetch("a/b", "model.safetensors", COMMIT) is None


def test_a_file_that_the_hub_does_not_have_is_none(hub_cache, monkeypatch):
    refusing(getattr(errors, "RemoteEntryNotFoundError", errors.EntryNotFoundError), monkeypatch)
    assert hub.fetch("a/b", "config.json", COMMIT) is None
    with pytest.raises(EncoderError, match=r"a/b holds no weights that can be loaded safely.*\?weights="):
        hub.fetch_weights("a/b", COMMIT)


@pytest.mark.parametrize(
    ("kind", "says"),
    [
        (
            errors.GatedRepoError,
            "MahmoodLab/UNI2-h is gated, and this account has no access to it. Fix: accept its licence at "
            "https://huggingface.co/MahmoodLab/UNI2-h, log in with `hf auth login`, and load it again; "
            "or point at local weights: hf:MahmoodLab/UNI2-h?weights=/path/to/model.safetensors",
        ),
        (
            errors.RepositoryNotFoundError,
            "the hub has no model 'MahmoodLab/UNI2-h', or it is private. Fix: correct the name, or log in with",
        ),
        (errors.RevisionNotFoundError, "MahmoodLab/UNI2-h has no revision None. Fix: pick one at https://"),
        (errors.HfHubHTTPError, "the hub refused MahmoodLab/UNI2-h with status 503. Fix: try again later"),
        (errors.OfflineModeIsEnabled, "the hub cannot be reached, and the local cache does not hold MahmoodLab/UNI2-h"),
        (errors.LocalEntryNotFoundError, "the hub cannot be reached"),
        (ConnectionError, "Fix: connect, then accept its licence at https://huggingface.co/MahmoodLab/UNI2-h"),
    ],
)
def test_refusals_say_how_to_get_access_or_do_without(hub_cache, monkeypatch, kind, says):
    refusing(kind, monkeypatch)
    pytest.importorskip("timm")
    with pytest.raises(EncoderError) as caught:
        encoder("uni2-h")
    assert says in str(caught.value)
    with pytest.raises(EncoderError):
        encoder(f"uni2-h@{OTHER}")


def test_a_full_disk_is_not_a_missing_hub(hub_cache, monkeypatch):
    def refuse(*args, **options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("huggingface_hub.hf_hub_download", refuse)
    with pytest.raises(EncoderError, match=r"the model cache cannot be written: No space left"):
        hub.fetch("a/b", "config.json", COMMIT)


def test_a_hub_that_is_really_not_there(hub_cache, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr("huggingface_hub.hf_api.api.endpoint", "http://127.0.0.1:9")
    monkeypatch.setattr(hub, "TIMEOUT_S", 1)
    with pytest.raises(EncoderError, match=r"the hub cannot be reached"):
        hub.resolve_commit("owkin/no-such-model")


def test_a_name_that_is_no_repository_is_said():
    with pytest.raises(OptionError, match=r"not a repository of the hub. Received: 'phikon'"):
        hub.resolve_commit("phikon")


def test_the_cache_folder_follows_the_environment(monkeypatch, tmp_path):
    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    assert hub.cache_folder().parts[-3:] == (".cache", "huggingface", "hub")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "x"))
    assert hub.cache_folder() == tmp_path / "x" / "huggingface" / "hub"
    monkeypatch.setenv("HF_HOME", str(tmp_path / "h"))
    assert hub.cache_folder() == tmp_path / "h" / "hub"
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "c"))
    assert hub.cache_folder() == tmp_path / "c"
    assert os.environ["HF_HOME"]
