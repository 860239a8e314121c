"""What an audit of the suite `standard` costs beside the bare forward passes that it needs, with ViT-S/16 at 224 px.

Each round times bare passes, an audit and bare passes again, since a machine is not as fast in one minute as in the
next; the figures are medians over rounds. Real tiles where HISTOLATENT_DATA names them, else the phantom's.
"""

import os
import statistics
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from _bench import seconds, start

from histolatent import Plan, audit_encoders, encoder, open_tiles
from histolatent._types import Tiles, Vectors
from histolatent.encoders.preprocess import prepare
from histolatent.encoders.torch_models import TorchEncoder
from histolatent.images import TileSource, default_workers, select_rows, spaced
from histolatent.perturb import SEVERITIES

VIT = "timm-random:vit_small_patch16_224"
#: Bare passes of a batch before an audit, and after it.
PASSES, BATCH = 6, 64
ROUNDS, VIT_TILES = {"quick": 3, "full": 7}, 24


def main() -> None:
    """Measure and write `results/overhead.json`."""
    bench = start("overhead", __doc__ or "")
    source = tiles()
    loaded, plan = encoder(VIT, device="cpu"), Plan(suite="standard", resamples=1000)
    assert isinstance(loaded, TorchEncoder)
    views = 1 + len(plan.operations) * len(SEVERITIES)
    ready = np.stack([prepare(source.read(row), loaded.card.preprocessing) for row in range(VIT_TILES)])
    batch = np.concatenate([ready] * (BATCH // VIT_TILES + 1))[:BATCH]
    loaded.forward(batch)
    rounds = []
    for number in range(ROUNDS[bench.mode]):
        rounds.append(one_round(source, loaded, plan, views, batch))
        figures = ", ".join(f"{key} {value:.3f}" for key, value in rounds[-1].items())
        print(f"round {number + 1}: {figures}", flush=True)
    bench.measured |= {"encoder": VIT, "source": source.name, "tiles": VIT_TILES, "views": views, "rounds": rounds}
    for what in ("embedding", "whole_audit"):
        each = sorted(entry[f"{what}_times"] for entry in rounds)
        reason = f"{len(each)} rounds, {each[0]:.3f} to {each[-1]:.3f}; {VIT_TILES} tiles"
        bench.check(f"{what}_times_bare_forwards", statistics.median(each), "<= 1.15", reason)
    over_views = statistics.median(entry["whole_audit_over_views"] for entry in rounds)
    reason = "without the passes of the contract and of covered patches, which do not grow with the tiles"
    bench.check("whole_audit_times_forwards_of_views", over_views, None, reason)
    bench.finish()


def tiles() -> TileSource:
    """Return tiles from all over a cohort."""
    data = os.environ.get("HISTOLATENT_DATA")
    whole = open_tiles(Path(data) / "oral_cancer" / "manifest.csv" if data else "phantom:sites=1,tile_px=224")
    return select_rows(whole, spaced(np.arange(len(whole.table)), VIT_TILES))


def one_round(source: TileSource, loaded: TorchEncoder, plan: Plan, views: int, batch: Tiles) -> dict[str, float]:
    """Return seconds, and how many times those of the bare passes they are."""
    counted = Counted(loaded.card, loaded.model, loaded.embed, loaded.device)
    found: dict[str, float] = {}

    def whole() -> None:
        found.update(audit_encoders(source, [counted], plan=plan, workers=default_workers()).seconds)

    passes = [seconds(lambda: loaded.forward(batch)) for _ in range(PASSES)]
    total = seconds(whole)
    passes += [seconds(lambda: loaded.forward(batch)) for _ in range(PASSES)]
    each = statistics.median(passes) / BATCH
    return {
        "embedding_times": found["total"] / (each * views * VIT_TILES),
        "whole_audit_times": total / (each * counted.tiles),
        "whole_audit_over_views": total / (each * views * VIT_TILES),
        "embedding_s": found["total"],
        "measures_s": found["measures"],
        "whole_s": total,
        "pass_s": each,
        "tiles_passed": counted.tiles,
        "perturbing_cpu_s": found["views"],
    }


@dataclass(frozen=True, eq=False)
class Counted(TorchEncoder):
    """An encoder that counts the tiles that pass through it: those of views, and those that are looked at closer."""

    passed: list[int] = field(default_factory=list)

    def forward(self, prepared: Tiles) -> Vectors:
        self.passed.append(len(prepared))
        return super().forward(prepared)

    @property
    def tiles(self) -> int:
        return sum(self.passed)


if __name__ == "__main__":
    main()
