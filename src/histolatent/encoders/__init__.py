"""Pixels to vectors: one noun, `Encoder`, with a frozen card that says everything that decides its numbers."""

from .batches import encode, forward_checked, prepare_many
from .card import EncoderCard, Preprocessing
from .catalogue import CatalogueEntry, catalogue, in_cache
from .contract import ContractCheck, check_contract, explain_vectors
from .dense import encode_dense, encode_levels
from .export import export_onnx
from .folder import save_encoder, verify
from .load import encoder
from .preprocess import prepare
from .protocol import Encoder
from .toys import TOYS

__all__ = [
    "TOYS",
    "CatalogueEntry",
    "ContractCheck",
    "Encoder",
    "EncoderCard",
    "Preprocessing",
    "catalogue",
    "check_contract",
    "encode",
    "encode_dense",
    "encode_levels",
    "encoder",
    "explain_vectors",
    "export_onnx",
    "forward_checked",
    "in_cache",
    "prepare",
    "prepare_many",
    "save_encoder",
    "verify",
]
