"""Neighbour metrics and cross-scanner retrieval beside croma, scib-metrics and plismbench's way.

`check_neighbours` is a part of `audit.py`. Peers run in the interpreter that HISTOLATENT_PEERS names.
"""

import json
import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from _bench import Bench, seconds, spread
from _neighbour_peers import full_matrix_seconds

from histolatent.audit.mixing import acceptance, local_mixing
from histolatent.audit.robustness import margin_index, robustness_index, robustness_margin
from histolatent.audit.silhouettes import batch_silhouettes
from histolatent.neighbors import approximate_neighbors, cross_retrieval, find_neighbors

HERE = Path(__file__).parent
TILES, DIM, PAIRS = 20_400, 768, 8_139
K, M = 50, 5


def check_neighbours(bench: Bench, *, tiles: int = TILES, pairs: int = PAIRS, repeats: int = 3) -> None:
    """Measure agreement with the peers, time against them, and memory."""
    with tempfile.TemporaryDirectory() as folder:
        check_robustness(bench, Path(folder), tiles, repeats)
        check_mixing(bench, Path(folder), min(tiles, 2000))
    check_retrieval(bench, pairs, repeats)
    check_approximate(bench, tiles)


def planted(n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return vectors of four labels at five sites with 40 slides each, and the codes."""
    random = np.random.default_rng(seed)
    labels, sites = random.integers(0, 4, n), random.integers(0, 5, n)
    slides = 40 * sites + random.integers(0, 40, n)
    shared = random.normal(size=(n, 32)) @ random.normal(size=(32, DIM))
    offsets = 2 * random.normal(size=(4, DIM))[labels] + 2 * random.normal(size=(5, DIM))[sites]
    return (shared + offsets + random.normal(size=(n, DIM))).astype(np.float32), labels, sites, slides


def ours(vectors: np.ndarray, labels: np.ndarray, sites: np.ndarray, slides: np.ndarray) -> dict[str, float]:
    """Return the three figures from one pass."""
    near = find_neighbors(vectors, K, m=M, labels=labels, confounders=sites, groups=slides)
    index, weighted, margin = robustness_index(near, K), margin_index(near, K), robustness_margin(near, M)
    return {
        "ri": index.value,
        "mari": weighted.value,
        "tau": weighted.tau,
        "croma": margin.median,
        "worst": margin.worst,
        "confounded": margin.confounded,
    }


def ask(what: str, folder: Path, **data: np.ndarray) -> dict:
    """Return what a peer says, or the reason why it says nothing."""
    path = folder / f"{what}.npz"
    np.savez(path, **data)
    python = os.environ.get("HISTOLATENT_PEERS", sys.executable)
    done = subprocess.run(
        [python, HERE / "_neighbour_peers.py", path, what], capture_output=True, text=True, check=False
    )
    if done.returncode:
        return {"reason": f"{what} did not run: {(done.stderr.strip().splitlines() or ['no message'])[-1]}"}
    return json.loads(done.stdout.splitlines()[-1])


def check_robustness(bench: Bench, folder: Path, tiles: int, repeats: int) -> None:
    """Compare RI, MaRI and CRoMa with croma's: figures where it multiplies in float64, time where in float32."""
    data = planted(tiles)
    codes = dict(zip(("labels", "confounders", "groups"), data[1:], strict=True))
    found: dict[str, float] = {}
    first = seconds(lambda: found.update(ours(*data)))
    peer = ask("croma", folder, vectors=data[0], k=K, m=M, **codes)
    reason = peer.get("reason", "")
    exact = {} if reason else ask("croma", folder, vectors=data[0].astype(float), k=K, m=M, **codes)
    reason = reason or exact.get("reason", "")
    gap = None if reason else max(abs(found[name] - exact[name]) for name in found)
    bench.check("robustness_largest_difference_to_croma", gap, "<= 1e-9", reason or f"{tiles} tiles")
    spent = [first, *(seconds(lambda: ours(*data)) for _ in range(repeats - 1))]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
    bench.measured["robustness"] = {"tiles": tiles, "dim": DIM, "k": K, "m": M, "ours_s": spread(spent), "croma": peer}
    bench.check("robustness_one_pass_s", spread(spent)["median"])
    ratio = None if reason else sum(peer["seconds"].values()) / spread(spent)["median"]
    bench.check("robustness_times_faster_than_croma", ratio, ">= 8", reason)
    bench.check("robustness_peak_gb", peak, "< 1.5", "the whole process")
    gap = None if reason else abs(found["ri"] - peer["ri"])
    rounding = "croma multiplies in float32, so that a neighbour at the edge may change; ours is that of float64"
    bench.check("robustness_ri_difference_to_croma_float32", gap, None, reason or rounding)


def check_mixing(bench: Bench, folder: Path, tiles: int) -> None:
    """Compare LISI, kBET and silhouettes with scib-metrics in float64."""
    vectors, labels, sites, _ = planted(tiles, seed=2)
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(float)
    near = find_neighbors(vectors, 89, metric="euclidean")
    itself = np.arange(tiles)[:, None]
    data = {
        "index": np.hstack([itself, near.plain.index]),
        "distance": np.hstack([0.0 * itself, near.plain.distance]),
        "k": K,
    }
    theirs = ask("scib", folder, vectors=vectors, labels=labels, confounders=sites, **data)
    silhouettes = {name: batch_silhouettes(vectors, sites, labels, metric=name) for name in ("cosine", "euclidean")}
    tested = acceptance(near, sites, k=K)
    mine = {
        "ilisi": local_mixing(near, sites).ilisi,
        "clisi": local_mixing(near, labels).clisi,
        "kbet": tested.value,
        "kbet_p": float(tested.p_value.mean()),
        **{f"plain_{name}": one.mean for name, one in silhouettes.items()},
        **{f"scib_{name}": one.scib for name, one in silhouettes.items()},
    }
    bench.measured["mixing"] = {"tiles": tiles, "ours": mine, "scib-metrics": theirs}
    for name, value in mine.items():
        gap = abs(value - theirs[name]) if name in theirs else None
        bench.check(f"{name}_difference_to_scib_metrics", gap, "<= 1e-6", theirs.get("reason", ""))


def check_retrieval(bench: Bench, pairs: int, repeats: int) -> None:
    """Compare cross-scanner figures with float64, and time with the float16 full-matrix way."""
    random = np.random.default_rng(3)
    tissue, scanner, mixing = (random.normal(size=size) for size in ((pairs, 64), (pairs, 64), (64, DIM)))
    first, second = ((part @ mixing).astype(np.float32) for part in (tissue, tissue + 2 * scanner + 1))
    first, second = (800 * part / np.linalg.norm(part, axis=1, keepdims=True) for part in (first, second))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    spent = [seconds(lambda: cross_retrieval(first, second)) for _ in range(repeats)]
    found = cross_retrieval(first, second)
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    blocks = np.array_split(np.arange(pairs), pairs // 500)
    whole = [by_hand(first.astype(float), second.astype(float), some) for some in blocks]
    gap = np.abs(found.hits - np.concatenate(whole)).max()
    bench.check("retrieval_largest_difference_to_float64", float(gap), "== 0", f"{pairs} pairs, pool of all")
    exact = np.einsum("nd,nd->n", *(part.astype(float) for part in (first, second)))
    exact /= np.linalg.norm(first.astype(float), axis=1) * np.linalg.norm(second.astype(float), axis=1)
    gap = np.abs(found.cosine - exact).max()
    bench.check("cross_cosine_largest_difference_to_float64", float(gap), "<= 1e-6", "of float32 vectors")
    bench.check("retrieval_not_finite", float((~np.isfinite(found.cosine)).sum()), "== 0", "vectors of norm 800")
    theirs = full_matrix_seconds(first / 800, second / 800, 24)
    middle = spread(spent)["median"]
    bench.measured["retrieval"] = {"pairs": pairs, "dim": DIM, "ours_s": spread(spent), "full_matrix_s": theirs}
    bench.measured["retrieval"]["accuracy"] = found.accuracy()
    bench.check("retrieval_s", middle)
    bench.check("retrieval_times_faster_than_float16_matrix", theirs / middle, ">= 100", "theirs from 24 rows, scaled")
    peak = (after if after > before else before) * 1024 / 1e9
    bench.check("retrieval_peak_gb", peak, "< 1", "the whole process, with what ran before")


def by_hand(first: np.ndarray, second: np.ndarray, some: np.ndarray) -> np.ndarray:
    """Return hits of chosen pairs by a full float64 sort."""
    units = [rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (first, second)]
    hits = np.zeros((len(some), 4))
    for query, other in (units, units[::-1]):
        similarity = query[some] @ np.concatenate([other, query]).T
        own = similarity[np.arange(len(some)), some].copy()
        similarity[np.arange(len(some)), some + len(first)] = -np.inf
        rank = (similarity > own[:, None]).sum(axis=1)
        hits += 0.5 * (rank[:, None] < np.array([1, 3, 5, 10]))
    return hits


def check_approximate(bench: Bench, tiles: int) -> None:
    """State recall and time of the approximate search, of plain neighbours: small cells are searched whole."""
    vectors, _, _, slides = planted(tiles)
    found = {}

    def search() -> None:
        near = approximate_neighbors(vectors, K, groups=slides)
        found.update(near.recall)

    bench.measured["approximate"] = {"tiles": tiles, "seconds": seconds(search), "recall": found}
    bench.check("approximate_recall_plain", found["plain"])


if __name__ == "__main__":
    alone = Bench("audit-neighbours", "quick")
    check_neighbours(alone)
    print(json.dumps(alone.measured, indent=1))
