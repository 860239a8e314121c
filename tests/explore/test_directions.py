"""Planted directions are found, confounders told, cards right; what a direction leaves alone; names."""

import numpy as np
import pandas as pd
import pytest

from histolatent.errors import InputError, OptionError
from histolatent.explore.directions import (
    Direction,
    commutator,
    goes_with,
    name_directions,
    principal_directions,
    side_effects,
)
from histolatent.report.exploring import in_words

CLASSES = ("difference", "lda", "logistic", "svm")


def planted(n=400, d=16, seed=0):
    """Two orthogonal attributes, one of classes and one of numbers, in noise that is correlated."""
    random = np.random.default_rng(seed)
    axes = np.linalg.qr(random.normal(size=(d, d)))[0]
    label = random.integers(2, size=n)
    size = random.normal(5, 2, size=n)
    noise = random.normal(size=(n, d)) @ (axes * np.linspace(1.5, 0.3, d)) @ axes.T
    z = noise + 4 * label[:, None] * axes[2] + 1.5 * size[:, None] * axes[5]
    return z.astype(np.float32), label, size, axes, np.arange(n) // 20


def cosine(first, second):
    return float(first @ second / np.linalg.norm(first) / np.linalg.norm(second))


@pytest.mark.parametrize("kind", CLASSES)
def test_a_planted_class_is_found_in_units_of_its_gap(kind):
    z, label, _, axes, groups = planted()
    names = np.where(label == 1, "tumour", "normal").tolist()
    found = Direction.fit(z, names, name="grade", kind=kind, groups=groups)
    assert cosine(found.vector, axes[2]) > 0.95
    assert found.vector @ axes[2] == pytest.approx(4, abs=0.8)
    assert found.positive == "tumour" and found.unit == "from normal to tumour"
    assert found.card.reads > 0.9 and found.card.believable and found.card.percentile > 0.9
    assert found.card.shuffled < 0.65 and found.card.groups == 20
    other = Direction.fit(z, names, name="grade", kind=kind, groups=groups, positive="normal")
    assert cosine(found.vector, other.vector) == pytest.approx(-1, abs=1e-3)


def test_of_three_classes_one_is_led_to_from_another_or_from_all():
    z, label, _, axes, groups = planted()
    names = np.where(label == 1, "tumour", np.where(np.arange(len(z)) % 3 == 0, "fat", "stroma")).tolist()
    names[0] = None
    whole = Direction.fit(z, names, name="label", groups=groups, positive="tumour")
    part = Direction.fit(z, names, name="label", groups=groups, positive="tumour", negative="fat")
    assert whole.unit == "from not tumour to tumour" and part.unit == "from fat to tumour"
    assert whole.card.tiles == len(z) - 1 and part.card.tiles == sum(name in ("tumour", "fat") for name in names)
    assert min(cosine(each.vector, axes[2]) for each in (whole, part)) > 0.95


@pytest.mark.parametrize("kind", ["difference", "ridge"])
def test_a_planted_number_is_found_in_its_units(kind):
    z, _, size, axes, groups = planted()
    found = Direction.fit(z, size.tolist(), name="size", kind=kind, groups=groups)
    assert cosine(found.vector, axes[5]) > 0.95 and found.vector @ axes[5] == pytest.approx(1.5, abs=0.2)
    assert found.card.score == "correlation" and found.card.reads > 0.85 and abs(found.card.shuffled) < 0.25
    assert found.value(z).mean() == pytest.approx(size.mean(), abs=0.1)
    moved = found.value(z + found.vector) - found.value(z)
    assert moved.mean() == pytest.approx(1, abs=0.15)


def test_an_amount_for_a_probability_gives_that_probability():
    z, label, size, _, _ = planted()
    found = Direction.fit(z, label.tolist(), name="label", kind="logistic")
    for wanted in (0.1, 0.5, 0.99):
        moved = z[3] + found.amount_for(z[3], wanted) * found.vector
        assert 1 / (1 + np.exp(-found.value(moved))) == pytest.approx(wanted)
    with pytest.raises(OptionError, match="between 0 and 1"):
        found.amount_for(z[0], 1)
    with pytest.raises(OptionError, match="two classes"):
        Direction.fit(z, size.tolist(), name="size").amount_for(z[0], 0.5)


def test_confounders_are_adjusted_for_and_perfect_ones_refused():
    z, label, _, axes, groups = planted()
    random = np.random.default_rng(1)
    site = np.where(random.random(len(label)) < 0.85, label, 1 - label)  # most tumours come from one site
    z = z + 6 * site[:, None].astype(np.float32) * axes[9].astype(np.float32)
    plain = Direction.fit(z, label.tolist(), name="label", groups=groups)
    adjusted = Direction.fit(z, label.tolist(), name="label", groups=groups, confounders={"site": site.tolist()})
    assert abs(cosine(plain.vector, axes[9])) > 0.6 > 0.2 > abs(cosine(adjusted.vector, axes[9]))
    assert cosine(adjusted.vector, axes[2]) > 0.95 and 0.3 < adjusted.card.explained < 0.8
    with pytest.raises(InputError, match=r"label cannot be told from site, which tells 100%.*force=True"):
        Direction.fit(z, label.tolist(), name="label", confounders={"site": label.tolist()})
    forced = Direction.fit(z, label.tolist(), name="label", confounders={"site": label.tolist()}, force=True)
    assert forced.notes == ("told by site to 100%, and not adjusted for it",)


