"""Neighbour metrics of the peers, in an interpreter that has them: started by `_audit_neighbours.py`.

Reads vectors and codes from an .npz file, runs one peer (`croma` or `scib`), and prints one JSON object: figures, and
the seconds that each call took. The figures of plismbench's way are at the end, as plain NumPy.
"""

import json
import logging
import resource
import sys
import time
import warnings

import numpy as np


def main() -> None:
    """Run the peer that the second argument names."""
    warnings.simplefilter("ignore")
    logging.disable(logging.CRITICAL)
    data = dict(np.load(sys.argv[1]))
    found = {"croma": run_croma, "scib": run_scib}[sys.argv[2]](**data)
    found["peak_gb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
    print(json.dumps(found))


def clocked(seconds: dict, name: str, work):
    """Return what the call returns, and note how long it took."""
    clock = time.perf_counter()
    value = work()
    seconds[name] = time.perf_counter() - clock
    return value


def run_croma(vectors, labels, confounders, groups, k, m) -> dict:
    """Call RI, MaRI and CRoMa of croma as its documentation does, with one k."""
    import croma
    import pandas as pd

    n = len(vectors)
    manifest = pd.DataFrame(
        {
            "sample_id": np.arange(n).astype(str),
            "image_path": "none",
            "label": labels.astype(str),
            "group_id": groups.astype(str),
            "site": confounders.astype(str),
        }
    )
    seconds: dict = {}
    some = {"confounder_column": "site"}
    ri = clocked(seconds, "ri", lambda: croma.RI.compute(vectors, manifest, k_candidates=[int(k)], **some))
    mari = clocked(seconds, "mari", lambda: croma.MaRI.compute(vectors, manifest, k_candidates=[int(k)], **some))
    margin = clocked(seconds, "croma", lambda: croma.CRoMa.compute(vectors, manifest, m=int(m), **some))
    return {
        "ri": ri.value,
        "mari": mari.value,
        "tau": mari.tau,
        "croma": margin.value,
        "worst": margin.ltm_alpha,
        "confounded": margin.f0,
        "seconds": seconds,
    }


def run_scib(vectors, labels, confounders, index, distance, k) -> dict:
    """Call LISI, kBET and silhouettes of scib-metrics in float64; neighbours are given, the tile itself first."""
    import jax

    jax.config.update("jax_enable_x64", True)
    import scib_metrics
    from scib_metrics.nearest_neighbors import NeighborsResults

    near = NeighborsResults(indices=index, distances=distance)
    seconds: dict = {}
    ilisi = clocked(seconds, "ilisi", lambda: scib_metrics.ilisi_knn(near, confounders, perplexity=30))
    clisi = clocked(seconds, "clisi", lambda: scib_metrics.clisi_knn(near, labels, perplexity=30))
    kbet = clocked(seconds, "kbet", lambda: scib_metrics.kbet(near.subset_neighbors(int(k)), confounders))
    found = {"ilisi": float(ilisi), "clisi": float(clisi), "kbet": float(kbet[0]), "kbet_p": float(np.mean(kbet[2]))}
    for metric in ("cosine", "euclidean"):
        found[f"plain_{metric}"] = clocked(
            seconds,
            f"plain_{metric}",
            lambda metric=metric: float(
                scib_metrics.silhouette_label(vectors, confounders, rescale=False, metric=metric)
            ),
        )
        found[f"scib_{metric}"] = clocked(
            seconds,
            f"scib_{metric}",
            lambda metric=metric: float(scib_metrics.silhouette_batch(vectors, labels, confounders, metric=metric)),
        )
    return {**found, "seconds": seconds}


def full_matrix_seconds(first: np.ndarray, second: np.ndarray, rows: int) -> float:
    """Return how long plismbench's way would take in float16 on a CPU, from the first `rows` rows of its matrices.

    Its cosine takes the diagonal of an n x n product, its top-k one of 2n x 2n which is then partitioned; time is
    linear in rows, so that of a few is scaled up.
    """
    first, second = first.astype(np.float16), second.astype(np.float16)
    both = np.concatenate([first, second])
    clock = time.perf_counter()
    norms = np.linalg.norm(first[:rows], axis=1, keepdims=True), np.linalg.norm(second, axis=1, keepdims=True)
    _ = first[:rows] @ second.T / (norms[0] * norms[1].T)
    cosine = time.perf_counter() - clock
    clock = time.perf_counter()
    norms = np.linalg.norm(both[:rows], axis=1, keepdims=True), np.linalg.norm(both, axis=1, keepdims=True)
    similarity = both[:rows] @ both.T / (norms[0] * norms[1].T)
    _ = np.argpartition(-similarity, range(1, 11), axis=1)[:, 1:11]
    return cosine * len(first) / rows + (time.perf_counter() - clock) * len(both) / rows


if __name__ == "__main__":
    main()
