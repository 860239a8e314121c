"""Audit and compact the latent spaces of histopathology encoders.

Names are loaded when they are first used, so that importing the package is fast and needs no torch.
"""

from typing import TYPE_CHECKING

from ._lazy import lazy_names

if TYPE_CHECKING:
    from .audit import AuditResult, Pairs, Plan, Policy, audit_encoders, audit_pairs
    from .compact.compactor import Compactor
    from .embeddings import card_of, make_table, read_table, write_table
    from .encoders import (
        Encoder,
        EncoderCard,
        Preprocessing,
        encode,
        encode_dense,
        encoder,
        export_onnx,
        prepare,
        save_encoder,
    )
    from .encoders.embed import embed
    from .errors import HistolatentError
    from .images import TileSource, decode, open_tiles
    from .images.phantom import PhantomSpec, PhantomTiles, write_phantom
    from .perturb import OPERATIONS
    from .report import write_report, write_training

__all__ = [
    "OPERATIONS",
    "AuditResult",
    "Compactor",
    "Encoder",
    "EncoderCard",
    "HistolatentError",
    "Pairs",
    "PhantomSpec",
    "PhantomTiles",
    "Plan",
    "Policy",
    "Preprocessing",
    "TileSource",
    "audit_encoders",
    "audit_pairs",
    "card_of",
    "decode",
    "embed",
    "encode",
    "encode_dense",
    "encoder",
    "export_onnx",
    "make_table",
    "open_tiles",
    "prepare",
    "read_table",
    "save_encoder",
    "write_phantom",
    "write_report",
    "write_table",
    "write_training",
]


_load = lazy_names(
    __name__,
    {
        "audit": ("AuditResult", "Pairs", "Plan", "Policy", "audit_encoders", "audit_pairs"),
        "compact.compactor": ("Compactor",),
        "embeddings": ("card_of", "make_table", "read_table", "write_table"),
        "encoders": (
            "Encoder",
            "EncoderCard",
            "Preprocessing",
            "encode",
            "encode_dense",
            "encoder",
            "export_onnx",
            "prepare",
            "save_encoder",
        ),
        "encoders.embed": ("embed",),
        "errors": ("HistolatentError",),
        "images": ("TileSource", "decode", "open_tiles"),
        "images.phantom": ("PhantomSpec", "PhantomTiles", "write_phantom"),
        "perturb": ("OPERATIONS",),
        "report": ("write_report", "write_training"),
    },
)


def __getattr__(name: str) -> object:
    if name == "__version__":
        from .provenance import version

        return version()
    return _load(name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
