"""Tiles, and a model hub cache with the true layout, filled with small random models."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def tiles() -> np.ndarray:
    """Five structured tiles: smooth gradients with noise, no two alike."""
    rng = np.random.default_rng(7)
    ramp = np.linspace(0, 1, 48)
    waves = [np.outer(np.sin(ramp * (3 + i)), np.cos(ramp * (5 - i))) for i in range(5)]
    planes = np.stack([np.stack([wave, wave**2, -wave], axis=-1) for wave in waves])
    return np.clip(planes * 90 + 128 + rng.normal(0, 12, planes.shape), 0, 255).astype(np.uint8)


@pytest.fixture
def hub_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of the Hugging Face hub, and a hub that cannot be reached."""
    folder = tmp_path / "hub"
    monkeypatch.setenv("HF_HUB_CACHE", str(folder))
    constants = pytest.importorskip("huggingface_hub.constants")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    return folder


@pytest.fixture
def cached(hub_cache: Path) -> Callable[..., Path]:
    """Return a function that puts a repository into the cache: blobs, snapshots with links, refs."""

    def put(repository: str, files: dict[str, bytes | dict | Path], *, commit: str = COMMIT, ref: str | None = "main"):
        folder = hub_cache / f"models--{repository.replace('/', '--')}"
        snapshot = folder / "snapshots" / commit
        snapshot.mkdir(parents=True)
        (folder / "blobs").mkdir()
        for number, (name, content) in enumerate(files.items()):
            blob = folder / "blobs" / f"{number:064x}"
            if isinstance(content, Path):
                blob.write_bytes(content.read_bytes())
            else:
                blob.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
            (snapshot / name).symlink_to(Path("..") / ".." / "blobs" / blob.name)
        if ref is not None:
            (folder / "refs").mkdir()
            (folder / "refs" / ref).write_text(commit)
        return snapshot

    return put
