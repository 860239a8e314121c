"""Stain normalisation beside torchstain, tiatoolbox and StainTools: what breaks, how fast, how alike.

All on one thread, in one run, tile by tile in turn. Real tiles of 224 px where HISTOLATENT_DATA names them, else
phantom tiles. tiatoolbox (and spams, StainTools' solver) are timed in the interpreter that HISTOLATENT_PEERS names,
else in this one, if they can be imported there.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from _bench import Bench, spread, start
from _edge_suite import failure, real, synthetic
from _planted import LOSSLESS, NOISELESS, WHITE, Planted
from scipy.stats import spearmanr
from sklearn.decomposition import NMF, MiniBatchDictionaryLearning, non_negative_factorization
from sklearn.exceptions import ConvergenceWarning
from threadpoolctl import threadpool_limits
from torchstain.numpy.normalizers import NumpyMacenkoNormalizer, NumpyReinhardNormalizer

from histolatent import PhantomSpec, PhantomTiles
from histolatent.stain import (
    NORMALIZERS,
    ColourChange,
    Fit,
    NoChange,
    PerTileWarning,
    Sample,
    canonical_vectors,
    colour_change,
    fit_colour,
    fit_samples,
    fit_stains,
    fit_tile,
    normalize_tile,
    recolour,
    sample_pixels,
    shipped_reference,
    tile_change,
)
from histolatent.stain.vahadane import vahadane_vectors
from histolatent.stain.vectors import angle, unit_rows

PIXELS = 224
HERE = Path(__file__).parent
#: A rank correlation from which a change has kept the order of colours, by and large.
LEAST_ORDER = 0.2
#: Bytes per second that an accelerator's memory can move, by a part of its name.
PEAK = {"H100": 3.35e12, "H200": 4.8e12, "A100": 2.04e12}


class Peers:
    """Another interpreter that times its own packages, asked one tile at a time."""

    def __init__(self, tiles: np.ndarray, target: np.ndarray, folder: Path) -> None:
        np.save(folder / "tiles.npy", tiles)
        np.save(folder / "target.npy", target)
        python = os.environ.get("HISTOLATENT_PEERS", sys.executable)
        self.process = subprocess.Popen(
            [python, "-W", "ignore", HERE / "_stain_peers.py", folder / "tiles.npy", folder / "target.npy"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env={**os.environ, **dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")},
        )
        first = self.process.stdout.readline()
        self.methods: list[str] = json.loads(first) if first else []
        self.reason = "" if first else f"{python} cannot run _stain_peers.py"

    def ask(self, method: str, index: int) -> dict:
        """Return what the peer says of a tile: seconds and vectors, or the error it raised."""
        self.process.stdin.write(f"{method} {index}\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def close(self) -> None:
        """Let it end."""
        self.process.stdin.close()
        self.process.wait()


def main() -> None:
    """Measure and write `results/stain.json`."""
    bench = start("stain", __doc__ or "")
    full = bench.mode == "full"
    warnings.simplefilter("ignore", PerTileWarning)
    warnings.simplefilter("ignore", ConvergenceWarning)
    warnings.simplefilter("ignore", RuntimeWarning)  # torchstain on blank tiles
    cv2.setNumThreads(1)
    data = os.environ.get("HISTOLATENT_DATA")
    folder = Path(data) if data and Path(data).is_dir() else None
    source, tiles, target = read_tiles(folder, 80 if full else 40)
    bench.measured["setting"] = {"source": source, "tiles": len(tiles), "tile_px": PIXELS, "threads": 1}
    with threadpool_limits(1), tempfile.TemporaryDirectory() as scratch:
        peers = Peers(tiles, target, Path(scratch))
        try:
            check_edges(bench, folder, target)
            check_refusals(bench, folder)
            check_parity(bench, folder, tiles, target)
            check_overlap(bench, folder, target)
            check_planted(bench, 200)
            check_speed(bench, tiles, target, peers, rounds=9 if full else 4)
            check_vahadane(bench, tiles, target, peers, 24 if full else 12)
            check_torch(bench, tiles, target)
        finally:
            peers.close()
    bench.finish()


def read_tiles(folder: Path | None, count: int) -> tuple[str, np.ndarray, np.ndarray]:
    """Return what the tiles are, the tiles and a target image."""
    if folder is None:
        tiles = PhantomTiles(PhantomSpec(sites=2, tiles_per_site=count, tile_px=PIXELS))
        last = len(tiles.table) - 1
        return tiles.name, np.stack([tiles.read(i) for i in range(count)]), tiles.read(last)
    half = count // 2 - 2
    paths = sorted((folder / "oral_cancer").glob("*/*.jpg"))
    chosen = [read(path) for path in paths[:: max(1, len(paths) // half)]][:half]
    larger = sorted((folder / "osteosarcoma").glob("*/*.jpg"))
    chosen += [read(path)[400 : 400 + PIXELS, 400 : 400 + PIXELS] for path in larger[:: max(1, len(larger) // half)]][
        :half
    ]
    pair = [read(folder / "stain_pair" / f"{name}.png") for name in ("source", "target")]
    crops = [image[y : y + PIXELS, x : x + PIXELS] for image in pair for y, x in ((0, 0), (200, 300))]
    return "oral_cancer, osteosarcoma and stain_pair", np.stack([*chosen, *crops]), pair[1]


def read(path: Path) -> np.ndarray:
    """Return an image as RGB."""
    return np.ascontiguousarray(cv2.imread(str(path), cv2.IMREAD_COLOR)[..., ::-1])


def fit_any(images, method: str) -> Fit:
    """Fit what a normalisation method needs."""
    kind = NORMALIZERS[method]
    if kind != method:
        return fit_colour(images, kind)
    return fit_tile(images[0], kind) if len(images) == 1 else fit_stains(images, kind)


def slide_change(tiles: np.ndarray, target: np.ndarray, method: str) -> ColourChange:
    """Return a change that does something: of the tiles, else of the target, to one reference or the other.

    Tiles of many laboratories are no slide, and their common fit may be refused; how long a change takes does not
    depend on its numbers.
    """
    references = [shipped_reference("phantom", method), fit_any([target], method)]
    for images in (tiles, tiles[-4:], [target]):
        for reference in references:
            change = colour_change(fit_any(images, method), reference)
            if not isinstance(change, NoChange):
                return change
    raise SystemExit(f"no change for {method}")


def check_edges(bench: Bench, folder: Path | None, target: np.ndarray) -> None:
    """Count failures on the tiles that break stain code, and print the same table for torchstain."""
    suite = synthetic() | (real(folder / "edge_tiles") if folder else {})
    macenko, reinhard = NumpyMacenkoNormalizer(), NumpyReinhardNormalizer()
    macenko.fit(target)
    reinhard.fit(target)
    theirs: dict[str, Callable] = {
        "torchstain macenko": lambda tile: macenko.normalize(tile, stains=False)[0],
        "torchstain reinhard": reinhard.normalize,
    }
    ours: dict[str, Callable] = {
        f"{method}, to {name}": lambda tile, method=method, to=to: normalize_tile(tile, to, method)[0]
        for method in NORMALIZERS
        for name, to in (
            ("the phantom", shipped_reference("phantom", method)),
            ("the target", fit_any([target], method)),
        )
    }
    table = {name: {peer: failure(tile, make) for peer, make in theirs.items()} for name, tile in suite.items()}
    found = {name: {way: failure(tile, make) for way, make in ours.items()} for name, tile in suite.items()}
    for name, row in table.items():
        wrong = [f"{way}: {what}" for way, what in found[name].items() if what]
        others = ", ".join(f"{peer}: {what or 'ok'}" for peer, what in row.items())
        print(f"  {name:40s} ours: {'; '.join(wrong) or 'ok'}, {others}")
    bench.measured["edge_suite"] = {
        "tiles": len(suite),
        "ours": {name: {way: what for way, what in row.items() if what} for name, row in found.items()},
        "torchstain": table,
    }
    bench.check("edge_failures", sum(bool(what) for row in found.values() for what in row.values()), "== 0")
    for peer in theirs:
        broken = sum(bool(row[peer]) for row in table.values())
        bench.check(f"edge_failures_{peer.replace(' ', '_')}", broken, None, f"of {len(suite)} tiles")


def check_refusals(bench: Bench, folder: Path | None) -> None:
    """Count real tiles that are left as they are when each goes by its own fit, so that refusing is not unseen.

    And so that changing is not either: of the tiles that are changed, how many lose the order of their colours. Every
    12th tile of oral_cancer, and four tiles of 256 px of each image of osteosarcoma, to the phantom's look.
    """
    if folder is None:
        bench.check("refused_share", None, None, "no real tiles: HISTOLATENT_DATA is not set")
        return
    larger = sorted((folder / "osteosarcoma").glob("*/*.jpg"))
    sets = {
        "oral_cancer": [read(path) for path in sorted((folder / "oral_cancer").glob("*/*.jpg"))[::12]],
        "osteosarcoma": [
            np.ascontiguousarray(image[y : y + 256, x : x + 256])
            for image in map(read, larger)
            for y in (0, 512)
            for x in (256, 768)
        ],
    }
    table: dict[str, dict[str, int]] = {}
    for name, tiles in sets.items():
        for method in NORMALIZERS:
            reference = shipped_reference("phantom", method)
            counts: dict[str, int] = {}
            orders: list[float] = []
            for tile in tiles:
                after, change = normalize_tile(tile, reference, method)
                reason = change.reason if isinstance(change, NoChange) else "ok"
                counts[reason] = counts.get(reason, 0) + 1
                orders += [] if isinstance(change, NoChange) else [order_kept(tile, after, np.array(reference.white))]
            table[f"{name}, {method}"] = counts
            what = ", ".join(f"{count} {reason}" for reason, count in counts.items())
            share = 1 - counts.get("ok", 0) / len(tiles)
            bench.check(f"refused_share: {name}, {method}", share, None, f"{len(tiles)} tiles: {what}")
            lost = float(np.mean(np.array(orders) < LEAST_ORDER)) if orders else None
            bench.check(f"order_lost_share: {name}, {method}", lost, None, f"of {len(orders)} tiles that were changed")
    bench.measured["refusals"] = table


def order_kept(before: np.ndarray, after: np.ndarray, white: np.ndarray) -> float:
    """Return whether what was bluish is bluish still: the rank correlation, over tissue, of red's share of the density.

    1 if the order is the same, -1 if it is upside down, as where nuclei come out pink. White of the tile is the 99th
    percentile of each channel.
    """
    levels = [image[::3, ::2].reshape(-1, 3).astype(float) for image in (before, after)]
    whites = (np.percentile(levels[0], 99, axis=0), white)
    old, new = (-np.log(np.maximum(one, 1) / level) for one, level in zip(levels, whites, strict=True))
    tissue = old @ [0.299, 0.587, 0.114] > 0.25
    if tissue.sum() < 100:
        return 1.0
    shares = [density[tissue, 0] / np.maximum(density[tissue].sum(axis=1), 1e-3) for density in (old, new)]
    return float(spearmanr(*shares).statistic)


def check_parity(bench: Bench, folder: Path | None, tiles: np.ndarray, target: np.ndarray) -> None:
    """Compare with torchstain under its own choices: all pixels, I0 240, I + 1, everything mapped."""
    pair = (read(folder / "stain_pair" / "source.png"), target) if folder else (tiles[0], target)
    peer = NumpyMacenkoNormalizer()
    peer.fit(pair[1])
    theirs = peer.normalize(pair[0].copy(), stains=False)[0]
    fits = [fit_tile(one, mask=np.ones(one.shape[:2], bool), limit=None, white=240, offset=1) for one in pair]
    ours = recolour(pair[0], colour_change(*fits, background="map", signed=True))
    bench.check("largest_difference_to_torchstain_levels", np.abs(ours.astype(int) - theirs).max(), "<= 1")


def check_overlap(bench: Bench, folder: Path | None, target: np.ndarray) -> None:
    """Compare the same pixels in two tiles of a slide that overlap by half."""
    tiles, pairs = overlapping_tiles(folder)
    reference = fit_any([target], "macenko")
    fit = fit_stains(tiles)
    change = colour_change(fit, reference)
    if isinstance(change, NoChange):
        reference = shipped_reference("phantom", "macenko")
        change = colour_change(fit, reference)
    peer = NumpyMacenkoNormalizer()
    peer.fit(target)
    ways: dict[str, Callable] = {
        "slide_fit": lambda tile: recolour(tile, tile_change(tile, fit, change)),
        "tile_fit": lambda tile: normalize_tile(tile, reference)[0],
        "torchstain": lambda tile: peer.normalize(tile.copy(), stains=False)[0],
    }
    for way, make in ways.items():
        made = [attempt(make, tile) for tile in tiles]
        both = [(made[i], made[j]) for i, j in pairs if made[i] is not None and made[j] is not None]
        off = np.concatenate([np.abs(a[:, PIXELS // 2 :].astype(int) - b[:, : PIXELS // 2]).ravel() for a, b in both])
        goal = "== 0" if way == "slide_fit" else None
        raised = f"{len(pairs) - len(both)} of {len(pairs)} pairs raised" if len(both) < len(pairs) else ""
        bench.check(f"overlap_{way}_share_of_values_that_differ", float((off > 0).mean()), goal, raised)
        bench.check(f"overlap_{way}_p99_levels", float(np.percentile(off, 99)), goal)
        bench.check(f"overlap_{way}_mean_levels", float(off.mean()), goal)


def attempt(make: Callable, tile: np.ndarray) -> np.ndarray | None:
    """Return a result, or None where a peer raises on a tile that is nearly blank."""
    try:
        return make(tile)
    except (np.linalg.LinAlgError, ValueError, IndexError):
        return None


def overlapping_tiles(folder: Path | None) -> tuple[list[np.ndarray], list[tuple[int, int]]]:
    """Return tiles in rows that overlap by half, and which are neighbours."""
    if folder:
        import openslide

        with openslide.OpenSlide(folder / "slides" / "CMU-1-Small-Region.svs") as slide:
            whole = np.asarray(slide.read_region((0, 0), 0, slide.dimensions).convert("RGB"))
    else:
        whole = PhantomTiles(PhantomSpec(sites=1, patients=1, slides=1, tiles_per_site=4, tile_px=1120)).read(0)
    half, tiles, pairs = PIXELS // 2, [], []
    for y in range(0, whole.shape[0] - PIXELS + 1, 2 * PIXELS):
        for x in range(0, whole.shape[1] - PIXELS + 1, half):
            if x:
                pairs.append((len(tiles) - 1, len(tiles)))
            tiles.append(np.ascontiguousarray(whole[y : y + PIXELS, x : x + PIXELS]))
    return tiles, pairs


def check_planted(bench: Bench, seeds: int) -> None:
    """Say how far fitted vectors are from planted ones, for slides of eight tiles and each way to fit."""
    planted = Planted()
    ways = {
        "vahadane": {"method": "vahadane", "white": WHITE},
        "vahadane, I0 estimated": {"method": "vahadane"},
        "macenko, beta 0": {"white": WHITE, "beta": 0.0},
        "macenko, beta 0.15": {"white": WHITE},
        "macenko, beta 0.345": {"white": WHITE, "beta": 0.345},
        "macenko, beta 0, alpha 0.1": {"white": WHITE, "beta": 0.0, "alpha": 0.1},
    }
    table: dict[str, dict[str, float]] = {}
    for pure in (True, False):
        for scanner in (LOSSLESS, NOISELESS):
            slides = [planted.slide(seed, scanner, separable=pure) for seed in range(seeds)]
            for way, options in ways.items():
                errors = np.array([worst(fit_stains(tiles, **options).rows, rows) for rows, _, tiles in slides])
                name = f"{'with' if pure else 'without'} pure pixels, {scanner.name}: {way}"
                table[name] = describe(errors)
                print(f"  {name}: {table[name]}", flush=True)
    bench.measured["planted_degrees"] = table
    best = table["with pure pixels, lossless: vahadane"]
    bench.check("planted_vahadane_degrees_max", best["max"], "<= 2", f"{seeds} slides of pure stains, known I0, noise")
    bench.check("planted_vahadane_degrees_median", best["median"])
    beside = table["with pure pixels, noiseless: macenko, beta 0"]
    bench.check("planted_macenko_beta_0_share_within_2_degrees", beside["within_2"], None, "without noise")
    default = table["with pure pixels, lossless: macenko, beta 0.15"]
    bench.check("planted_macenko_default_degrees_median", default["median"], None, "pure eosin absorbs too little red")
    extremes = [to_extremes(planted.slide(seed, NOISELESS, separable=False)) for seed in range(0, seeds, 4)]
    bench.check("macenko_degrees_to_purest_mixtures_max", max(extremes), "<= 2", "the phantom as it is")
    plain = table["without pure pixels, noiseless: macenko, beta 0"]
    bench.check("phantom_as_it_is_degrees_median", plain["median"], None, "its nuclei hold eosin: no pure hematoxylin")


def to_extremes(slide) -> float:
    """Return the angle to the 1st and 99th percentile of the true mixtures: what Macenko's method looks for."""
    rows, amounts, tiles = slide
    pixels = np.concatenate([sample_pixels(tile, limit=None).pixels for tile in tiles], axis=1)
    found = fit_samples([Sample(pixels)], white=WHITE, beta=0.0).rows
    every = np.concatenate([part.reshape(-1, 2) for part in amounts])
    every = every[(every @ rows) @ [0.299, 0.587, 0.114] >= 0.15]
    share = np.percentile(every[:, 1] / every.sum(axis=1), [1, 99])
    return worst(found, unit_rows(np.stack([1 - share, share], 1) @ rows))


