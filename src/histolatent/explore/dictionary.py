"""A sparse dictionary of a space: each vector as a mean and a few of many atoms, which are further directions."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Float, Float32

from .._types import Matrix
from ..errors import InputError, OptionError
from ..spectrum import check_vectors
from .directions import Direction, goes_with
from .stored import Form

ARRAYS = ("mean", "inward", "bias", "atoms", "used", "size")
FORM = Form("histolatent-dictionary", 1, "dictionary", ("k", "scale", "explained", *ARRAYS))
COLUMNS = ("atom", "used", "size", "column", "association", "strongest")
#: An atom that no more than this share of tiles uses is dead.
DEAD = 1e-4
#: A column goes with an atom from this association on.
NEAR = 0.3
Some = Float[np.ndarray, "_m d"]


@dataclass(frozen=True, eq=False)
class Dictionary:
    """A top-k sparse autoencoder: codes are the `k` largest of `scale * (z - mean) @ inward + bias`, not below 0.

    `atoms` are unit vectors, one a row; a vector is about `mean + codes @ atoms / scale`. `explained` is the share of
    the variance that this gives back, `used` the share of tiles that use each atom, `size` its mean code where it is
    used.
    """

    mean: Float32[np.ndarray, " d"]
    scale: float
    inward: Float32[np.ndarray, "d a"]
    bias: Float32[np.ndarray, " a"]
    atoms: Float32[np.ndarray, "a d"]
    k: int
    explained: float
    used: Float[np.ndarray, " a"]
    size: Float[np.ndarray, " a"]

    def __repr__(self) -> str:
        return f"Dictionary({len(self.atoms)} atoms, {self.k} of them a tile, {self.explained:.0%} explained)"

    def codes(self, vectors: Some) -> Float32[np.ndarray, "_m a"]:
        """Return how much of each atom is in each vector: `k` numbers of each row are above 0 at most."""
        if vectors.shape[1] != len(self.mean):
            raise InputError("vectors are of another space", received=vectors.shape[1], valid=len(self.mean))
        raw = ((vectors - self.mean) * self.scale) @ self.inward + self.bias
        least = np.partition(raw, -self.k, axis=1)[:, -self.k][:, None]
        return np.where(raw >= least, np.maximum(raw, 0), 0).astype(np.float32)

    def decode(self, codes: Float[np.ndarray, "_m a"]) -> Float[np.ndarray, "_m d"]:
        """Return the vectors of codes."""
        return self.mean + codes @ self.atoms / self.scale

    def strongest(self, vectors: Some, atom: int, count: int = 9) -> pd.DataFrame:
        """Return the tiles with most of an atom, by their place, and how much of it they have.

        Raises
        ------
        OptionError
            If there is no such atom.
        """
        if not 0 <= atom < len(self.atoms):
            raise OptionError("there is no such atom", received=atom, valid=f"0 to {len(self.atoms) - 1}")
        values = self.codes(vectors)[:, atom]
        order = np.argsort(-values, kind="stable")[:count]
        return pd.DataFrame({"tile": order, "code": values[order]})

    def to_frame(self, vectors: Some, table: pd.DataFrame | None = None, *, count: int = 8) -> pd.DataFrame:
        """Return living atoms, the most used first, with what goes with each and the tiles that have most of it.

        `used` and `size` are as of the dictionary; `column` is that of the table whose `association` with the atom's
        code is largest (`goes_with`); `strongest` are places of `count` tiles, the first with most.
        """
        codes, rows = self.codes(vectors), []
        for atom in np.argsort(-self.used, kind="stable"):
            if self.used[atom] <= DEAD:
                break
            near = {} if table is None else {str(c): goes_with(codes[:, atom], pd.Series(table[c])) for c in table}
            column = max(near, key=lambda name: abs(near[name]), default=None)
            strongest = np.argsort(-codes[:, atom], kind="stable")[:count]
            rows.append(
                (int(atom), self.used[atom], self.size[atom], column, near.get(column or "", np.nan), strongest)
            )
        return pd.DataFrame(rows, columns=pd.Index(COLUMNS))

    def directions(self, vectors: Some, table: pd.DataFrame | None = None, *, least: float = NEAR) -> list[Direction]:
        """Return living atoms as directions, the most used first, named by the column of a table that goes with each.

        A move of 1 is the atom's mean code. Atoms that nothing goes with by `least` keep their numbers as names.
        """
        found = []
        for row in self.to_frame(vectors, table).to_dict("records"):
            atom, name = row["atom"], f"atom {row['atom']}"
            if abs(row["association"]) >= least:
                name += f": {row['column']} ({row['association']:+.2f})"
            step = (self.atoms[atom] * self.size[atom] / self.scale).astype(np.float64)
            read = self.inward[:, atom].astype(np.float64) * self.scale / max(float(self.size[atom]), 1e-12)
            bias = float(self.bias[atom] / max(float(self.size[atom]), 1e-12) - self.mean @ read)
            found.append(Direction(name, step, read, bias, "the atom's mean code", "dictionary"))
        return found


def fit_dictionary(
    vectors: Matrix,
    *,
    atoms: int = 256,
    k: int = 8,
    steps: int = 3000,
    batch_size: int = 256,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Dictionary:
    """Train a top-k sparse autoencoder on the vectors of tiles.

    Atoms are unit vectors. Those that no tile of late batches used are moved to what is left unexplained, so that few
    die. torch's global random state is neither used nor changed. `progress` is told of steps, done and in all.

    Misleads: which atoms come out depends on the seed, the more so the more atoms there are; and an atom that goes with
    an attribute need not be the only one.

    Reference: Makhzani & Frey 2014, ICLR (arXiv 1312.5663); Gao et al. 2024, arXiv 2406.04093.

    Raises
    ------
    InputError
        If there are fewer than two vectors, they are all the same, or not finite.
    OptionError
        If `k` is not from 1 to `atoms`.
    """
    from .sparse import train_dictionary

    check_vectors(vectors)
    if not 1 <= k <= atoms:
        raise OptionError(
            "so many atoms of a tile are not there", received=f"k = {k} of {atoms}", valid=f"1 to {atoms}"
        )
    mean = vectors.mean(axis=0, dtype=np.float64)
    spread = float(np.sqrt(((vectors - mean) ** 2).sum(axis=1).mean()))
    if spread == 0:
        raise InputError("all vectors are the same: there is nothing to take apart")
    given = ((vectors - mean) / spread).astype(np.float32)
    inward, bias, rows = train_dictionary(given, atoms, k, steps, batch_size, seed, progress)
    empty = np.zeros(atoms)
    made = Dictionary(mean.astype(np.float32), 1 / spread, inward, bias, rows, k, 0.0, empty, empty)
    codes = made.codes(vectors)
    left = vectors - made.decode(codes)
    used = (codes > 0).mean(axis=0)
    size = codes.sum(axis=0) / np.maximum((codes > 0).sum(axis=0), 1)
    explained = 1 - float((left**2).sum() / ((vectors - mean) ** 2).sum())
    return Dictionary(made.mean, made.scale, inward, bias, rows, k, explained, used, size.astype(np.float64))


def save_dictionary(
    made: Dictionary,
    folder: str | os.PathLike[str],
    *,
    overwrite: bool = False,
    beside: Callable[[Path], object] | None = None,
) -> Path:
    """Write a dictionary to a folder that `read_dictionary` reads.

    `beside` is called with the folder before it is put in its place, to write files of its own there.

    Raises
    ------
    OutputError
        If the folder exists and not `overwrite`, or is not of a dictionary; or the disk is full.
    """
    document = {"k": made.k, "scale": made.scale, "explained": made.explained}
    return FORM.write(
        Path(folder), document, {name: getattr(made, name) for name in ARRAYS}, overwrite=overwrite, beside=beside
    )


def read_dictionary(folder: str | os.PathLike[str]) -> Dictionary:
    """Read a dictionary that `save_dictionary` wrote.

    Raises
    ------
    InputError
        If it is none, of a later version, or damaged.
    """
    document, arrays = FORM.read(Path(folder))
    return Dictionary(k=document["k"], scale=document["scale"], explained=document["explained"], **arrays)