@pytest.mark.parametrize("kind", [*CLASSES, "ridge"])
def test_every_kind_is_adjusted_for_confounders(kind):
    """The confounder has a direction of its own, and goes with the attribute."""
    z, label, size, axes, groups = planted(n=800)
    random = np.random.default_rng(1)
    y, own, told = (size, axes[5], size > 5) if kind == "ridge" else (label, axes[2], label)
    site = np.where(random.random(len(y)) < 0.85, told, 1 - told)
    z = z + 12 * site[:, None].astype(np.float32) * axes[9].astype(np.float32)
    given = {"name": "y", "kind": kind, "groups": groups}
    plain = Direction.fit(z, y.tolist(), **given)
    found = Direction.fit(z, y.tolist(), confounders={"site": [f"s{each}" for each in site]}, **given)
    assert abs(cosine(plain.vector, axes[9])) > 0.5 > 0.15 > abs(cosine(found.vector, axes[9]))
    assert cosine(found.vector, own) > 0.9
    if kind == "difference":  # the coefficient of the attribute in a regression on both
        design = np.column_stack([np.ones(len(y)), site, y])
        np.testing.assert_allclose(found.vector, np.linalg.lstsq(design, z.astype(float), rcond=None)[0][2], atol=1e-8)


def test_sites_by_numbers_are_categories():
    z, label, _, _, _ = planted()
    # Of three sites the middle one has all tumours: no line through 0, 1, 2 tells that.
    site = np.where(label == 1, 1, np.where(np.arange(len(label)) % 2, 0, 2))
    for values in (site.tolist(), site.astype(float).tolist()):
        with pytest.raises(InputError, match="label cannot be told from site, which tells 100%"):
            Direction.fit(z, label.tolist(), name="label", confounders={"site": values})
    age = np.random.default_rng(0).integers(20, 90, size=len(label))
    kept = Direction.fit(z, label.tolist(), name="label", confounders={"age": age.tolist()})
    assert kept.card.explained < 0.02


