"""Reading at unseen sites: who is trained on and who is read, and figures of embeddings that are known."""

from dataclasses import dataclass

import numpy as np
import pytest

from histolatent.benchmark.cohort import SOURCE, split_cohort
from histolatent.benchmark.unseen import read_unseen
from histolatent.encoders import encoder
from histolatent.encoders.card import EncoderCard
from histolatent.errors import InputError
from histolatent.images import keep_tiles, open_tiles, select_rows
from histolatent.perturb import virtual_sites

COHORT = "phantom:sites=3,patients=6,slides=1,tiles_per_site=60,tile_px=48"


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    return keep_tiles(open_tiles(COHORT), tmp_path_factory.mktemp("kept"))  # drawn once


@dataclass
class Told:
    """An encoder that knows each tile of a cohort, and gives the vectors that it was told."""

    card: EncoderCard
    by_pixels: dict[bytes, np.ndarray]

    def forward(self, prepared):
        return np.stack([self.by_pixels[tile.tobytes()] for tile in prepared])


def told(source, vectors):
    known = {source.read(row).tobytes(): vectors[row].astype(np.float32) for row in range(len(vectors))}
    card = EncoderCard(name="told", kind="toy", source="test", dim=vectors.shape[1], revision="1", licence="test")
    return Told(card, known)


def one_hot(values):
    """Ten dimensions for each value: of a few, a probe that is held back strongly reads little."""
    names, codes = np.unique(values, return_inverse=True)
    return np.repeat(np.eye(len(names))[codes], 10, axis=1)


def test_the_largest_site_is_trained_on_and_the_others_are_read(cohort):
    divided = split_cohort(cohort)
    assert set(cohort.table["site"].iloc[divided.train]) == {min(cohort.table["site"])}
    assert not divided.virtual and len(divided.unseen) == 2
    asked = split_cohort(cohort, "source")
    assert set(cohort.table["site"].iloc[asked.train]) == {"source"} and "source" not in asked.unseen
    assert len(asked.source.table) == 60


def test_an_unseen_site_cannot_be_taken_for_the_source(cohort):
    divided = split_cohort(cohort, "new-scanner")
    assert set(divided.unseen) == {"site source", "new-stain"} and set(divided.asked) == {SOURCE, *divided.unseen}
    assert set(cohort.table["site"].iloc[divided.unseen["site source"]]) == {"source"}


def test_one_site_is_divided_by_patient_and_read_at_virtual_sites(cohort):
    one = select_rows(cohort, np.flatnonzero(cohort.table["site"] == "source"))
    divided = split_cohort(one)
    patients = one.table["patient"].to_numpy()
    assert divided.virtual and len(divided.unseen) == 5
    assert not set(patients[divided.train]) & set(patients[divided.kept])
    assert sorted([*divided.train, *divided.kept]) == list(range(60))
    folds = [split_cohort(one, fold=fold).kept.tolist() for fold in range(5)]
    assert sorted(row for fold in folds[:4] for row in fold) == list(range(60))
    assert folds[4] == folds[0] == divided.kept.tolist()


def test_virtual_sites_show_the_same_tissue_on_other_slides_of_the_same_patients(cohort):
    one = select_rows(cohort, np.flatnonzero(cohort.table["site"] == "source"))
    divided = split_cohort(one)
    table = divided.tiles.table
    assert table.index.is_unique and len(table) == 60 + 5 * len(divided.kept)
    for name, rows in divided.unseen.items():
        assert set(table["site"].iloc[rows]) == {name}
        assert divided.groups[rows].tolist() == divided.groups[divided.kept].tolist()
        assert table["slide"].iloc[rows].tolist() == [
            f"{name}/{slide}" for slide in one.table["slide"].iloc[divided.kept]
        ]
        first = int(divided.kept[0])
        site, tile_id = virtual_sites()[name], one.table.index[first]
        slide = one.table["slide"].iloc[first]
        expected = site(one.read(first), mpp=0.5, slide=slide, tile_id=tile_id)
        assert np.array_equal(divided.tiles.read(int(rows[0])), expected)
    assert np.array_equal(divided.tiles.read(3), one.read(3))
    assert divided.tiles.truth["grade"].iloc[rows[0]] == one.truth["grade"].iloc[first]


def test_a_tile_without_patient_and_slide_is_one_group_at_all_virtual_sites(cohort):
    from histolatent.images.selected import SelectedTiles

    table = cohort.table.iloc[:60].drop(columns=["site", "slide", "patient"])
    divided = split_cohort(SelectedTiles(cohort, np.arange(60), table))
    for rows in divided.unseen.values():
        assert divided.groups[rows].tolist() == divided.groups[divided.kept].tolist()
    assert len(set(divided.groups)) == 60


