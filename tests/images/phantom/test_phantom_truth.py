"""Truth is true of the pixels, and the pixels look like H&E."""

import cv2
import numpy as np
import pytest
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score
from sklearn.model_selection import GroupKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from histolatent.images.phantom import nuclei as n
from histolatent.images.phantom import protocols
from histolatent.images.phantom.cohort import LABELS
from histolatent.images.phantom.fields import Canvas
from histolatent.provenance import stream

#: What per-channel means and standard deviations may tell of five classes (chance 0.2) within a site.
COLOUR_ALONE = 0.70


def nuclear_mask(tiles, index, grow=1.0):
    px = tiles.spec.tile_px
    mask = np.zeros((px, px), np.uint8)
    for row in tiles.annotations(index).itertuples():
        axes = (grow * row.major_um / 2 / tiles.spec.mpp, grow * row.minor_um / 2 / tiles.spec.mpp)
        cv2.ellipse(mask, ((row.x - 0.5, row.y - 0.5), (2 * axes[0], 2 * axes[1]), row.angle), color=1, thickness=-1)
    return mask.astype(bool)


def test_counts_are_those_of_the_annotations(one_site):
    for index in range(0, 60, 3):
        truth, nuclei = one_site.truth_of(index), one_site.annotations(index)
        cells = nuclei[nuclei["kind"] != "apoptotic body"]
        assert truth["mitotic_count"] == nuclei["mitosis"].sum()
        assert truth["nuclear_count"] == len(cells)
        assert truth["nuclear_density_per_mm2"] == pytest.approx(len(cells) / 0.048**2)
        immune = cells["kind"].isin(["lymphocyte", "plasma cell"]).sum()
        assert truth["lymphocyte_fraction"] == pytest.approx(immune / max(len(cells), 1))
        assert nuclei[["x", "y"]].to_numpy().min(initial=0) >= 0


def test_tumour_is_where_tumour_cells_are(one_site):
    for index in range(0, 90):
        kinds = set(one_site.annotations(index)["kind"])
        assert ("tumour" in kinds) == one_site.table["tumour"].iat[index], one_site.table.index[index]


def test_every_nucleus_is_drawn_and_nothing_else_is():
    """Drawn on empty glass, hematoxylin is where the table has nuclei, and nowhere else."""
    canvas = Canvas(160, 0.5)
    rng = stream(0, "test")
    x, y = (c.ravel() for c in np.meshgrid(np.arange(8.0, 80, 16), np.arange(8.0, 80, 16)))
    phases = np.arange(25) % len(n.PHASES)
    table = n.make_nuclei(
        x, y, major=9.0, minor=6.0, angle=rng.uniform(0, 3, 25), phase=phases, irregular=0.05, density=1.2
    )
    blank = np.zeros((canvas.size, canvas.size), np.float32)
    h, _ = n.draw_nuclei(canvas, table, rng, blank, blank)
    h = canvas.crop(h)
    rows, columns = np.mgrid[0:160, 0:160] * 0.5 + 0.25
    away = np.hypot(columns[None] - x[:, None, None], rows[None] - y[:, None, None])
    assert h[away.min(0) > 7.9].max() == 0
    for i in range(25):
        assert h[away[i] < 3].max() > 0.8
        assert h[away[i] < 3].mean() > 0.12


def test_nuclei_are_hematoxylin_and_their_surroundings_are_not(one_site):
    ratios = []
    for index in range(0, 40):
        h, _ = one_site.concentrations(index)
        inside, outside = nuclear_mask(one_site, index, 0.9), ~nuclear_mask(one_site, index, 1.5)
        if inside.sum() > 50 and outside.sum() > 50:
            ratios.append(np.median(h[inside]) / np.median(h[outside]))
    assert np.median(ratios) > 4
    assert min(ratios) > 2


def test_a_mitosis_is_the_darkest_thing_in_its_cell(one_site):
    found = 0
    for index in np.flatnonzero(one_site.table["grade"].to_numpy() == 3):
        h, _ = one_site.concentrations(int(index))
        for row in one_site.annotations(int(index)).query("mitosis").itertuples():
            x, y = int(row.x), int(row.y)
            near = h[max(y - 8, 0) : y + 9, max(x - 8, 0) : x + 9]
            assert near.max() > 1.0
            found += 1
    assert found > 5


