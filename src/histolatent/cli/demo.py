"""`histolatent demo`."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer

from .console import Quiet, Workers, progress_bar, say, training_workers, worker_count

if TYPE_CHECKING:
    from ..encoders import Encoder
    from ..images import TileSource

EXAMPLE = "Example: histolatent demo --out demo"
SOURCE_SITE = "source"
#: Tiles of a site, and how many of these are audited.
TILES, AUDITED = 400, 40
#: Changes of the plan, for tests.
CHANGES: Mapping[str, Any] = {}
SEED = 0


def demo(
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder to write; an older demo there is replaced.")] = Path(
        "demo"
    ),
    workers: Workers = None,
    quiet: Quiet = False,
) -> None:
    """Run the main job on the embedded synthetic cohort: train an encoder on one site, audit it at sites it never saw.

    Beside it stand the same network before training, and colour alone. Six to ten minutes on two cores, by machine.
    """
    from ..audit import Plan
    from ..compact.plan import CompactionPlan
    from ..encoders import save_encoder
    from ..encoders.load import encoder as load
    from ..images import open_tiles, select_rows, spaced
    from ..images.phantom import PhantomSpec, write_phantom
    from ..outputs import Mark, refuse_existing
    from .audit import run_audit
    from .compact import train_encoder

    refuse_existing(out, overwrite=True, mark=Mark("cohort/truth.parquet"))
    plan = CompactionPlan.read("demo").changed(**CHANGES)
    count = worker_count(workers)
    with progress_bar("drawing the phantom cohort", quiet=quiet) as progress:
        spec = PhantomSpec(sites=5, tiles_per_site=TILES)
        write_phantom(spec, out / "cohort", workers=count, progress=progress, overwrite=True)
    cohort = open_tiles(out / "cohort")
    sites = cohort.table["site"].to_numpy(str)
    before, after = out / "untrained", out / "lmc"
    save_encoder(_untrained(plan), before, overwrite=True)
    train_encoder(
        select_rows(cohort, np.flatnonzero(sites == SOURCE_SITE)),
        plan,
        after,
        overwrite=True,
        quiet=quiet,
        options={"workers": training_workers(workers), "seed": SEED, "restart": True},
    )
    _tell_unseen(cohort, {path.name: load(str(path)) for path in (before, after)}, count)
    unseen = [spaced(np.flatnonzero(sites == site), AUDITED) for site in np.unique(sites) if site != SOURCE_SITE]
    run_audit(
        select_rows(cohort, np.sort(np.concatenate(unseen))),
        [str(after), str(before), "toy:od-moments"],
        out / "audit",
        plan=Plan(),
        workers=count,
        overwrite=True,
        restart=True,
        quiet=quiet,
    )
    say("Synthetic tiles and a few minutes of training: the figures show how it works, not what is good.")


def _untrained(plan) -> "Encoder":
    """Return the network that training starts from."""
    from ..compact.backbones import finished, make_backbone

    network = make_backbone(plan.backbone, plan.tile_px, SEED).encoder
    return finished(network, name=f"{plan.backbone} untrained", source="seeded weights", notes="Not trained.")


def _tell_unseen(cohort: "TileSource", encoders: "dict[str, Encoder]", workers: int) -> None:
    """Print what a probe of the label, trained at the source, reads at the other sites, and a probe of the site."""
    from ..benchmark.cohort import split_cohort
    from ..benchmark.unseen import read_unseen

    divided = split_cohort(cohort, SOURCE_SITE)
    by_site, by_label = (1 / cohort.table[column].nunique() for column in ("site", "label"))
    say(f"Read by fresh probes, the label by one of the source. Chance: label {by_label:.2f}, site {by_site:.2f}.")
    for name, encoder in encoders.items():
        found = read_unseen(divided, encoder, workers=workers).figures
        say(
            f"  {name:10s} label at the source {found['source']:.2f}, at {len(divided.unseen)} unseen sites "
            f"{found['unseen']:.2f}; which of the sites it is {found['site_above_chance'] + by_site:.2f}"
        )
