"""An audit with a tiny encoder: decode once, perturb, embed. Tiles per second, and where the time goes.

The peer is the way that transformation tests are usually written: read the file again for every transformed view.
Real tiles are used where HISTOLATENT_DATA names them, else phantom tiles of the same size and number.
"""

import os
import resource
import tempfile
from pathlib import Path

from _bench import seconds, start
from PIL import Image

from histolatent import PhantomSpec, PhantomTiles, Plan, audit_encoders, encode, encoder, open_tiles
from histolatent.images import default_workers
from histolatent.perturb import SEVERITIES, perturb

ENCODER = "toy:random-conv"
TILES, PIXELS = 1224, 224
NAIVE_TILES = 24


def main() -> None:
    """Measure and write `results/audit.json`."""
    bench = start("audit", __doc__ or "")
    with tempfile.TemporaryDirectory() as folder:
        source = _tiles(Path(folder))
        _measure(bench, source)
    bench.finish()


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
        _, parts = audit_encoders(source, [loaded], plan=plan, workers=default_workers())
        spent.update(parts)

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
