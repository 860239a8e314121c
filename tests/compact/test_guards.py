"""Guards say what is wrong with an embedding, and nothing of one that is right."""

import numpy as np
import pytest

from histolatent.compact.guards import explained_by, fatal, judge, look

N, D = 100, 16


def embedding(*, noise=0.1, rank=D, colour=None, seed=0):
    random = np.random.default_rng(seed)
    tiles = random.normal(size=(N, rank)) @ random.normal(size=(rank, D)) if colour is None else colour
    return (tiles[:, None] + noise * random.normal(size=(N, 3, D))).astype(np.float32)


COLOURS = np.random.default_rng(9).uniform(50, 250, size=(N, 6))


def test_a_good_embedding_has_nothing_wrong():
    found = look(embedding(), COLOURS)
    assert judge(found) == []
    assert found.twin_top1 > 0.95 and found.rank > 5 and 0.7 < found.spread < 1.3 and found.colour < 0.1


@pytest.mark.parametrize(
    ("vectors", "guard"),
    [
        (np.full((N, 3, D), 2.0, np.float32), "collapse"),
        (embedding(rank=1, noise=0), "collapse"),
        (embedding(rank=1, noise=1e-3) + 50.0, "collapse"),
        (5 + 1e-4 * embedding(), "collapse"),
        (embedding(colour=COLOURS @ np.random.default_rng(1).normal(size=(6, D)), noise=1.0), "shortcut"),
    ],
)
def test_useless_embeddings_are_fatal(vectors, guard):
    findings = judge(look(vectors, COLOURS))
    assert findings[0].guard == guard and fatal(findings)


def test_training_that_brought_nothing_is_said():
    poor, better = look(embedding(noise=5.0), COLOURS), look(embedding(noise=0.5), COLOURS)
    assert [finding.guard for finding in judge(poor)] == ["under-training"] and not fatal(judge(poor))
    assert judge(better, before=poor) == []
    assert "before training" in judge(poor, before=better)[0].said


def test_what_the_last_map_brings_is_not_taken_for_training():
    untrained, mapped = look(embedding(noise=1.5), COLOURS), look(embedding(noise=0.1), COLOURS)
    assert [finding.guard for finding in judge(mapped, trained=untrained, before=untrained)] == ["under-training"]
    point = look(np.full((N, 3, D), 2.0, np.float32), COLOURS)
    assert [finding.guard for finding in judge(mapped, trained=point, before=untrained)] == ["collapse"]


def test_left_out_residuals_are_those_of_leaving_out():
    random = np.random.default_rng(2)
    colours, vectors = random.normal(size=(20, 2)), random.normal(size=(20, 3))
    scaled = (colours - colours.mean(axis=0)) / colours.std(axis=0)
    x, residual, about = np.column_stack([np.ones(20), scaled]), 0.0, 0.0
    for i in range(20):
        rest = np.arange(20) != i
        gram = x[rest].T @ x[rest] + 1e-3 * 20 * np.diag([0, 1, 1])
        weights = np.linalg.solve(gram, x[rest].T @ vectors[rest])
        residual += ((vectors[i] - x[i] @ weights) ** 2).sum()
        about += ((vectors[i] - vectors[rest].mean(axis=0)) ** 2).sum()
    assert explained_by(colours, vectors) == pytest.approx(1 - residual / about, rel=1e-9)