def test_an_encoder_of_the_label_alone_is_perfect_everywhere(cohort):
    vectors = one_hot(cohort.table["label"]) + np.random.default_rng(0).normal(0, 0.05, (180, 1))
    seen = read_unseen(split_cohort(cohort, "source"), told(cohort, vectors))
    assert seen.figures["source"] == seen.figures["unseen"] == 1
    assert seen.figures["robustness"] > 0.7 and abs(seen.figures["site_above_chance"]) < 0.25
    assert set(seen.read) == {SOURCE, "new-scanner", "new-stain"}


def test_an_encoder_whose_labels_turn_at_other_sites_fails_there(cohort):
    sites = cohort.table["site"].to_numpy()
    labels = one_hot(cohort.table["label"])
    vectors = np.where((sites == "source")[:, None], labels, np.roll(labels, 10, axis=1))
    seen = read_unseen(split_cohort(cohort, "source"), told(cohort, vectors))
    assert seen.figures["source"] == 1 and seen.figures["unseen"] == 0


def test_a_tile_without_a_label_is_not_asked(cohort):
    from histolatent.images.selected import SelectedTiles

    table = cohort.table.copy()
    table.loc[table.index[:5], "label"] = None
    table.loc[table.index[-7:], "label"] = None
    vectors = one_hot(cohort.table["label"]) + np.random.default_rng(0).normal(0, 0.05, (180, 1))
    seen = read_unseen(split_cohort(SelectedTiles(cohort, np.arange(180), table), "source"), told(cohort, vectors))
    assert sum(len(read.right) for read in seen.read.values()) == 180 - 12
    assert seen.figures["source"] == seen.figures["unseen"] == 1


def test_an_encoder_of_the_site_alone_is_found_out(cohort):
    noise = np.random.default_rng(1).normal(0, 0.3, (180, 30))
    seen = read_unseen(split_cohort(cohort, "source"), told(cohort, 3 * one_hot(cohort.table["site"]) + noise))
    assert seen.figures["site_above_chance"] > 0.6 and seen.figures["silhouette"] > 0.5
    assert seen.figures["robustness"] < 0.1 and seen.figures["unseen"] < 0.6


def test_a_factor_that_is_there_is_read(cohort):
    factor = cohort.truth["nuclear_area_um2"].to_numpy(float)[:, None]
    factor = np.nan_to_num((factor - np.nanmean(factor)) / np.nanstd(factor))
    vectors = np.concatenate([factor, one_hot(cohort.table["label"])], axis=1)
    assert read_unseen(split_cohort(cohort, "source"), told(cohort, vectors)).figures["r2_nuclear_area_um2"] > 0.9


def test_virtual_sites_are_read_with_the_probe_of_the_tiles_as_they_are(cohort):
    one = select_rows(cohort, np.flatnonzero(cohort.table["site"] == "source"))
    seen = read_unseen(split_cohort(one), encoder("toy:random-conv"))
    assert list(seen.read) == [SOURCE, "soft", "rose", "flat", "mixed", "strong"]
    assert seen.figures["source"] >= seen.figures["unseen"]
    assert seen.figures["site_above_chance"] > 0.2


@pytest.mark.parametrize(
    "site, spoil, match",
    [
        ("Source", lambda table: table, "no such site.*source"),
        (None, lambda table: table.drop(columns="label"), "no label"),
    ],
)
def test_a_cohort_that_cannot_be_divided(cohort, site, spoil, match):
    from histolatent.images.selected import SelectedTiles

    table = spoil(cohort.table)
    with pytest.raises(InputError, match=match):
        split_cohort(SelectedTiles(cohort, np.arange(len(table)), table), site)


def test_each_of_four_patients_is_kept_once_though_none_has_every_label(cohort):
    from histolatent.images.selected import SelectedTiles

    one = select_rows(cohort, np.arange(60))
    table = one.table.drop(columns=["site", "slide"])
    table["patient"] = np.repeat([0, 1, 2, 3], [19, 15, 18, 8])
    table["label"] = np.repeat([0, 1, 0, 1, 2, 0, 2, 0], [5, 14, 3, 6, 6, 4, 14, 8])
    divided = [split_cohort(SelectedTiles(cohort, np.arange(60), table), fold=fold) for fold in range(5)]
    kept = [set(table["patient"].iloc[one.kept]) for one in divided]
    assert sorted(map(tuple, kept[:4])) == [(0,), (1,), (2,), (3,)] and kept[4] == kept[0]
    for one in divided:
        assert set(table["label"].iloc[one.train]) == {0, 1, 2}
        assert len(one.train) + len(one.kept) == 60
    seen = read_unseen(divided[0], encoder("toy:od-moments"))
    assert len(seen.read["soft"].right) == len(divided[0].kept)


def test_a_label_that_was_not_trained_on_cannot_be_read(cohort):
    from histolatent.images.selected import SelectedTiles

    table = cohort.table.copy()
    table.loc[table["site"] != "source", "label"] = "another"
    divided = split_cohort(SelectedTiles(cohort, np.arange(len(table)), table), "source")
    with pytest.raises(InputError, match="'another' is not in the trained part"):
        read_unseen(divided, encoder("toy:od-moments"))