def worst(found: np.ndarray, true: np.ndarray) -> float:
    """Return the larger angle of two pairs of vectors."""
    return max(angle(*rows) for rows in zip(found, true, strict=True))


def describe(errors: np.ndarray) -> dict[str, float]:
    """Return the distribution of angles in degrees."""
    median, p95 = np.percentile(errors, [50, 95]).round(3)
    within = float((errors <= 2).mean())
    return {"median": float(median), "p95": float(p95), "max": round(float(errors.max()), 3), "within_2": within}


def in_turn(ways: dict[str, Callable[[int], float | None]], count: int, rounds: int) -> dict[str, list[float]]:
    """Time the ways in turn, in a new order each round; each goes through all tiles, as one does with a slide.

    Returns the seconds per tile. A way may have no answer for a tile.
    """
    spent: dict[str, list[float]] = {name: [] for name in ways}
    rng = np.random.default_rng(0)
    for _ in range(rounds):
        for name in rng.permutation(list(ways)):
            taken = [ways[name](index) for index in range(count)]
            spent[name] += [one for one in taken if one is not None]
    return spent


def clocked(work: Callable[[np.ndarray], object], tiles: np.ndarray) -> Callable[[int], float | None]:
    """Return a function that times work on a tile; None where a peer raises."""

    def time_one(index: int) -> float | None:
        tile = tiles[index].copy()
        clock = time.perf_counter()
        try:
            work(tile)
        except (np.linalg.LinAlgError, ValueError, IndexError):
            return None
        return time.perf_counter() - clock

    return time_one