def test_compartments_show_in_the_maps(one_site):
    truth = one_site.truth
    pale = np.array([(np.add(*one_site.concentrations(i)) < 0.12).mean() for i in range(0, 180, 2)])
    empty = (truth["lumen_fraction"] + truth["adipose_fraction"]).to_numpy()[::2]
    assert np.corrcoef(pale, empty)[0, 1] > 0.6


def test_truth_is_complete_and_factors_move_with_class_and_grade(one_site):
    truth, table = one_site.truth, one_site.table
    assert (truth.index == table.index).all()
    assert truth.drop(columns="pleomorphism").notna().all(axis=None)
    assert truth["pleomorphism"].notna().mean() > 0.95
    by_class = truth.groupby(table["label"]).mean(numeric_only=True)
    assert by_class["lymphocyte_fraction"].idxmax() == "lymphoid"
    assert by_class["gland_formation"].nlargest(2).index.tolist() == ["mucosa", "adenocarcinoma"]
    assert by_class["elongation"].idxmax() == "stroma"
    tumour = truth[table["tumour"]]
    for factor, least in (
        ("nuclear_area_um2", 0.4),
        ("pleomorphism", 0.4),
        ("chromatin", 0.25),
        ("mitotic_count", 0.1),
    ):
        assert tumour[factor].corr(tumour["anaplasia"], method="spearman") > least, factor
    assert truth.loc[~table["tumour"], "mitotic_count"].max() == 0


def test_factors_are_not_functions_of_one_another(one_site):
    names = ["nuclear_area_um2", "nuclear_density_per_mm2", "elongation", "chromatin", "gland_formation"]
    tumour = one_site.truth[one_site.table["tumour"]]
    correlation = tumour[names].corr(method="spearman").to_numpy()
    assert np.abs(correlation[~np.eye(len(names), dtype=bool)]).max() < 0.85


@pytest.mark.slow
def test_colour_alone_does_not_give_the_label_away(one_site):
    """Limit: a probe on colour stays below the stated level; the truth of morphology names the class."""
    table, truth = one_site.table, one_site.truth
    colour = [np.r_[p.mean((0, 1)), p.std((0, 1))] for p in map(one_site.read, range(180))]
    factors = truth[["nuclear_area_um2", "elongation", "lymphocyte_fraction", "lumen_fraction", "epithelium_fraction"]]
    accuracy = {}
    for name, x, model in (
        ("colour", np.array(colour), make_pipeline(StandardScaler(), LogisticRegression(max_iter=5000))),
        ("morphology", factors.to_numpy(), RandomForestClassifier(100, random_state=0)),
    ):
        guess = cross_val_predict(model, x, table["label"], groups=table["patient"], cv=GroupKFold(6))
        accuracy[name] = balanced_accuracy_score(table["label"], guess)
    assert 1 / len(LABELS) < accuracy["colour"] < COLOUR_ALONE
    assert accuracy["morphology"] > 0.9


@pytest.mark.parametrize("site", protocols())
def test_colours_are_those_of_h_and_e(one_site, site):
    """Nuclei are blue to purple, the rest is pink, and glass is nearly white."""
    nuclei, ground = [], []
    for index in range(0, 180, 15):
        pixels = one_site.read_as(index, site).reshape(-1, 3).astype(float)
        h, e = (c.ravel() for c in one_site.concentrations(index))
        nuclei.append(pixels[h > 0.8])
        ground.append(pixels[(h < 0.15) & (e > 0.25)])
    scanner = protocols()[site].scanner
    white = 255 * (np.asarray(scanner.illuminant) / 255) ** (1 / scanner.gamma)
    nuclei, ground = (-np.log(np.maximum(np.concatenate(c), 1) / white).mean(0) for c in (nuclei, ground))
    assert 0.5 < nuclei.sum() < 5
    assert 0.15 < ground.sum() < 2
    r, g, b = nuclei
    assert g > b, "nuclei are blue to purple: they let blue light pass"
    assert r > b, "nuclei are blue to purple: they hold red light back"
    r, g, b = ground
    assert g > 1.2 * max(r, b), "collagen is pink: it holds green light back"
