"""What a training run does, as numbers and names: a TOML file, checked. Imports nothing heavy."""

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from ..training.plans import Count, Part, Plan, Positive, Share, Weight

LossName = Literal["barlow", "infonce", "vicreg", "ratio"]


class StatePlan(Part):
    """Which states of its stain manifold a tile is seen under.

    - `kind`: states of the `manifold`, or an augmentation in their place: `hed-light`, `hed-strong`, `randstainna`.
      It has no coordinates, so that neither an adversary nor a last map goes with it, and it has no strength.
    - `views`: how many of each tile meet in a step.
    - `prior`: `fitted` to how the slides of the source differ, or `fixed`.
    - `strength`: the prior's standard deviations are multiplied by it; 0 shows tiles as they are.
    - `parts`: `stain`, `camera`, or both.
    - `batches`: virtual laboratories that states come from; `between`: their share of the variance.
    - `render`: in `workers`, processes beside the one that trains, or on the `device` that trains (but for JPEG).
    """

    kind: Literal["manifold", "hed-light", "hed-strong", "randstainna"] = "manifold"
    views: Annotated[int, Field(ge=2, le=16, strict=True)] = 2
    prior: Literal["fitted", "fixed"] = "fitted"
    strength: Weight = 1.0
    parts: tuple[Literal["stain", "camera"], ...] = ("stain", "camera")
    batches: Annotated[int, Field(ge=2, strict=True)] = 16
    between: Share = 0.5
    render: Literal["workers", "device"] = "workers"


class ObjectivePlan(Part):
    """What is minimised: each part has a weight, and 0 takes it out.

    `reconstruction` is of the amounts of hematoxylin and eosin from the map of features; `adversary` is of a network
    that tells the virtual laboratory and the state from the embedding, behind gradient reversal. With `neighbours`,
    each tile meets one beside it on its slide, and all views of both are drawn together: for tissue that goes on from
    tile to tile, never where what matters is smaller than a tile.
    """

    loss: LossName = "barlow"
    compaction: Weight = 1.0
    reconstruction: Weight = 1.0
    adversary: Weight = 0.0
    neighbours: bool = False

    @model_validator(mode="after")
    def _asks_for_something(self) -> "ObjectivePlan":
        if self.compaction == 0 and self.reconstruction == 0:
            raise ValueError("compaction and reconstruction are both 0: nothing would be learnt")
        return self


class TrainingPlan(Part):
    """How it is minimised.

    `steps` count batches: a run takes as long whatever the number of tiles. `batch_size` counts tiles; `micro_batch` is
    how many of them are handled at a time, which is exact but for batch normalisation. `held_out` is the share of
    tiles, by whole patients or slides, that is not trained on; every `check_every` steps the embedding of these is
    looked at, and a checkpoint written. After `patience` checks at which no more of them find themselves again,
    training ends, and the weights are those of the best check. With `ema`, they are a running mean in which so large a
    share is of older ones (0.99: of about 100 steps).
    """

    steps: Count = 2000
    batch_size: Annotated[int, Field(ge=4, strict=True)] = 128
    micro_batch: Count | None = None
    learning_rate: Positive = 2e-3
    weight_decay: Weight = 1e-4
    warmup: Share = 0.05
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    held_out: Annotated[float, Field(gt=0, lt=0.5, strict=True)] = 0.15
    check_every: Count = 200
    patience: Count | None = None
    ema: Annotated[float, Field(ge=0, lt=1, strict=True)] = 0.0


class CompactionPlan(Plan):
    """A training run of kind `encoder`, but for its tiles.

    `backbone` is `conv-small` or `timm:NAME`. Tiles are brought to `input_px` a side before all else, in training and
    by the trained encoder (0: they are taken as they are); `tile_px` is the side of the random crop that is trained on
    (None: whole tiles). For the share `same_place` of the tiles all views have one crop, turn and mirror; for the
    others each has its own, so that what tissue it is counts for more than which tile. `pooling` is that of the trained
    network: its `own`, which it is trained with, or `mean+max`, the largest over places beside their mean. Vectors are
    whitened by how states move them: `whiten` is the share of the identity in that, 0 leaves them as they are. Then
    directions go of which more than the share `remove_above` of the variance is that of states; 1 keeps all.
    """

    package: ClassVar[str] = "histolatent.compact"
    presets: ClassVar[tuple[str, ...]] = ("demo", "small", "wsi")

    about: Mapping[str, str] = {}
    backbone: str = "conv-small"
    input_px: Annotated[int, Field(ge=0, strict=True)] = 0
    tile_px: Annotated[int, Field(ge=32, strict=True)] | None = None
    projector: Count = 512
    same_place: Share = 0.25
    pooling: Literal["own", "mean+max"] = "own"
    whiten: Weight = 0.3
    remove_above: Share = 1.0
    states: StatePlan = StatePlan()
    objective: ObjectivePlan = ObjectivePlan()
    training: TrainingPlan = TrainingPlan()

    @field_validator("backbone")
    @classmethod
    def _is_a_backbone(cls, name: str) -> str:
        if name != "conv-small" and not name.startswith("timm:"):
            raise ValueError(f"there is no such backbone as {name}; valid are conv-small and timm:NAME")
        return name

    @model_validator(mode="after")
    def _augmentations_have_no_coordinates(self) -> "CompactionPlan":
        if self.states.kind != "manifold":
            wrong = {
                "objective.adversary": self.objective.adversary > 0,
                "whiten": self.whiten > 0,
                "remove_above": self.remove_above < 1,
                "states.render": self.states.render == "device",
            }
            named = [name for name, is_wrong in wrong.items() if is_wrong]
            if named:
                raise ValueError(f"states.kind {self.states.kind} does not go with {', '.join(named)}")
        return self

    @property
    def has_last_map(self) -> bool:
        """Whether vectors of the trained network are changed at all."""
        return self.whiten > 0 or self.remove_above < 1