def check_speed(bench: Bench, tiles: np.ndarray, target: np.ndarray, peers: Peers, rounds: int) -> None:
    """Time Macenko and Reinhard, with the slide's fit and with each tile's own, beside every peer."""
    macenko, reinhard = NumpyMacenkoNormalizer(), NumpyReinhardNormalizer()
    macenko.fit(target)
    reinhard.fit(target)
    changes = {method: slide_change(tiles, target, method) for method in NORMALIZERS}
    reference = shipped_reference("phantom", "macenko")
    lab = shipped_reference("phantom", "reinhard")
    ways = {
        f"ours {method}, slide fit": clocked(lambda tile, c=c: recolour(tile, c), tiles)
        for method, c in changes.items()
    }
    own = fit_any(tiles, "macenko")
    ways["ours macenko, slide fit, with a look for ink"] = clocked(
        lambda tile: recolour(tile, tile_change(tile, own, changes["macenko"])), tiles
    )
    ways |= {
        "ours macenko, tile fit": clocked(lambda tile: own_fit(tile, reference, "macenko"), tiles),
        "ours reinhard, tile fit": clocked(lambda tile: own_fit(tile, lab, "reinhard"), tiles),
        "torchstain macenko": clocked(lambda tile: macenko.normalize(tile, stains=False), tiles),
        "torchstain reinhard": clocked(reinhard.normalize, tiles),
    }
    for name in ("tiatoolbox-reinhard", "tiatoolbox-macenko"):
        if name in peers.methods:
            ways[name] = lambda index, name=name: peers.ask(name, index).get("seconds")
    spent = in_turn(ways, len(tiles), rounds)
    bench.measured["milliseconds_per_tile"] = {
        name: {key: round(1e3 * value, 4) if key != "runs" else value for key, value in spread(values).items()}
        for name, values in spent.items()
        if values
    }
    middle = {name: float(np.median(values)) for name, values in spent.items() if values}
    for name, seconds in middle.items():
        bench.check(f"tiles_per_s: {name}", 1 / seconds)
    theirs = middle["torchstain macenko"]
    bench.check("macenko_slide_fit_times_torchstain", theirs / middle["ours macenko, slide fit"], ">= 10")
    looked = middle["ours macenko, slide fit, with a look for ink"]
    bench.check("macenko_slide_fit_with_a_look_for_ink_times_torchstain", theirs / looked, None, "as the command does")
    bench.check("macenko_tile_fit_times_torchstain", theirs / middle["ours macenko, tile fit"], ">= 3")
    missing = f"tiatoolbox is not there: {peers.reason or 'set HISTOLATENT_PEERS to a Python that has it'}"
    for method in ("reinhard", "reinhard-ruderman"):
        ours = middle[f"ours {method}, slide fit"]
        quickest = middle.get("tiatoolbox-reinhard")
        ratio = quickest and min(quickest, middle["torchstain reinhard"]) / ours
        bench.check(f"{method}_slide_fit_times_fastest_peer", ratio, ">= 3", "" if quickest else missing)
        bench.check(f"{method}_slide_fit_times_torchstain", middle["torchstain reinhard"] / ours)
    known = middle.get("tiatoolbox-macenko")
    ratio = known and known / middle["ours macenko, slide fit"]
    bench.check("macenko_slide_fit_times_tiatoolbox", ratio, None, "" if known else missing)


