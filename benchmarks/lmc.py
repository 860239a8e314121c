"""Training an encoder on one site of the phantom, read at four that it did not see: the preset `demo`.

The unseen sites are a scanner-only change, a new staining, a faded and a blue one; none is a state of the stain
manifold. The plan stands beside the same one without states, and without the compaction loss.

The preset was chosen on that phantom. So `--full` reads it, beside the plain network, also on new tissue at the three
sites of the phantom that no choice has seen.

`--quick` takes one seed (about ten minutes on two cores), `--full` five, and two of the new ones (about two hours).
Cells are kept in the folder that HISTOLATENT_CELLS names, and not trained again.
"""

import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from _bench import Bench, start
from _lmc import PLAIN, Part, run_part

from histolatent import encoder, open_tiles
from histolatent.benchmark.ablate import PRESET, Cell
from histolatent.benchmark.cohort import SOURCE
from histolatent.compact.checker import Checker
from histolatent.compact.frozen import fit_manifold, slides_of
from histolatent.compact.saving import read_provenance
from histolatent.compact.states import StateViews
from histolatent.images import cores, select_rows
from histolatent.stain.manifold import StainManifold

#: Tiles of the source's protocol that nothing was trained on, to find each again among the others.
TWINS = 1000
FRESH = f"phantom:sites=1,tiles_per_site={TWINS},seed=1"
#: Other tissue, at all sites that there are.
NEW = "phantom:sites=8,seed=1"


def main() -> None:
    """Measure and write `results/lmc.json`."""
    bench = start("lmc", __doc__ or "")
    seeds = 1 if bench.mode == "quick" else 5
    part = Part("phantom", open_tiles("phantom:sites=5"), (PLAIN, "no compaction"), seeds, 0.8, SOURCE)
    sites = open_tiles(NEW)
    kept = ~sites.table["site"].isin([name for name in part.source.table["site"].unique() if name != SOURCE])
    new = Part("new phantom", select_rows(sites, np.flatnonzero(kept)), (PLAIN,), 2, 0.8, SOURCE)
    with tempfile.TemporaryDirectory() as folder:
        run = run_part(bench, part, Path(folder))
        check_separation(bench, run.table)
        check_new_stain(bench, part.name)
        check_twins(bench, run.cells, run.folder)
        if bench.mode == "full":
            run_part(bench, new, Path(folder))
    bench.finish()


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
    stains = fit_manifold(fresh, prior="fixed", workers=cores(), seed=0, on_error="stop")  # of its own slides
    found: dict[str, list[float]] = {PRESET: [], PLAIN: []}
    for seed in dict.fromkeys(cell.seed for cell in cells):
        own = {cell.variant: folder / cell.encoder for cell in cells if cell.seed == seed}
        trained = StainManifold.from_dict(read_provenance(own[PRESET])["manifold"])
        views = StateViews(stains.with_prior(trained.prior), slides_of(fresh), states=0, held_out=2, seed=seed)
        look = Checker(fresh, range(TWINS), views, tile_px=side, seed=seed, workers=cores(), most=TWINS)
        for name in found:
            found[name].append(look(encoder(str(own[name]))).twin_top1)
    ours, plain = (float(np.mean(found[name])) for name in (PRESET, PLAIN))
    bench.check("twin_retrieval_of_1000", ours, ">= 0.95", f"{plain:.3f} without")


if __name__ == "__main__":
    main()
