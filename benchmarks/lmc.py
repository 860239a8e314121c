"""Training an encoder on one site, read at sites that it did not see: the preset `demo`.

The phantom is trained on at its source, and read at a scanner-only change, a new staining, a faded and a blue one; none
is a state of the stain manifold. With `--full`, tiles of osteosarcoma and of oral cancer too (HISTOLATENT_DATA), some
patients of which are kept out of training and read as virtual sites render them. The plan stands beside the same one
without states, and without the compaction loss; on osteosarcoma, beside other strengths of the states.

`--quick` takes one seed of the phantom (about ten minutes on two cores), `--full` five, and every patient of the real
tiles (about three hours). Cells are kept in the folder that HISTOLATENT_CELLS names, and not trained again.
"""

import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from _bench import Bench, start

from histolatent import encoder, open_tiles
from histolatent.benchmark.ablate import (
    PRESET,
    Cell,
    difference,
    of_variant,
    paired,
    run_ablation,
    summarise,
    value_of,
)
from histolatent.benchmark.unseen import SOURCE
from histolatent.compact.checker import Checker
from histolatent.compact.frozen import slides_of
from histolatent.compact.plan import CompactionPlan
from histolatent.compact.saving import read_provenance
from histolatent.compact.states import StateViews
from histolatent.images import Cut, TileSource, cores, keep_tiles
from histolatent.stain.manifold import StainManifold
from histolatent.stats import Estimate, bootstrap

#: The same network without compaction, and without what draws states together.
PLAIN, NO_LOSS = "no states", "no compaction"
#: Tiles of the source's protocol that nothing was trained on, to find each again among the others.
TWINS = 1000
FRESH = f"phantom:sites=1,tiles_per_site={TWINS},seed=1"
STRENGTHS = ("strength 0.5", "strength 1", "strength 2")


@dataclass(frozen=True)
class Part:
    """A cohort, what the plan stands beside on it, and how much of the error is to go."""

    name: str
    source: TileSource
    variants: tuple[str, ...]
    seeds: int
    least: float
    train_site: str | None = None


def main() -> None:
    """Measure and write `results/lmc.json`."""
    bench = start("lmc", __doc__ or "")
    with tempfile.TemporaryDirectory() as folder:
        cells = Path(os.environ.get("HISTOLATENT_CELLS", folder))
        for part in parts(bench.mode):
            kept = keep_tiles(part.source, Path(folder) / part.name, workers=cores())
            found = run_ablation(
                kept,
                CompactionPlan.read("demo"),
                cells,
                variants=part.variants,
                seeds=range(part.seeds),
                train_site=part.train_site,
                workers=max(1, cores() - 1),
                progress=lambda what, done, total, name=part.name: print(
                    f"{name}, {done} of {total}: {what}", flush=True
                ),
            )
            table = summarise(found)
            check_unseen(bench, part, found, table)
            if part.train_site:
                check_separation(bench, table)
                check_new_stain(bench, part.name)
                check_twins(bench, found, cells / "cells")
    bench.finish()


def parts(mode: str) -> list[Part]:
    """Return what is measured."""
    seeds = 1 if mode == "quick" else 5
    found = [Part("phantom", open_tiles("phantom:sites=5"), (PLAIN, NO_LOSS), seeds, 0.8, SOURCE)]
    data = os.environ.get("HISTOLATENT_DATA")
    if data and mode == "full":
        osteosarcoma = open_tiles(Path(data) / "osteosarcoma", cut=Cut(256))
        oral = open_tiles(Path(data) / "oral_cancer" / "manifest.csv")
        found += [
            Part("osteosarcoma", osteosarcoma, (PLAIN, *STRENGTHS), 4, 0.5),
            Part("oral_cancer", oral, (PLAIN,), 2, 0.5),
        ]
    return found