def own_fit(tile: np.ndarray, reference: Fit, method: str) -> np.ndarray:
    """Fit and change one tile, even where the change would be refused: a refusal takes no time, and is no work."""
    out, change = normalize_tile(tile, reference, method)
    if isinstance(change, NoChange):
        raise ValueError(change.reason)
    return out


def check_vahadane(bench: Bench, tiles: np.ndarray, target: np.ndarray, peers: Peers, count: int) -> None:
    """Compare vectors and speed with StainTools' method: its mask, its densities, unit vectors, l1 of 0.1."""
    change = slide_change(tiles, target, "vahadane")
    chosen = tiles[:: max(1, len(tiles) // count)][-count:]
    index_of = np.arange(len(tiles))[:: max(1, len(tiles) // count)][-count:]
    spams: dict[int, dict] = {}

    def ask(index: int) -> float | None:
        spams[index] = peers.ask("spams-vahadane", int(index_of[index]))
        return spams[index].get("seconds")

    ways = {
        "ours, slide fit": clocked(lambda tile: recolour(tile, change), chosen),
        "ours, tile fit": clocked(lambda tile: own_vahadane(tile, change), chosen),
        "StainTools by scikit-learn NMF": clocked(factorize, chosen),
    }
    if "spams-vahadane" in peers.methods:
        ways["StainTools' solver, spams"] = ask
    if "tiatoolbox-vahadane" in peers.methods:
        ways["tiatoolbox-vahadane"] = lambda index: peers.ask("tiatoolbox-vahadane", int(index_of[index])).get(
            "seconds"
        )
    spent = in_turn(ways, len(chosen), 1)
    middle = {name: float(np.median(values)) for name, values in spent.items() if values}
    bench.measured["vahadane_milliseconds_per_tile"] = {
        name: {key: round(1e3 * value, 3) if key != "runs" else value for key, value in spread(values).items()}
        for name, values in spent.items()
        if values
    }
    theirs = middle["StainTools by scikit-learn NMF"]
    bench.check("vahadane_slide_fit_times_staintools_equivalent", theirs / middle["ours, slide fit"], ">= 20")
    bench.check("vahadane_tile_fit_times_staintools_equivalent", theirs / middle["ours, tile fit"], ">= 20")
    solver = middle.get("StainTools' solver, spams")
    reason = "" if solver else "spams is not there: no package of this project needs it"
    bench.check("vahadane_tile_fit_times_spams", solver and solver / middle["ours, tile fit"], None, reason)
    check_vectors(bench, chosen, spams)


def check_vectors(bench: Bench, tiles: np.ndarray, spams: dict[int, dict]) -> None:
    """Compare vectors on the same pixels and densities, usable or not; and whose reach the lower loss."""
    degrees, losses, solver = [], [], []
    for index, tile in enumerate(tiles):
        known = spams.get(index, {}).get("vectors")
        if known:
            solver.append(apart(own_vectors(tile, *staintools_pixels(tile)), np.array(known)))
        inside, density = staintools_pixels(tile, 27)
        rows, theirs = own_vectors(tile, inside, density), dictionary(density)
        degrees.append(apart(rows, theirs))
        losses.append(sparse_loss(density, rows) / sparse_loss(density, theirs) - 1)
    bench.measured["vahadane_degrees"] = {"scikit-learn": degrees, "loss_above_scikit-learn": losses, "spams": solver}
    what = f"{len(degrees)} tiles; scikit-learn's online dictionary learning, as StainTools' spams"
    flat = "beyond 3 where the loss is flat: ours is then no larger"
    bench.check("vahadane_degrees_to_staintools_median", float(np.median(degrees)), "<= 3", what)
    bench.check("vahadane_degrees_to_staintools_max", max(degrees), "<= 3", f"{what}; {flat}")
    bench.check("vahadane_degrees_to_staintools_share_within_3", float(np.mean(np.array(degrees) <= 3)))
    bench.check("vahadane_loss_above_staintools_max", max(losses), "<= 1e-4")
    reason = (
        f"{len(solver)} tiles; the solver that StainTools calls, one second a tile" if solver else "spams is not there"
    )
    bench.check("vahadane_degrees_to_spams_median", float(np.median(solver)) if solver else None, "<= 3", reason)
    bench.check("vahadane_degrees_to_spams_max", max(solver) if solver else None, "<= 3", f"{reason}; {flat}")


def own_vectors(tile: np.ndarray, inside: np.ndarray, density: np.ndarray) -> np.ndarray:
    """Return our vectors of the same pixels and densities, before anything is judged."""
    rows = vahadane_vectors(np.ascontiguousarray(tile[inside].T), density.T.astype(np.float32), canonical_vectors())
    return canonical_vectors() if rows is None else rows


def apart(found: np.ndarray, theirs: np.ndarray) -> float:
    """Return the larger angle of two pairs of vectors, in the order that suits better."""
    return min(worst(found, theirs), worst(found, theirs[::-1]))


def own_vahadane(tile: np.ndarray, change: ColourChange) -> np.ndarray:
    """Fit the tile, and change it: by the slide's change, as a tile's own may be refused and then takes no time."""
    fit_tile(tile, "vahadane")
    return recolour(tile, change)


def staintools_pixels(tile: np.ndarray, every: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Return StainTools' mask (CIELab lightness under 0.8), thinned, and its densities (I0 255) as rows."""
    chosen = np.flatnonzero(cv2.cvtColor(tile, cv2.COLOR_RGB2LAB)[..., 0] / 255 < 0.8)[::every]
    inside = np.zeros(tile.shape[:2], bool)
    inside.ravel()[chosen] = True
    return inside, -np.log(np.maximum(tile[inside], 1) / 255)


def factorize(tile: np.ndarray) -> np.ndarray:
    """Do what StainTools does per tile, with scikit-learn's factorisation in place of spams.

    Two atoms by coordinate descent with an l1 penalty on the codes, made unit afterwards, H the redder; codes of all
    pixels with a penalty of 0.01; the 99th percentile; a new tile.
    """
    _, inside = staintools_pixels(tile)
    density = -np.log(np.maximum(tile.reshape(-1, 3), 1) / 255)
    rows = unit_rows(NMF(2, init="nndsvda", alpha_W=0.1 / 3, alpha_H=0.0, l1_ratio=1.0).fit(inside).components_)
    rows = rows if rows[0, 0] > rows[1, 0] else rows[::-1]
    codes, _, _ = non_negative_factorization(
        density, H=np.ascontiguousarray(rows), n_components=2, update_H=False, alpha_W=0.01 / 3, l1_ratio=1.0
    )
    codes /= np.maximum(np.percentile(codes, 99, axis=0), 1e-6)
    return np.clip(255 * np.exp(-codes @ rows), 0, 255).astype(np.uint8)


def dictionary(density: np.ndarray) -> np.ndarray:
    """Return unit vectors by online dictionary learning (Mairal et al. 2009): l1 of 0.1 on the codes, no negatives."""
    learned = MiniBatchDictionaryLearning(
        2,
        alpha=0.1,
        fit_algorithm="cd",
        positive_code=True,
        positive_dict=True,
        dict_init=canonical_vectors(),
        batch_size=32,
        max_iter=20,
        max_no_improvement=None,
        tol=0,
        random_state=0,
    ).fit(density)
    rows = unit_rows(learned.components_)
    return rows if rows[0, 0] > rows[1, 0] else rows[::-1]


def sparse_loss(density: np.ndarray, rows: np.ndarray) -> float:
    """Return what both minimise, with codes by scikit-learn's factorisation."""
    codes, _, _ = non_negative_factorization(
        density, H=np.ascontiguousarray(rows), n_components=2, update_H=False, alpha_W=0.1 / 3, l1_ratio=1.0, tol=1e-6
    )
    return float((0.5 * np.square(density - codes @ rows).sum(axis=1) + 0.1 * codes.sum(axis=1)).mean())


def check_torch(bench: Bench, tiles: np.ndarray, target: np.ndarray) -> None:
    """Time the torch path: on the CPU with one thread, and on an accelerator with batches of 256."""
    import torch

    from histolatent.stain import tensors

    torch.set_num_threads(1)
    for method in ("macenko", "reinhard"):
        change = slide_change(tiles, target, method)
        batch = torch.from_numpy(np.ascontiguousarray(tiles[:32].transpose(0, 3, 1, 2)))
        once = lambda batch=batch, change=change: tensors.recolour(batch, change)  # noqa: E731
        off = np.abs(once()[0].numpy().transpose(1, 2, 0).astype(int) - recolour(tiles[0], change)).max()
        bench.check(f"torch_{method}_largest_difference_to_numpy_levels", off, "<= 1")
        bench.check(f"torch_{method}_cpu_tiles_per_s", len(batch) / np.median([timed(once) for _ in range(5)]))
        if not torch.cuda.is_available():
            for what in ("tiles_per_s", "fraction_of_memory_bandwidth"):
                bench.check(f"torch_{method}_gpu_{what}", None, None, "no accelerator in this run")
            continue
        large = batch.repeat(8, 1, 1, 1)[:256].cuda()

        def on_gpu(large=large, change=change) -> None:
            tensors.recolour(large, change, check=False)
            torch.cuda.synchronize()

        for _ in range(3):
            on_gpu()
        seconds = float(np.median([timed(on_gpu) for _ in range(30)]))
        name = torch.cuda.get_device_name()
        peak = next((value for part, value in PEAK.items() if part in name), None)
        bench.check(f"torch_{method}_gpu_tiles_per_s", len(large) / seconds, None, name)
        moved = 2 * large.numel() / seconds
        bench.check(
            f"torch_{method}_gpu_fraction_of_memory_bandwidth",
            peak and moved / peak,
            None,
            f"uint8 in, uint8 out; {name}",
        )


def timed(work: Callable[[], object]) -> float:
    """Return how long one call takes."""
    clock = time.perf_counter()
    work()
    return time.perf_counter() - clock


if __name__ == "__main__":
    main()
