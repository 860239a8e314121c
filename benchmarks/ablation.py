"""What each part of the preset `demo` is worth: variants of it on the phantom, read at the sites that nothing saw.

`--quick` takes one seed and two variants (about fifteen minutes on two cores), `--full` three seeds and all of VARIANTS
(about three hours). Cells are kept in the folder that HISTOLATENT_CELLS names, and not trained again.
"""

import os
import tempfile
from pathlib import Path

from _bench import start

from histolatent import open_tiles
from histolatent.benchmark.ablate import PRESET, run_ablation, summarise
from histolatent.benchmark.cohort import SOURCE
from histolatent.compact.plan import CompactionPlan
from histolatent.images import cores, keep_tiles

QUICK = ("no loss", "no reconstruction")
VARIANTS = (
    *QUICK,
    "no whitening",
    "with adversary",
    "barlow",
    "infonce",
    "ratio",
    "4 views",
    "fixed prior",
    "stain states only",
    "strength 1.5",
)


def main() -> None:
    """Measure and write `results/ablation.json`."""
    bench = start("ablation", __doc__ or "")
    full = bench.mode == "full"
    with tempfile.TemporaryDirectory() as folder:
        cells = run_ablation(
            keep_tiles(open_tiles("phantom:sites=5"), Path(folder), workers=cores()),
            CompactionPlan.read("demo"),
            Path(os.environ.get("HISTOLATENT_CELLS", folder)),
            variants=VARIANTS if full else QUICK,
            seeds=range(3 if full else 1),
            train_site=SOURCE,
            workers=max(1, cores() - 1),
            progress=lambda what, done, total: print(f"{done} of {total}: {what}", flush=True),
        )
    table = summarise(cells)
    bench.measured["table"] = {str(name): row.dropna().to_dict() for name, row in table.iterrows()}
    for name, row in table.iterrows():
        if name != PRESET:
            said = f"95 % {row['unseen_change']:.3f} [{row['unseen_low']:.3f}, {row['unseen_high']:.3f}]"
            bench.check(f"{name}: unseen, against the plan", row["unseen_change"], None, said)
    bench.finish()


if __name__ == "__main__":
    main()
