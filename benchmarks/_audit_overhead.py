"""An audit against the forward passes that it needs. Apart from the others, because it loads torch, whose memory they
would count."""

import statistics
from dataclasses import dataclass, field

import numpy as np
from _bench import Bench, seconds

from histolatent import Plan, audit_encoders, encoder
from histolatent._types import Tiles, Vectors
from histolatent.encoders.preprocess import prepare
from histolatent.encoders.torch_models import TorchEncoder
from histolatent.images import default_workers, select_rows
from histolatent.perturb import SEVERITIES

VIT = "timm-random:vit_small_patch16_224"
#: Bare passes before the audit, and after it.
PASSES = 6
VIT_TILES = {"quick": 24, "full": 72}


def check_overhead(bench: Bench, source) -> None:
    """Time an audit of the suite `standard` against the forward passes that it needs, and where the rest goes."""
    count = VIT_TILES[bench.mode]
    some = select_rows(source, np.linspace(0, len(source.table) - 1, count).astype(int))
    loaded, plan = encoder(VIT, device="cpu"), Plan(suite="standard", resamples=1000)
    assert isinstance(loaded, TorchEncoder)
    counted = Counted(loaded.card, loaded.model, loaded.embed, loaded.device)
    views = 1 + len(plan.operations) * len(SEVERITIES)
    tiles = np.stack([some.read(i) for i in range(count)])
    ready = np.stack([prepare(tile, loaded.card.preprocessing) for tile in tiles])
    batch = np.concatenate([ready] * (64 // count + 1))[:64]
    loaded.forward(batch)
    passes = [seconds(lambda: loaded.forward(batch)) for _ in range(PASSES)]
    found: dict[str, float] = {}

    def whole() -> None:
        found.update(audit_encoders(some, [counted], plan=plan, workers=default_workers()).seconds)

    total = seconds(whole)
    passes += [seconds(lambda: loaded.forward(batch)) for _ in range(PASSES)]
    # Half of them before and half after, since a machine is not as fast in one minute as in the next.
    each = statistics.median(passes) / 64
    embedding, needed = each * views * count, each * counted.tiles
    bench.measured["overhead"] = {
        "encoder": VIT,
        "tiles": count,
        "views": views,
        "tiles_passed": counted.tiles,
        "embedding_alone_s": embedding,
        "forward_alone_s": needed,
        "embedding_s": found["total"],
        "measures_s": found["measures"],
        "whole_s": total,
        "forward_passes_of_64_s": passes,
    }
    bench.check(
        "embedding_times_bare_forwards", found["total"] / embedding, "<= 1.15", "suite standard, ViT-S/16, 224 px"
    )
    reason = (
        f"{count} tiles; of {counted.tiles} passes {views * count} are of views, the others look closer at a few tiles"
    )
    bench.check("whole_audit_times_bare_forwards", total / needed, "<= 1.15", reason)


@dataclass(frozen=True, eq=False)
class Counted(TorchEncoder):
    """An encoder that counts the tiles that pass through it."""

    passed: list[int] = field(default_factory=list)

    def forward(self, prepared: Tiles) -> Vectors:
        self.passed.append(len(prepared))
        return super().forward(prepared)

    @property
    def tiles(self) -> int:
        return sum(self.passed)
