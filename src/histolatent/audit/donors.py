"""Tiles of the cohort that a tissue swap takes other tissue from."""

import numpy as np
import pandas as pd

from ..errors import InputError
from ..images import TileSource, known_mpp
from ..perturb import ASSUMED_MPP, Donor, Operation
from ..perturb.donors import LEAST_TISSUE
from ..provenance import stream

DONORS, LOOKED_AT = 8, 48


def find_donors(
    source: TileSource, operations: tuple[Operation, ...], *, seed: int, mpp: float | None
) -> tuple[Donor, ...]:
    """Return up to 8 tiles of the cohort with tissue, or none where no operation needs them.

    They are drawn by the seed, from the labels in turn if there are any, and up to 48 tiles are looked at. Tiles that
    cannot be read are passed over. `mpp` is what is assumed where the table has none.
    """
    if not any(operation.needs_donor for operation in operations):
        return ()
    found = []
    for index in _order(source.table, seed)[:LOOKED_AT]:
        try:
            pixels = source.read(index)
        except InputError:
            continue
        donor = Donor(pixels, known_mpp(source.table, index) or mpp or ASSUMED_MPP, str(source.table.index[index]))
        if donor.tissue >= LEAST_TISSUE:
            found.append(donor)
        if len(found) == DONORS:
            break
    return tuple(found)


def _order(table: pd.DataFrame, seed: int) -> list[int]:
    """Return the rows in an order drawn by the seed, the labels taking turns."""
    drawn = stream(seed, "donors", len(table)).permutation(len(table))
    if "label" not in table:
        return drawn.tolist()
    turn = table["label"].iloc[drawn].astype(str).groupby(table["label"].iloc[drawn].astype(str).to_numpy()).cumcount()
    return drawn[np.argsort(turn.to_numpy(), kind="stable")].tolist()
