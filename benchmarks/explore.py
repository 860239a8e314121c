"""Maps' trust against scikit-learn and ZADU, anchors against the truth, geodesics, middles, directions on the phantom.

`--quick` takes fewer draws and fewer tiles; `--full` what the targets are set for: 20,000 tiles for the exact figures
(scikit-learn needs 10 GB for them), 300 draws of anchors, and a million tiles.
"""

import multiprocessing
import resource
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
from _bench import Bench, seconds, start

from histolatent import open_tiles
from histolatent.explore.faithfulness import measure_faithfulness
from histolatent.explore.generative.plan import GenerativePlan
from histolatent.explore.generative.training import train_generative
from histolatent.explore.seen import seen_effects
from histolatent.explore.space import LatentSpace
from histolatent.explore.transport import Gaussian, bures_barycentre
from histolatent.images import cores
from histolatent.stain import label_nuclei
from histolatent.stats import bootstrap_means

K, DIM = 15, 256
MILLION = 1_000_000
WAYS = ("lerp", "slerp", "graph", "geodesic")
#: What is moved, what else is known of a tile, how far it is moved (standard deviations), and how many tiles are.
SIZE = "nuclear_area_um2"
FACTORS = (
    SIZE,
    "nuclear_density_per_mm2",
    "pleomorphism",
    "elongation",
    "chromatin",
    "lymphocyte_fraction",
    "epithelium_fraction",
    "lumen_fraction",
    "necrosis_fraction",
    "adipose_fraction",
)
AMOUNTS, MOVED = (-2, -1, 0, 1, 2), 32


def main() -> None:
    """Measure and write `results/explore.json`."""
    bench = start("explore", __doc__ or "")
    full = bench.mode == "full"
    check_exact(bench, 20_000 if full else 3_000)
    check_anchors(bench, 20_000 if full else 5_000, 300 if full else 100)
    if full:
        check_million(bench)
    check_middle(bench)
    with tempfile.TemporaryDirectory() as folder:
        check_model(bench, Path(folder), pairs=20 if full else 6)
    bench.finish()


