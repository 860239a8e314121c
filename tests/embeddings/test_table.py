"""The embedding table: what it accepts, what it refuses, and its card."""

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData

from histolatent.embeddings import card_of, check_vectors, make_table, obs_of, tidy_obs
from histolatent.errors import InputError


def vectors(n: int = 3, d: int = 4) -> np.ndarray:
    return np.arange(n * d, dtype=np.float32).reshape(n, d)


def test_a_table_holds_what_was_given():
    obs = pd.DataFrame({"label": ["b", None, "a"], "mpp": [0.5, np.nan, 0.25]}, index=[7, 8, 9])
    table = make_table(vectors(), obs, {"encoder": {"name": "é"}}, views={"blur@1": vectors() + 1})
    np.testing.assert_array_equal(np.asarray(table.X), vectors())
    np.testing.assert_array_equal(np.asarray(table.layers["blur@1"]), vectors() + 1)
    assert list(table.obs_names) == ["7", "8", "9"]
    assert card_of(table) == {"encoder": {"name": "é"}, "format": 1}
    assert obs_of(table)["label"].tolist()[0] == "b"
    assert obs_of(table)["label"].isna().tolist() == [False, True, False]
    assert list(obs.index) == [7, 8, 9]  # the caller's frame is not touched


@pytest.mark.parametrize(
    ("array", "ids", "message"),
    [
        (vectors(), ["a", "b"], r"3 vectors for 2 tiles. Fix: give one row per tile"),
        (vectors(), ["a", "b", "a"], r"tile ids stand more than once. Received: a"),
        (vectors()[0], ["a"], r"must be a float array \(n, d\). Received: float32 \(4,\)"),
        (vectors().astype(int), ["a", "b", "c"], r"must be a float array \(n, d\). Received: int64"),
        (np.where(vectors() == 5, np.nan, vectors()), ["a", "b", "c"], r"1 of 3 vectors hold NaN.*Received: b. Fix"),
        (
            np.where(vectors() > 3, -np.inf, vectors()),
            ["a", "b", "c"],
            r"2 of 3 vectors .*infinite.*Received: b, c. Fix",
        ),
    ],
)
def test_vectors_that_cannot_be_used(array, ids, message):
    with pytest.raises(InputError, match=message):
        check_vectors(array, ids)


def test_views_are_checked_like_vectors():
    broken = vectors()
    broken[2, 1] = np.inf
    with pytest.raises(InputError, match=r"1 of 3 vectors hold NaN or infinite.*Received: c"):
        make_table(vectors(), pd.DataFrame(index=list("abc")), {}, views={"blur": broken})


def test_columns_become_what_every_form_can_hold():
    obs = pd.DataFrame(
        {
            "mixed": [1, "a", None],
            "flag": [True, None, False],
            "day": pd.to_datetime(["2020-01-02", None, "2021-01-01"]),
            "H/E ratio": [1.0, 2.0, 3.0],
            4: [1, 2, 3],
        }
    )
    tidy = tidy_obs(obs)
    assert list(tidy.columns) == ["mixed", "flag", "day", "H_E ratio", "4"]
    assert tidy["mixed"].tolist()[:2] == ["1", "a"]
    assert tidy["flag"].tolist()[::2] == ["True", "False"]
    assert tidy["day"].tolist()[0].startswith("2020-01-02")
    assert tidy.isna().sum().tolist() == [1, 1, 1, 0, 0]


@pytest.mark.parametrize("columns", [["a/b", "a_b"], ["_index", "c"]])
def test_columns_that_no_table_can_hold(columns):
    with pytest.raises(InputError, match=r"a table cannot hold the column '(a_b|_index)'"):
        tidy_obs(pd.DataFrame([[1, 2]], columns=columns))


def test_cards_that_are_none():
    with pytest.raises(InputError, match=r"no provenance card. Valid: uns\['histolatent'\]. Fix: make it with"):
        card_of(AnnData(np.zeros((1, 1), np.float32)))
    with pytest.raises(InputError, match=r"another format. Received: 2. Valid: 1"):
        card_of(AnnData(np.zeros((1, 1), np.float32), uns={"histolatent": '{"format": 2}'}))
    with pytest.raises(InputError, match=r"card is not JSON. Received: rubbish"):
        card_of(AnnData(np.zeros((1, 1), np.float32), uns={"histolatent": "rubbish"}))
