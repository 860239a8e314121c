"""Scores: against scikit-learn and longhand, of weighted rows as of repeated ones."""

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import accuracy_score, average_precision_score, balanced_accuracy_score, f1_score, roc_auc_score

from histolatent.benchmark.tasks.scores import FOUND, FROC_RATES, SCORES, TILE


def classes(n=300, seed=0):
    random = np.random.default_rng(seed)
    truth = random.choice(4, n, p=[0.5, 0.3, 0.15, 0.05])
    predicted = np.where(random.random(n) < 0.6, truth, random.integers(4, size=n))
    return pd.DataFrame({"truth": truth, "predicted": predicted, "score": random.normal(size=n) + truth})


def whole(name, rows):
    return float(SCORES[name](rows)(np.ones((1, len(rows))))[0])


def test_scores_of_classes_are_those_of_scikit_learn():
    rows = classes()
    truth, predicted = rows["truth"], rows["predicted"]
    assert whole("balanced accuracy", rows) == pytest.approx(balanced_accuracy_score(truth, predicted))
    assert whole("accuracy", rows) == pytest.approx(accuracy_score(truth, predicted))
    assert whole("macro F1", rows) == pytest.approx(f1_score(truth, predicted, average="macro"))
    two = rows.assign(truth=(truth > 1).astype(int))
    assert whole("AUROC", two) == pytest.approx(roc_auc_score(two["truth"], two["score"]))


def detections(seed=0):
    """Twelve tiles with objects, and what was found in each."""
    random, parts = np.random.default_rng(seed), []
    for unit in range(12):
        objects, found = int(random.integers(0, 5)), int(random.integers(1, 9))
        hits = np.zeros(found, int)
        hits[: min(objects, found)] = random.random(min(objects, found)) < 0.7
        parts.append(
            pd.DataFrame(
                {
                    "unit": unit,
                    "kind": [TILE, *[FOUND] * found],
                    "truth": [objects, *hits],
                    "score": [np.nan, *(hits + random.normal(size=found))],
                    "area_mm2": [0.01, *[0.0] * found],
                }
            )
        )
    rows = pd.concat(parts, ignore_index=True)
    return rows.assign(predicted=(rows["score"] > 0.5).astype(int))


def longhand(rows):
    found = rows[rows["kind"] == FOUND].sort_values("score", ascending=False)
    objects, area = (rows.loc[rows["kind"] == TILE, name].sum() for name in ("truth", "area_mm2"))
    kept = found[found["predicted"] == 1]
    f1 = 2 * kept["truth"].sum() / (len(kept) + objects)
    right, precision = found["truth"].cumsum().to_numpy(), found["truth"].expanding().mean().to_numpy()
    best = np.maximum.accumulate(precision[::-1])[::-1]
    ap = (best * found["truth"]).sum() / objects
    wrong = (1 - found["truth"]).cumsum().to_numpy() / area
    reached = [
        max([r / objects for r, w in zip(right, wrong, strict=True) if w <= rate], default=0) for rate in FROC_RATES
    ]
    return f1, ap, np.mean(reached)


def test_scores_of_detection_are_longhand():
    rows = detections()
    f1, ap, froc = longhand(rows)
    assert whole("F1", rows) == pytest.approx(f1)
    assert whole("AP", rows) == pytest.approx(ap)
    assert whole("FROC", rows) == pytest.approx(froc)


def test_average_precision_is_near_that_of_scikit_learn_where_all_objects_are_found():
    rows = detections(1)
    found = rows["kind"] == FOUND
    hits = rows.loc[found, "truth"].groupby(rows.loc[found, "unit"]).sum()
    rows.loc[~found, "truth"] = hits.reindex(rows.loc[~found, "unit"]).to_numpy()
    plain = average_precision_score(rows.loc[found, "truth"], rows.loc[found, "score"])
    assert plain <= whole("AP", rows) <= plain + 0.1  # ours is of the envelope of the curve


@pytest.mark.parametrize("name", SCORES)
def test_a_weight_of_two_is_a_row_twice(name):
    rows = detections() if name in ("F1", "AP", "FROC") else classes()
    if name == "AUROC":
        rows = rows.assign(truth=(rows["truth"] > 1).astype(int))
    unit = rows["unit"] if "unit" in rows else np.arange(len(rows))
    weights = np.where(np.asarray(unit) % 3 == 0, 2, np.where(np.asarray(unit) % 3 == 1, 1, 0))
    repeated = rows.loc[np.repeat(rows.index, weights)].reset_index(drop=True)
    assert SCORES[name](rows)(weights[None].astype(float))[0] == pytest.approx(whole(name, repeated))


@pytest.mark.parametrize("name", SCORES)
def test_perfect_is_one_and_nothing_is_not(name):
    rows = detections() if name in ("F1", "AP", "FROC") else classes()
    if name in ("F1", "AP", "FROC"):
        tiles = rows[rows["kind"] == TILE]
        found = [
            {"unit": row["unit"], "kind": FOUND, "truth": 1, "score": 1.0, "predicted": 1, "area_mm2": 0.0}
            for row in tiles.to_dict("records")
            for _ in range(int(row["truth"]))
        ]
        perfect = pd.concat([tiles, pd.DataFrame(found)], ignore_index=True)
        assert whole(name, perfect) == pytest.approx(1) and whole(name, tiles) == 0
    else:
        two = rows.assign(truth=(rows["truth"] > 1).astype(int))
        perfect = two.assign(predicted=two["truth"], score=two["truth"].astype(float))
        assert whole(name, perfect) == 1
        assert whole(name, perfect.assign(predicted=1 - perfect["truth"], score=-perfect["score"])) == 0