def test_many_categories_tell_nothing_by_their_number():
    z, label, _, _, _ = planted()
    slides = [f"s{k}" for k in np.random.default_rng(0).permutation(len(label)) // 2]
    found = Direction.fit(z, label.tolist(), name="label", confounders={"slide": slides})
    assert found.card.explained < 0.2  # half as many columns as tiles tell half of anything


def test_a_suspect_is_asked_and_not_adjusted_for():
    z, label, _, _, groups = planted()
    with pytest.raises(InputError, match="label cannot be told from scanner, which tells 100%"):
        Direction.fit(z, label.tolist(), name="label", suspects={"scanner": [f"x{k}" for k in label]})
    given = {"name": "label", "groups": groups}
    forced = Direction.fit(z, label.tolist(), suspects={"scanner": [f"x{k}" for k in label]}, force=True, **given)
    assert forced.notes == ("told by scanner to 100%, and not adjusted for it",)
    site = np.where(np.random.default_rng(1).random(len(label)) < 0.7, label, 1 - label).tolist()
    plain, asked = (Direction.fit(z, label.tolist(), suspects=each, **given) for each in ({}, {"site": site}))
    np.testing.assert_array_equal(plain.vector, asked.vector)
    assert asked.notes == ()


def test_what_cannot_be_tested_on_others_is_said():
    z, label, _, _, groups = planted()
    alone = Direction.fit(z, label.tolist(), name="label", groups=np.zeros(len(z), int), by="patient")
    assert not alone.card.believable and np.isnan(alone.card.stable)
    assert in_words(alone) == "label: a move of 1 is from 0 to 1; not testable: all tiles are of one patient."
    split = Direction.fit(z, label.tolist(), name="label", groups=label, by="slide")
    assert split.card.untested == "slides cannot be split so that each class is in both parts"
    tested = in_words(Direction.fit(z, label.tolist(), name="label", groups=groups, by="patient"))
    assert "on other patients, of 20 in all" in tested and "directions of other patients are" in tested
    assert "on other tiles, of 400 in all" in in_words(Direction.fit(z, label.tolist(), name="label"))


def test_nothing_is_found_where_there_is_nothing():
    z, _, _, _, groups = planted()
    random = np.random.default_rng(2)
    believed = []
    for _ in range(12):
        found = Direction.fit(z, random.integers(2, size=len(z)).tolist(), name="nothing", groups=groups)
        believed.append(found.card.believable)
    assert sum(believed) <= 3


def test_what_is_taken_out_stays_as_it_is():
    z, label, size, _, _ = planted()
    # Correlated attributes: larger nuclei in tumours.
    grade = Direction.fit(z, label.tolist(), name="grade", kind="lda")
    large = Direction.fit(z, (size + 3 * label).tolist(), name="size", kind="ridge")
    effects = side_effects([large, grade], z)
    assert abs(effects.loc["size", "grade"]) > 0.05
    alone = large.without(grade)
    assert side_effects([alone, grade], z).iloc[0, 1] == pytest.approx(0, abs=1e-9)
    assert large.read @ alone.vector == pytest.approx(large.read @ large.vector)
    before = "the card is of the direction before anything was taken out"
    assert alone.notes == (before, "leaves grade as they are")
    site = Direction.fit(z, (np.arange(len(z)) % 7 + label).tolist(), name="site", kind="ridge")
    both = alone.without(site)
    assert side_effects([both, grade, site], z).iloc[0, 1:].tolist() == pytest.approx([0, 0], abs=1e-9)
    np.testing.assert_allclose(both.vector, large.without(grade, site).vector)
    assert both.notes == (before, "leaves grade as they are", "leaves site as they are")
    with pytest.raises(InputError, match="nothing is left of grade"):
        grade.without(grade)


def test_components_are_those_of_the_covariance_and_are_named_by_what_goes_with_them():
    z, label, size, _, groups = planted()
    found = principal_directions(z, 3)
    values, vectors = np.linalg.eigh(np.cov(z.T, bias=True))
    for k, direction in enumerate(found):
        assert abs(cosine(direction.vector, vectors[:, -1 - k])) > 0.999
        assert np.linalg.norm(direction.vector) == pytest.approx(np.sqrt(values[-1 - k]), rel=1e-3)
        assert direction.value(z).std() == pytest.approx(1, rel=1e-3)
        assert direction.value(z).mean() == pytest.approx(0, abs=1e-4)
    table = pd.DataFrame({"size": size, "label": np.where(label, "t", "n"), "slide": [f"s{g}" for g in groups]})
    named = name_directions(found, z, table)
    assert any(": size (" in direction.name for direction in named)
    assert not any("slide" in direction.name for direction in named)


def test_what_goes_with_what():
    random = np.random.default_rng(0)
    x = random.normal(size=300)
    assert goes_with(x, pd.Series(2 * x + 1)) == pytest.approx(1)
    assert goes_with(x, pd.Series(np.where(x > 0, "a", "b"))) == pytest.approx(np.sqrt(2 / np.pi), abs=0.05)
    assert goes_with(x, pd.Series(random.integers(60, size=300).astype(str))) < 0.3
    assert goes_with(x, pd.Series(["a"] * 300)) == 0
    assert goes_with(x, pd.Series([f"tile {i}" for i in range(300)])) == 0


def test_orders_of_moves_commute_and_of_ways_do_not():
    z = planted()[0]
    a, b = z + 1.0, z + 1.0
    assert commutator(a, b) == 0
    assert commutator(a, 2 * a) == pytest.approx(1)


@pytest.mark.parametrize(
    ("values", "options", "error", "said"),
    [
        (lambda n: ["a"] * n, {}, InputError, "attribute is constant"),
        (lambda n: ["bcd"[i % 3] for i in range(n)], {}, InputError, "more than two classes.*b, c, d"),
        (lambda n: [1.0] * 5 + [None] * (n - 5), {}, InputError, "known of too few tiles"),
        (lambda n: ["a", "b"] * (n // 2), {"kind": "ridge"}, OptionError, "ridge is not for two classes"),
        (lambda n: list(range(n)), {"kind": "lda"}, OptionError, "lda is not for a number.*difference, ridge"),
        (lambda n: ["a", "b"] * (n // 2), {"kind": "ldaa"}, OptionError, "did you mean 'lda'"),
        (lambda n: ["a", "b"] * (n // 2), {"positive": "c"}, OptionError, "class of attribute.*'c'"),
        (
            lambda n: ["bcd"[i % 3] for i in range(n)],
            {"positive": "b", "negative": "e"},
            OptionError,
            "class of attribute.*'e'",
        ),
        (lambda n: ["a", "b"], {}, InputError, "one for each vector"),
        (lambda n: ["a"] * (n - 1) + ["b"], {}, InputError, "a class of attribute has too few tiles.*b: 1.*2 of each"),
    ],
)
def test_what_cannot_be_a_direction_is_said(values, options, error, said):
    z = planted()[0]
    with pytest.raises(error, match=said):
        Direction.fit(z, values(len(z)), name="attribute", **options)


def test_it_says_what_it_is():
    direction = Direction("size", np.ones(2), np.ones(2), unit="1 um2", kind="ridge")
    assert repr(direction) == "Direction('size', ridge, 1 = 1 um2)"
