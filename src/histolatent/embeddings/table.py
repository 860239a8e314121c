"""The noun: an AnnData with one row per tile, vectors in `X`, the provenance card in `uns`."""

import json
from collections.abc import Mapping
from typing import Any, cast

import numpy as np
import pandas as pd
from anndata import AnnData

from .._types import Vectors
from ..errors import InputError
from ..provenance import canonical_json

KEY = "histolatent"
FORMAT = 1


def make_table(
    vectors: Vectors, obs: pd.DataFrame, card: Mapping[str, Any], *, views: Mapping[str, Vectors] | None = None
) -> AnnData:
    """Build an embedding table.

    `vectors` is `(n, d)` float32, `obs` has one row per tile indexed by tile id, `card` is JSON-able. `views` are
    further embeddings of the same tiles, such as perturbed ones; they become layers.

    Raises
    ------
    InputError
        If the lengths differ, an id stands twice, or a vector is not finite (which ones is said).

    >>> table = make_table(np.ones((2, 3), np.float32), pd.DataFrame(index=["a", "b"]), {"encoder": "example"})
    >>> table.shape, card_of(table)["encoder"]
    ((2, 3), 'example')
    """
    check_vectors(vectors, [str(name) for name in obs.index])
    tidy = obs.copy()
    for column in tidy.columns:
        # Text is stored as categories: missing values survive every format that AnnData writes.
        if pd.api.types.is_object_dtype(tidy[column]) or pd.api.types.is_string_dtype(tidy[column]):
            tidy[column] = pd.Categorical(tidy[column])
    tidy.index = tidy.index.astype(str)
    table = AnnData(X=np.ascontiguousarray(vectors, dtype=np.float32), obs=tidy)
    for name, view in (views or {}).items():
        table.layers[name] = np.ascontiguousarray(view, dtype=np.float32)
    table.uns[KEY] = canonical_json({**card, "format": FORMAT})
    return table


def check_vectors(vectors: np.ndarray, ids: list[str]) -> None:
    """Raise InputError unless `vectors` is a finite `(n, d)` array with one unique id a row."""
    if vectors.ndim != 2 or vectors.dtype.kind != "f":
        raise InputError("vectors must be a float array (n, d)", received=f"{vectors.dtype} {tuple(vectors.shape)}")
    if len(vectors) != len(ids):
        raise InputError(f"{len(vectors)} vectors for {len(ids)} tiles", fix="give one row per tile, in the same order")
    seen = pd.Index(ids)
    if not seen.is_unique:
        raise InputError("tile ids stand more than once", received=", ".join(seen[seen.duplicated()].unique()[:3]))
    finite = np.isfinite(vectors).all(axis=1)
    if not finite.all():
        wrong = np.flatnonzero(~finite)
        raise InputError(
            f"{len(wrong)} of {len(vectors)} vectors hold NaN or infinite numbers",
            received=", ".join(ids[i] for i in wrong[:3]),
            fix="embed these tiles again (float16 overflow is the usual cause) or leave them out",
        )


def obs_of(table: AnnData) -> pd.DataFrame:
    """Return the rows of an in-memory table as the data frame that they are."""
    return cast(pd.DataFrame, table.obs)


def card_of(table: AnnData) -> dict[str, Any]:
    """Return the provenance card of an embedding table.

    Raises
    ------
    InputError
        If it has none, or a newer format.
    """
    if KEY not in table.uns:
        raise InputError(
            "this AnnData has no provenance card", valid=f"uns[{KEY!r}]", fix="make it with histolatent embed"
        )
    card = json.loads(str(table.uns[KEY]))
    if card.get("format") != FORMAT:
        raise InputError(
            "this table was written in another format", received=card.get("format"), valid=FORMAT, fix="upgrade"
        )
    return card
