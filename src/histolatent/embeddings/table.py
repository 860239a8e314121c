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
        If the lengths differ, an id stands twice, a vector is not finite (which ones is said), or a column of `obs` has
        a name that no file can hold.

    >>> table = make_table(np.ones((2, 3), np.float32), pd.DataFrame(index=["a", "b"]), {"encoder": "example"})
    >>> table.shape, card_of(table)["encoder"]
    ((2, 3), 'example')
    """
    check_vectors(vectors, [str(name) for name in obs.index])
    table = AnnData(X=np.ascontiguousarray(vectors, dtype=np.float32), obs=tidy_obs(obs))
    for name, view in (views or {}).items():
        check_vectors(view, list(table.obs_names))
        table.layers[name] = np.ascontiguousarray(view, dtype=np.float32)
    table.uns[KEY] = canonical_json({**card, "format": FORMAT})
    return table


def tidy_obs(obs: pd.DataFrame) -> pd.DataFrame:
    """Return `obs` as every form of table can hold it.

    Ids become text. Text, dates and mixed columns become categories of text, whose missing values survive every form
    that AnnData writes. A `/` in a column name, which would be a folder in Zarr and HDF5, becomes `_`.

    Raises
    ------
    InputError
        If two columns have one name then, or one is called `_index`.
    """
    tidy = obs.copy()
    tidy.columns = pd.Index([str(column).replace("/", "_") for column in tidy.columns])
    wrong = [*tidy.columns[tidy.columns.duplicated()], *(column for column in tidy.columns if column == "_index")]
    if wrong:
        raise InputError(
            f"a table cannot hold the column {wrong[0]!r}", fix="rename it: it stands twice, or is reserved"
        )
    for column in tidy.columns:
        kind = tidy[column].dtype
        if pd.api.types.is_object_dtype(kind) or pd.api.types.is_string_dtype(kind) or kind.kind in "mM":
            tidy[column] = pd.Categorical(tidy[column].map(str, na_action="ignore"))
    tidy.index = tidy.index.astype(str)
    return tidy


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
        If it has none, one that is not JSON, or another format.
    """
    if KEY not in table.uns:
        raise InputError(
            "this AnnData has no provenance card", valid=f"uns[{KEY!r}]", fix="make it with histolatent embed"
        )
    try:
        card = json.loads(str(table.uns[KEY]))
    except ValueError:
        raise InputError("the provenance card is not JSON", received=str(table.uns[KEY])[:60]) from None
    if card.get("format") != FORMAT:
        raise InputError(
            "this table was written in another format", received=card.get("format"), valid=FORMAT, fix="upgrade"
        )
    return card
