"""The frozen identity of an encoder: weights, preprocessing, pooling, precision, licence."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from ..provenance import digest

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

Resize = Literal["none", "squash", "shorter-side-crop"]
Interpolation = Literal["nearest", "bilinear", "bicubic", "lanczos"]
Pooling = Literal["cls", "mean", "cls+mean", "mean+max", "pooled", "image-features", "none"]
Precision = Literal["fp32", "fp16", "bf16"]
#: What weights were trained on: tissue, images of everyday things, or neither is known.
Domain = Literal["pathology", "general", "unknown"]


class Preprocessing(BaseModel):
    """What happens to a uint8 RGB tile before the weights see it, in this order: resize, crop, scale to 0-1, normalise.

    `resize`: `none` (any size is taken as it is), `squash` (both sides to `resize_px`, or to `input_px` if that is not
    given, then the centre `input_px` square), or `shorter-side-crop` (shorter side to `resize_px`, then the same crop).
    `mean` and `std` are per channel, on the 0-1 scale; None means that the encoder takes uint8 as it is.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    resize: Resize = "none"
    input_px: int | None = Field(default=None, gt=0)
    resize_px: int | None = Field(default=None, gt=0)
    interpolation: Interpolation = "bicubic"
    mean: tuple[float, float, float] | None = None
    std: tuple[float, float, float] | None = None

    @model_validator(mode="after")
    def _sizes_are_given(self) -> "Preprocessing":
        if self.resize != "none" and self.input_px is None:
            raise ValueError(f"resize={self.resize!r} needs input_px")
        if self.resize == "shorter-side-crop" and self.resize_px is None:
            raise ValueError("resize='shorter-side-crop' needs resize_px")
        if self.resize == "none" and (self.input_px, self.resize_px) != (None, None):
            raise ValueError("resize='none' takes tiles as they are: input_px and resize_px have no meaning")
        if self.input_px is not None and self.resize_px is not None and self.resize_px < self.input_px:
            raise ValueError(f"resize_px={self.resize_px} is smaller than input_px={self.input_px}")
        if (self.mean is None) != (self.std is None):
            raise ValueError("mean and std go together")
        return self

    @field_validator("std")
    @classmethod
    def _std_is_positive(cls, std: tuple[float, float, float] | None) -> tuple[float, float, float] | None:
        if std is not None and min(std) <= 0:
            raise ValueError(f"std must be positive, received {std}")
        return std


class EncoderCard(BaseModel):
    """Everything that decides what numbers an encoder returns, and what one may do with them.

    `identity` is the sha256 of the parts that decide the numbers. Two cards with the same identity give the same
    embedding up to the arithmetic of the machine.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    kind: Literal["timm", "hf", "onnx", "callable", "vectors", "folder", "toy"]
    source: str
    dim: int = Field(gt=0)
    preprocessing: Preprocessing = Preprocessing()
    pooling: Pooling = "none"
    precision: Precision = "fp32"
    revision: str
    weights_sha256: str | None = None
    domain: Domain = "unknown"
    licence: str = "unknown"
    gated: bool = False
    random_weights: bool = False
    settings: dict[str, str | int | float | bool] = {}
    golden: tuple[float, ...] | None = None
    notes: str = ""

    @property
    def identity(self) -> str:
        """Return the sha256 over source, revision, weights, preprocessing, pooling, precision and settings."""
        parts = {
            "kind",
            "source",
            "dim",
            "preprocessing",
            "pooling",
            "precision",
            "revision",
            "weights_sha256",
            "settings",
        }
        return digest(self.model_dump(mode="json", include=parts))