def cloud(n: int, d: int = DIM, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return clustered vectors and a map of them that keeps part of it: two directions of many, with noise."""
    random = np.random.default_rng(seed)
    middles = random.normal(size=(20, d)) * 2
    x = middles[random.integers(20, size=n)] + random.normal(size=(n, d)) * np.linspace(2, 0.2, d)
    return x, x[:, :2] + 0.3 * random.normal(size=(n, 2))


def check_exact(bench: Bench, n: int) -> None:
    """Compare the exact mode with scikit-learn and ZADU on the same tiles."""
    from sklearn.manifold import trustworthiness

    x, y = cloud(n)
    own: dict[str, float] = {}

    def exact() -> None:
        found = measure_faithfulness(x, y, sizes=(K,), anchors=None, metric="euclidean", exact=True)
        own.update({figure.name: figure.estimate.value for figure in found.figures})

    bench.measured["exact_seconds"] = seconds(exact)
    apart = abs(trustworthiness(x, y, n_neighbors=K) - own[f"trustworthiness@{K}"])
    bench.check("trustworthiness_off_scikit_learn", apart, "<= 1e-09", f"{n} tiles of {DIM} dimensions")
    try:
        from zadu.measures import mean_relative_rank_error, trustworthiness_continuity
    except ImportError:
        bench.check("off_zadu", None, "<= 1e-09", "zadu is not there: pip install zadu")
        return
    theirs: dict[str, float] = {}
    took = seconds(lambda: theirs.update(trustworthiness_continuity.measure(x, y, k=K)))
    theirs |= mean_relative_rank_error.measure(x, y, k=K)
    worst = max(abs(theirs[name] - own[f"{name}@{K}"]) for name in theirs)
    bench.check("off_zadu", worst, "<= 1e-09", f"{', '.join(theirs)}; {n} tiles of {DIM} dimensions")
    fast = seconds(lambda: measure_faithfulness(x, y, sizes=(K,), anchors=1000, metric="euclidean"))
    reason = f"{took:.1f} s for two figures, {fast:.2f} s for all of ours; {n} tiles, {cores()} cores"
    target = ">= 50" if bench.mode == "full" else None
    bench.check("anchored_times_faster_than_zadu", took / fast, target, reason)


def check_anchors(bench: Bench, n: int, draws: int) -> None:
    """Count how often the interval of 1,000 anchors holds the figure of all tiles."""
    x, y = cloud(n, seed=1)
    truth = measure_faithfulness(x, y, sizes=(K,), anchors=None, metric="euclidean")
    names = [f"recall@{K}", f"trustworthiness@{K}", f"continuity@{K}", "auc"]
    inside = dict.fromkeys(names, 0)
    for seed in range(draws):
        found = measure_faithfulness(x, y, sizes=(K,), anchors=1000, metric="euclidean", seed=seed + 1)
        for name in names:
            own, value = found[name].estimate, truth[name].estimate.value
            inside[name] += own.low is not None and own.high is not None and own.low <= value <= own.high
    for name, count in inside.items():
        share = count / draws
        low, high = (">= 0.93", "<= 0.97") if bench.mode == "full" else (None, None)
        bench.check(f"coverage_{name}_low", share, low, f"{draws} draws of 1,000 of {n} tiles")
        bench.check(f"coverage_{name}_high", share, high)


def check_million(bench: Bench) -> None:
    """Score a map of a million tiles from 500 anchors, and say how much memory a process takes for that."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        took, peak = pool.submit(score_million).result()
    said = f"{MILLION:,} tiles of {DIM} dimensions, 500 anchors, vectors included"
    bench.check("million_peak_gb", peak, "< 6", said)
    bench.check("million_seconds", took, None, f"{cores()} cores")


def score_million() -> tuple[float, float]:
    """Return the seconds that a score takes, and the most memory that this process had, in GB."""
    x = np.random.default_rng(0).standard_normal((MILLION, DIM), np.float32)
    y = x[:, :2].astype(np.float64)
    took = seconds(lambda: measure_faithfulness(x, y, sizes=(K,), anchors=500, metric="euclidean"))
    return took, _peak_gb()


def _peak_gb() -> float:
    """Return the most memory that this process had.

    What Linux gives as `ru_maxrss` starts at that of the process which started this one, here one of 20 GB.
    """
    status = Path("/proc/self/status")
    if status.exists():
        return int(status.read_text().partition("VmHWM:")[2].split()[0]) * 1024 / 1e9
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 1e9


def check_middle(bench: Bench) -> None:
    """Compare the middle of normal distributions with POT's."""
    from ot.gaussian import bures_wasserstein_barycenter

    random = np.random.default_rng(0)
    parts = random.normal(size=(5, 32, 128))
    covariances = parts @ parts.transpose(0, 2, 1) / 128
    found, steps = bures_barycentre([Gaussian(np.zeros(32), each) for each in covariances])
    theirs, log = bures_wasserstein_barycenter(np.zeros((5, 32)), covariances, num_iter=5000, eps=1e-11, log=True)[1:]
    bench.check("bures_off_pot", float(np.abs(found.covariance - theirs).max()), "<= 1e-07", "5 of 32 dimensions")
    bench.check("bures_steps_of_pots", steps / log["num_iter"], "< 1", f"{steps} steps, {log['num_iter']} of POT")


def check_model(bench: Bench, folder: Path, pairs: int) -> None:
    """Train the preset on the phantom, and score ways and directions of it."""
    source, plan = open_tiles("phantom:sites=1"), GenerativePlan.read("demo")
    clock = time.perf_counter()
    model = train_generative(source, "vae", plan, folder, workers=max(1, cores() - 1))
    bench.check("seconds_to_train_demo", time.perf_counter() - clock, "<= 180", f"{len(source.table)} tiles")
    last = model.card["checks"][-1]
    bench.check("held_out_psnr", last["held_out_psnr"], None, "dB")
    truth = source.truth  # pyright: ignore[reportAttributeAccessIssue]
    obs = source.table.join(truth[[name for name in truth if name not in source.table]])
    vectors = model.encode(source.read(row) for row in range(len(source.table)))
    space = LatentSpace(vectors, tuple(map(str, source.table.index)), model, obs=obs)
    check_ways(bench, space, pairs)
    check_directions(bench, space, model.tile_px / source.read(0).shape[0])


def check_ways(bench: Bench, space: LatentSpace, pairs: int) -> None:
    """Score every way between pairs of tiles against the straight one."""
    scores: dict[str, list[dict[str, float]]] = {name: [] for name in WAYS}
    took = []
    random = np.random.default_rng(0)
    for _ in range(pairs):
        first, last = (space[space.tiles[row]] for row in random.choice(len(space.tiles), 2, replace=False))
        for name in WAYS:
            clock = time.perf_counter()
            way = first.path(last, method=name, steps=9)
            if name == "geodesic":
                took.append(time.perf_counter() - clock)
            scores[name].append(way.score())
    bench.measured["ways"] = {
        name: {key: float(np.mean([each[key] for each in found])) for key in found[0]} for name, found in scores.items()
    }
    bench.check("geodesic_seconds", float(np.median(took)), "< 5", f"{space.vectors.shape[1]} numbers")
    for name in WAYS[1:]:
        for figure in ("sparsest", "cycle"):
            gained = np.array([a[figure] - b[figure] for a, b in zip(scores["lerp"], scores[name], strict=True)])
            said = bootstrap_means(gained[:, None], np.arange(pairs))[0]
            bench.check(f"{name}_{figure}_below_lerp", said.value, ">= 0", f"95 % {said}, {pairs} pairs")


def check_directions(bench: Bench, space: LatentSpace, shrunk: float) -> None:
    """Move nuclear size, and look what decoded tiles show of it and of all other known factors.

    Sizes and numbers of nuclei are those of objects found in the decoded tile; other factors are read by regressions
    that no move was led by. The straight difference of means stands beside the move that follows decoded tiles.
    """
    seen = {name: space.seen(name) for name in FACTORS}
    shown = [name for name, each in seen.items() if each.card.believable]
    bench.measured["factors"] = {name: {**vars(each.card), "shown": name in shown} for name, each in seen.items()}
    others = [seen[name] for name in shown if name != SIZE]
    ways = {
        "mean difference": space.direction(SIZE),
        "seen": seen[SIZE],
        "seen, others held": seen[SIZE].without(*others),
    }
    effects = seen_effects(list(ways.values()), [seen[SIZE], *others], space.vectors)
    rows = np.random.default_rng(0).permutation(len(space.tiles))[:MOVED]
    mpp = float(space.obs["mpp"].iloc[0]) / shrunk
    spread = np.nanstd([measure_nuclei(tile, mpp) for tile in space.decode(space.vectors)], axis=0)
    for number, (name, way) in enumerate(ways.items()):
        found = [
            [measure_nuclei(tile, mpp) for tile in space.decode(way.moved(space.vectors[rows], amount * way.spread))]
            for amount in AMOUNTS
        ]
        sizes, counts = (np.nanmean(found, axis=1) / spread).T
        read = effects.iloc[number]
        drift = read.drop(SIZE).abs()
        key = name.replace(",", "").replace(" ", "_")
        ours = name == "seen, others held"
        bench.measured[f"moved_by_{key}"] = {
            "amounts": AMOUNTS,
            "size": list(sizes - sizes[AMOUNTS.index(0)]),
            "count": list(counts - counts[AMOUNTS.index(0)]),
            "read": read.to_dict(),
        }
        rising = float((np.diff(sizes) > 0).mean())
        said = f"{sizes[-1] - sizes[0]:+.2f} of its sd from {AMOUNTS[0]} to {AMOUNTS[-1]} sd, {MOVED} tiles"
        bench.check(f"{key}: share_of_steps_on_which_measured_size_rises", rising, ">= 1" if ours else None, said)
        share, worst = float(drift.max() / max(read[SIZE], 1e-9)), str(drift.idxmax())
        said = f"{worst} {read[worst]:+.2f} beside {read[SIZE]:+.2f}; of {', '.join(drift.index)}"
        if hidden := [name for name in FACTORS if name not in shown]:
            said += f"; decoded tiles do not show {', '.join(hidden)}"
        bench.check(f"{key}: largest_drift_of_own_effect", share, "< 0.3333" if ours else None, said)
        counted = abs(float((counts[-1] - counts[0]) / (sizes[-1] - sizes[0])))
        bench.check(f"{key}: drift_of_counted_nuclei", counted, "< 0.3333" if ours else None, "of the change in size")


def measure_nuclei(tile: np.ndarray, mpp: float) -> tuple[float, int]:
    """Return the mean area of nuclei that are found in a tile, in um2, and how many there are."""
    count, labels = label_nuclei(tile, mpp)
    return (float((labels > 0).sum()) * mpp**2 / count if count else np.nan), count


if __name__ == "__main__":
    main()
