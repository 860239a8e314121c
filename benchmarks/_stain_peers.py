"""Times peers that another interpreter has: started by `stain.py`, asked for one tile at a time.

Reads the tiles from an .npy file and the target from another, writes which methods it has as JSON, and then answers
each line `METHOD INDEX` with JSON: seconds, and stain vectors where the method has them.
"""

import contextlib
import json
import os
import sys
import time

import cv2
import numpy as np


def main() -> None:
    """Answer until the input ends."""
    cv2.setNumThreads(1)
    tiles, target = np.load(sys.argv[1]), np.load(sys.argv[2])
    answers = os.fdopen(os.dup(1), "w")
    with contextlib.redirect_stdout(sys.stderr):
        methods = find_methods(target)
        print(json.dumps([*methods]), file=answers, flush=True)
        for line in sys.stdin:
            method, index = line.split()
            print(json.dumps(answer(methods[method], tiles[int(index)].copy())), file=answers, flush=True)


def answer(method, tile: np.ndarray) -> dict:
    """Return how long a method takes, or what it raised."""
    try:
        clock = time.perf_counter()
        vectors = method(tile)
        spent = time.perf_counter() - clock
    except Exception as error:  # noqa: BLE001 - whatever a peer raises is an answer
        return {"error": type(error).__name__}
    return {"seconds": spent, "vectors": None if vectors is None else np.asarray(vectors).tolist()}


def find_methods(target: np.ndarray) -> dict:
    """Return what this interpreter can import."""
    methods = {}
    with contextlib.suppress(ImportError):
        from tiatoolbox.tools.stainnorm import get_normalizer

        for name in ("reinhard", "macenko", "vahadane"):
            fitted = get_normalizer(name)
            fitted.fit(target.copy())
            methods[f"tiatoolbox-{name}"] = lambda tile, fitted=fitted: fitted.transform(tile) is None or None
    with contextlib.suppress(ImportError):
        import spams

        methods["spams-vahadane"] = lambda tile: staintools(tile, spams)
    return methods


def staintools(tile: np.ndarray, spams) -> np.ndarray:
    """Do what StainTools does per tile, with the solver that it calls: vectors, codes and a new tile."""
    density = -np.log(np.maximum(tile.reshape(-1, 3), 1) / 255)
    mask = cv2.cvtColor(tile, cv2.COLOR_RGB2LAB)[..., 0].ravel() / 255 < 0.8
    learned = spams.trainDL(
        np.asfortranarray(density[mask].T),
        K=2,
        lambda1=0.1,
        mode=2,
        modeD=0,
        posAlpha=True,
        posD=True,
        verbose=False,
        numThreads=1,
    ).T
    rows = learned if learned[0, 0] > learned[1, 0] else learned[::-1]
    rows = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    codes = spams.lasso(
        np.asfortranarray(density.T), D=np.asfortranarray(rows.T), mode=2, lambda1=0.01, pos=True, numThreads=1
    ).toarray()
    codes *= (1 / np.maximum(np.percentile(codes, 99, axis=1), 1e-6))[:, None]
    np.clip(255 * np.exp(-codes.T @ rows), 0, 255).astype(np.uint8)
    return rows


if __name__ == "__main__":
    main()
