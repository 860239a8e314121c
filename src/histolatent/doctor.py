"""What this machine can and cannot do, each with the fix."""

import importlib
import importlib.util
import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from .provenance import version

Status = Literal["PASS", "WARN", "FAIL"]

#: What each extra needs, as import names.
EXTRAS = {
    "encoders": ("torch", "torchvision", "timm", "transformers", "huggingface_hub", "safetensors", "onnxruntime"),
    "compact": ("lightning_fabric", "tensorboardX"),
    "export": ("onnx", "onnxscript"),
    "slides": ("openslide", "tiffslide"),
    "explore": ("faiss", "umap", "openTSNE", "pacmap", "ot", "imageio"),
    "ray": ("ray",),
}


@dataclass(frozen=True)
class Diagnosis:
    """One thing that was looked at. `fix` is what to do about it, empty for PASS."""

    name: str
    status: Status
    says: str
    fix: str = ""


def diagnose(folder: str | os.PathLike[str] = ".") -> list[Diagnosis]:
    """Look at Python, libraries, extras, codecs, the accelerator, memory, disk and the hub's cache.

    Nothing outside this machine is contacted. A FAIL means that a part of histolatent will not work; a WARN that it
    will be slow, or that an extra is not installed.
    """
    looks: list[Callable[[], Diagnosis]] = [
        _python,
        _core,
        _codecs,
        _tables,
        *[lambda extra=extra: _extra(extra) for extra in EXTRAS],
        _torch,
        _memory,
        lambda: _disk(Path(folder)),
        _hub,
    ]
    return [look() for look in looks]


def _python() -> Diagnosis:
    says = f"Python {platform.python_version()}, histolatent {version()}, {os.cpu_count()} cores"
    if sys.version_info >= (3, 14):
        return Diagnosis("python", "WARN", says, "tested with Python 3.11, 3.12 and 3.13")
    return Diagnosis("python", "PASS", says)


def _core() -> Diagnosis:
    for name in (
        "numpy",
        "scipy",
        "sklearn",
        "pandas",
        "anndata",
        "zarr",
        "cv2",
        "PIL",
        "matplotlib",
        "pyarrow",
        "h5py",
    ):
        try:
            importlib.import_module(name)
        except ImportError as error:
            return Diagnosis(
                "core libraries", "FAIL", f"{name} does not import: {error}", "pip install --upgrade histolatent"
            )
    return Diagnosis("core libraries", "PASS", "all import")


def _codecs() -> Diagnosis:
    from PIL import features

    wanted = {"jpg": "JPEG", "jpg_2000": "JPEG 2000", "libtiff": "TIFF", "zlib": "PNG"}
    missing = [title for codec, title in wanted.items() if not features.check_codec(codec)]
    missing += [] if features.check_module("webp") else ["WebP"]
    if missing:
        return Diagnosis(
            "image formats", "WARN", f"Pillow reads no {', '.join(missing)}", "pip install --upgrade pillow"
        )
    return Diagnosis("image formats", "PASS", "PNG, JPEG, TIFF, JPEG 2000, WebP")


def _tables() -> Diagnosis:
    import numpy as np
    import pandas as pd

    from .embeddings import make_table, read_table, write_table

    name, fix = "embedding tables", "pip install --upgrade anndata zarr"
    try:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "table.zarr"
            write_table(make_table(np.ones((2, 3), np.float32), pd.DataFrame(index=pd.Index(["a", "b"])), {}), path)
            same = bool((np.asarray(read_table(path).X) == 1).all())
    except Exception as error:  # noqa: BLE001  whatever breaks here is what is looked for
        return Diagnosis(name, "FAIL", f"a table cannot be written and read: {error}", fix)
    if not same:
        return Diagnosis(name, "FAIL", "a table came back changed", fix)
    return Diagnosis(name, "PASS", "written and read back")


def _extra(extra: str) -> Diagnosis:
    missing = [name for name in EXTRAS[extra] if importlib.util.find_spec(name) is None]
    if missing:
        says = f"not installed: {', '.join(missing)}"
        return Diagnosis(f"extra [{extra}]", "WARN", says, f"pip install 'histolatent[{extra}]', if you need it")
    return Diagnosis(f"extra [{extra}]", "PASS", "installed")


def _torch() -> Diagnosis:
    if importlib.util.find_spec("torch") is None:
        return Diagnosis("accelerator", "WARN", "torch is not installed", "pip install 'histolatent[encoders]'")
    try:
        torch = importlib.import_module("torch")
    except (ImportError, OSError) as error:
        return Diagnosis(
            "accelerator", "FAIL", f"torch does not import: {error}", "pip install --force-reinstall torch torchvision"
        )
    try:
        importlib.import_module("torchvision.ops")
    except (ImportError, RuntimeError, OSError) as error:
        return Diagnosis(
            "accelerator",
            "FAIL",
            f"torchvision does not match torch {torch.__version__}: {error}",
            "install both from the same index: pip install --force-reinstall torch torchvision",
        )
    if torch.cuda.is_available():
        free = torch.cuda.mem_get_info()[0] / 2**30
        return Diagnosis(
            "accelerator", "PASS", f"{torch.cuda.get_device_name()}, {free:.0f} GiB free, torch {torch.__version__}"
        )
    if torch.backends.mps.is_available():
        return Diagnosis("accelerator", "PASS", f"Apple GPU, torch {torch.__version__}")
    says = f"no GPU, torch {torch.__version__} uses {torch.get_num_threads()} threads"
    return Diagnosis("accelerator", "WARN", says, "large encoders are slow here: audit fewer tiles with --max-tiles")


def _memory() -> Diagnosis:
    if not hasattr(os, "sysconf") or "SC_PHYS_PAGES" not in os.sysconf_names:
        return Diagnosis("memory", "PASS", "not known on this system")
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
    if total < 6:
        return Diagnosis("memory", "WARN", f"{total:.0f} GiB", "pass --workers 1 and a smaller --batch-size")
    return Diagnosis("memory", "PASS", f"{total:.0f} GiB")


def _disk(folder: Path) -> Diagnosis:
    try:
        free = shutil.disk_usage(folder).free / 2**30
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        return Diagnosis("disk", "FAIL", f"{folder.resolve()} cannot be written to: {error}", "work in another folder")
    if free < 5:
        return Diagnosis(
            "disk", "WARN", f"{free:.1f} GiB free here", "free space: an audit keeps all embeddings while it runs"
        )
    return Diagnosis("disk", "PASS", f"{free:.0f} GiB free here")


def _hub() -> Diagnosis:
    if importlib.util.find_spec("huggingface_hub") is None:
        return Diagnosis("model hub", "WARN", "huggingface_hub is not installed", "pip install 'histolatent[encoders]'")
    from huggingface_hub import constants, get_token

    cache = Path(constants.HF_HUB_CACHE)
    count = len(list(cache.glob("models--*"))) if cache.is_dir() else 0
    models = f"{count} model{'' if count == 1 else 's'} in the cache"
    if get_token() is None:
        fix = "for gated encoders: accept the licence on the model's page, then hf auth login"
        return Diagnosis("model hub", "WARN", f"{models}, not logged in", fix)
    return Diagnosis("model hub", "PASS", f"{models}, logged in")
