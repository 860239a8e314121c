"""An audit of a million vectors of 512 numbers, as a command: how long it takes, and how much memory.

With the defaults neighbours are those of 20,000 tiles among all, searched exactly; then the same with FAISS. Beside
them the search alone, both ways, of 100,000 tiles among themselves. `--full` does no more than `--quick`.
"""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
from _bench import Bench, seconds, start

from histolatent.neighbors import find_neighbors
from histolatent.neighbors.approximate import approximate_neighbors
from histolatent.report import read_result

TILES, WIDTH, SITES, LABELS, SLIDES = 1_000_000, 512, 5, 4, 200
STEP = 50_000
FEWER = 100_000


def main() -> None:
    """Measure and write `results/million.json`."""
    bench = start("million", __doc__ or "")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_vectors(folder)
        bench.measured["setting"] = {"tiles": TILES, "dimensions": WIDTH, "vectors_gb": 4 * TILES * WIDTH / 1e9}
        for how in ("exact", "approximate"):
            audit(bench, folder, how)
        search(bench, folder)
    bench.finish()


def write_vectors(folder: Path) -> None:
    """Write vectors of 32 directions of variation, moved by label and by site, and their table."""
    random = np.random.default_rng(0)
    labels, sites = random.integers(0, LABELS, TILES), random.integers(0, SITES, TILES)
    slides = SLIDES * sites + random.integers(0, SLIDES, TILES)
    mixing = random.normal(size=(32, WIDTH)).astype(np.float32)
    moves = 2 * random.normal(size=(LABELS + SITES, WIDTH)).astype(np.float32)
    vectors = np.lib.format.open_memmap(folder / "vectors.npy", "w+", np.float32, (TILES, WIDTH))
    for first in range(0, TILES, STEP):
        part = slice(first, first + STEP)
        noise = random.normal(size=(STEP, 32)).astype(np.float32) @ mixing
        vectors[part] = noise + moves[labels[part]] + moves[LABELS + sites[part]]
    vectors.flush()
    pd.DataFrame(
        {
            "path": [f"{i}.png" for i in range(TILES)],
            "label": [f"class {code}" for code in labels],
            "site": [f"site {code}" for code in sites],
            "patient": [f"patient {code}" for code in slides],
        }
    ).to_csv(folder / "tiles.csv", index=False)


def search(bench: Bench, folder: Path) -> None:
    """Time both searches among the first tiles, with all that the audit asks of them."""
    vectors = np.load(folder / "vectors.npy", mmap_mode="r")[:FEWER]
    table = pd.read_csv(folder / "tiles.csv", nrows=FEWER)
    codes = {name: np.unique(table[name], return_inverse=True)[1] for name in ("label", "site", "patient")}
    how = {"labels": codes["label"], "confounders": codes["site"], "groups": codes["patient"]}
    exact = seconds(lambda: find_neighbors(vectors, 89, **how))
    recall: dict[str, float] = {}
    fast = seconds(lambda: recall.update(approximate_neighbors(vectors, 89, **how).recall))
    bench.measured["search"] = {"tiles": FEWER, "exact_s": exact, "approximate_s": fast, "recall": recall}
    bench.check("exact_search_s", exact, None, f"{FEWER:,} tiles, 89 neighbours and 5 of each type")
    bench.check("approximate_search_times_faster", exact / fast, None, "FAISS, 32 lists of each cell")
    bench.check("approximate_recall_plain", recall["plain"])


def largest_memory(command: list[str]) -> float:
    """Run a command to its end, and say how many GB it held at most: this process alone, not those before it."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    return usage.ru_maxrss * 1024 / 1e9


def audit(bench: Bench, folder: Path, name: str) -> None:
    """Run the command, and record minutes, the largest memory of the process, and the recall that it states."""
    out = folder / name
    command = [sys.executable, "-m", "histolatent", "audit", str(folder / "tiles.csv"), "--no-baseline", "--quiet"]
    command += ["--encoder", f"npy:{folder / 'vectors.npy'}", "--out", str(out), "--neighbors", name]
    clock = time.perf_counter()
    peak = largest_memory(command)
    spent = time.perf_counter() - clock
    (encoder,) = read_result(out).encoders
    figures = {f"{item.metric}, {item.column}": item.figure.value for item in encoder.space}
    bench.measured[name] = {"seconds": spent, "largest_memory_gb": peak, "figures": figures}
    bench.check(f"{name}_minutes", spent / 60)
    bench.check(f"{name}_largest_memory_gb", peak, "< 16")
    found = [item.recall for item in encoder.space if item.recall is not None]
    if found:
        bench.check(f"{name}_recall", min(found), None, "share of the exact neighbours of 500 tiles that were found")


if __name__ == "__main__":
    main()