def check_unseen(bench: Bench, part: Part, cells: Sequence[Cell], table: pd.DataFrame) -> None:
    """Compare what is read at sites that were not seen, and on the source."""
    bench.measured[part.name] = {
        "table": {name: row.dropna().to_dict() for name, row in table.iterrows()},
        "sites": {
            name: {site: value_of(of_variant(cells, name), site) for site in cells[0].read} for name in table.index
        },
    }
    for name in part.variants:
        own = f"{part.name}: {{}} against {name}".format
        share, lost = removed(cells, name), difference(cells, name, PRESET, SOURCE).estimate
        asked = name == PLAIN
        bench.check(own("error_removed"), share.value, f">= {part.least}" if asked else None, f"95 % {share}")
        if asked and part.train_site:
            bench.check(own("error_removed_low"), share.low, ">= 0.6")
        bench.check(own("lost_on_the_source"), lost.value, "<= 0.01" if asked else None, f"95 % {lost}")


def check_separation(bench: Bench, table: pd.DataFrame) -> None:
    """Check what sets the phantom's sites apart, and what is kept of its tissue."""
    ours, plain = table.loc[PRESET], table.loc[PLAIN]
    bench.check("within_class_silhouette_of_sites", ours["silhouette"], "<= 0.05", f"{plain['silhouette']:.3f} without")
    bench.check(
        "site_probe_above_chance", ours["site_above_chance"], "<= 0.2", f"{plain['site_above_chance']:.3f} without"
    )
    gained = ours["robustness"] - plain["robustness"]
    bench.check("robustness_index_gained", gained, ">= 0.25", f"{plain['robustness']:.3f} to {ours['robustness']:.3f}")
    bench.check("effective_rank_kept", ours["rank"] / plain["rank"], ">= 0.5")
    bench.check("twin_retrieval_held_out", ours["held_out_twin_top1"], None, "held-out tiles of the source, about 60")
    for factor in (name for name in table if name.startswith("r2_")):
        bench.check(f"{factor}_lost", plain[factor] - ours[factor], "<= 0.05")


def check_new_stain(bench: Bench, name: str) -> None:
    """Check how much of the mean gain is there at the site with another protocol of staining.

    As a share of the error too: where the plain network makes fewer errors, there is less to gain.
    """
    read = bench.measured[name]["sites"]
    sites = [site for site in read[PRESET] if site != SOURCE]
    gained = {site: read[PRESET][site] - read[PLAIN][site] for site in sites}
    gone = {site: gained[site] / (1 - read[PLAIN][site]) for site in sites}
    for what, shares, target in (("gain", gained, ">= 0.8"), ("error_removed", gone, None)):
        least = shares["new-stain"] / np.mean(list(shares.values()))
        bench.check(f"{what}_at_new_stain_of_mean", least, target)


def check_twins(bench: Bench, cells: Sequence[Cell], folder: Path) -> None:
    """Check whether a tile finds itself again among 1,000, of patients and tissue that nothing was fitted to.

    Tiles are of the source's protocol, whole as an encoder gets them in use, and states are one and a half times as
    wide as those of training.
    """
    fresh = open_tiles(FRESH)
    side = fresh.read(0).shape[0]
    found: dict[str, list[float]] = {PRESET: [], PLAIN: []}
    for seed in dict.fromkeys(cell.seed for cell in cells):
        own = {cell.variant: folder / cell.encoder for cell in cells if cell.seed == seed}
        trained = read_provenance(own[PRESET])
        manifold = StainManifold.from_dict(trained["manifold"])
        views = StateViews(manifold, slides_of(fresh), states=0, held_out=2, seed=seed)
        look = Checker(fresh, range(TWINS), views, tile_px=side, seed=seed, workers=cores(), most=TWINS)
        for name in found:
            found[name].append(look(encoder(str(own[name]))).twin_top1)
    ours, plain = (float(np.mean(found[name])) for name in (PRESET, PLAIN))
    bench.check("twin_retrieval_of_1000", ours, ">= 0.95", f"{plain:.3f} without")


def removed(cells: Sequence[Cell], against: str) -> Estimate:
    """Return the share of the error at unseen sites that is gone, with an interval over patients."""
    ours, theirs, groups = paired(cells, PRESET, against, "unseen")
    return bootstrap(lambda weights: 1 - (1 - ours(weights)) / (1 - theirs(weights)), groups)


if __name__ == "__main__":
    main()
