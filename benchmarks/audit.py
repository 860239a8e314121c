"""An audit: where its time goes, what it costs beside the encoder alone, and its figures beside those of peers.

- Time with a tiny encoder, against the way that transformation tests are usually written: read the file again for every
  transformed view. Real tiles where HISTOLATENT_DATA names them, else phantom tiles of the same size and number.
- Neighbour metrics beside croma, scib-metrics and plismbench's way (`_audit_neighbours.py`); transport beside POT.
- How often intervals exclude chance where nothing is true (`_audit_null.py`).
"""

import os
import resource
import tempfile
from pathlib import Path

import numpy as np
from _audit_neighbours import check_neighbours
from _audit_null import check_calibration
from _bench import Bench, seconds, start
from PIL import Image

from histolatent import PhantomSpec, PhantomTiles, Plan, audit_encoders, encode, encoder, open_tiles
from histolatent.distances import empirical_w2_squared, gaussian_w2_squared
from histolatent.images import default_workers
from histolatent.perturb import SEVERITIES, perturb

ENCODER = "toy:random-conv"
TILES, PIXELS = 1224, 224
NAIVE_TILES = 24


def main() -> None:
    """Measure and write `results/audit.json`."""
    bench = start("audit", __doc__ or "")
    check_neighbours(bench)
    check_transport(bench)
    check_calibration(bench)
    with tempfile.TemporaryDirectory() as folder:
        _measure(bench, _tiles(Path(folder)))
    bench.finish()


def check_transport(bench: Bench) -> None:
    """Compare squared Wasserstein distances with POT's."""
    try:
        import ot
    except ImportError:
        bench.check("w2_largest_difference_to_pot", None, "<= 1e-7", "POT is not installed")
        return
    random = np.random.default_rng(0)
    x, y = random.normal(size=(300, 48)), 1.3 * random.normal(size=(300, 48)) + 0.2
    means, covariances = [part.mean(axis=0) for part in (x, y)], [np.cov(part.T) for part in (x, y)]
    theirs = ot.gaussian.bures_wasserstein_distance(*means, *covariances) ** 2
    exact = ot.emd2([], [], ot.dist(x, y))
    gaps = abs(gaussian_w2_squared(x, y) - theirs), abs(empirical_w2_squared(x, y) - exact)
    bench.check("w2_largest_difference_to_pot", float(max(gaps)), "<= 1e-7", "Gaussian and empirical, squared")


def _tiles(folder: Path):
    data = os.environ.get("HISTOLATENT_DATA")
    if data and (Path(data) / "oral_cancer").is_dir():
        return open_tiles(Path(data) / "oral_cancer" / "manifest.csv", columns={"site": "magnification"})
    cohort = PhantomTiles(PhantomSpec(sites=1, tile_px=PIXELS, tiles_per_site=TILES))
    for i, label in enumerate(cohort.table["label"]):
        path = folder / str(label) / f"{i:04d}.jpg"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(cohort.read(i)).save(path, quality=90)
    return open_tiles(folder)


def _measure(bench, source) -> None:
    loaded, plan = encoder(ENCODER), Plan()
    operations = [name for name in plan.operations if name != "rotation-there-and-back"]
    views = len(source.table) * (1 + len(plan.operations) * len(SEVERITIES))
    spent: dict[str, float] = {}

    def whole() -> None:
        spent.update(audit_encoders(source, [loaded], plan=plan, workers=default_workers()).seconds)

    before = _cpu_seconds()
    total = seconds(whole)
    ours = (_cpu_seconds() - before) / len(source.table)
    bench.measured["setting"] = {
        "source": source.name,
        "tiles": len(source.table),
        "operations": [*operations, "rotation-there-and-back"],
        "severities": len(SEVERITIES),
        "encoder": ENCODER,
        "workers": default_workers(),
    }
    measuring = total - spent["total"]
    bench.measured["seconds"] = {**spent, "measures_and_probes": round(measuring, 3), "whole": round(total, 3)}
    bench.check("tiles_per_s_embedding_all_views", len(source.table) / spent["total"])
    bench.check("tiles_per_s_whole_audit", len(source.table) / total)
    bench.check("views_per_s_embedding", views / spent["total"])
    work = spent["views"] + spent["prepare"] + spent["forward"] + spent["storing"]
    for part in ("views", "prepare", "forward", "storing"):
        bench.check(f"share_of_work_{part}", spent[part] / work)
    before = _cpu_seconds()
    _naive(source, loaded, list(plan.operations))
    naive = (_cpu_seconds() - before) / NAIVE_TILES
    bench.measured["cpu_seconds_per_tile"] = {"reading_again_for_each_view": naive, "whole_audit": ours}
    bench.check("less_cpu_than_reading_again_for_each_view", naive / ours, ">= 1")


def _cpu_seconds() -> float:
    """Return the CPU time of this process and of its workers that have ended."""
    own, workers = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return own.ru_utime + own.ru_stime + workers.ru_utime + workers.ru_stime


def _naive(source, loaded, operations: list[str]) -> None:
    for i in range(NAIVE_TILES):
        tile_id = str(source.table.index[i])
        encode(loaded, [source.read(i)])
        for operation in operations:
            for severity in SEVERITIES:
                encode(loaded, [perturb(source.read(i), operation, severity, tile_id=tile_id)])


if __name__ == "__main__":
    main()
