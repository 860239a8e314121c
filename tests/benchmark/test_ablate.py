"""The table of ablations: which cells, that they are kept, and differences that are what they are said to be."""

import json

import numpy as np
import pytest

from histolatent.benchmark.ablate import PRESET, Cell, as_markdown, difference, run_ablation, summarise, variants_of
from histolatent.benchmark.unseen import LabelsRead
from histolatent.compact.plan import CompactionPlan
from histolatent.compact.saving import read_provenance
from histolatent.encoders import encoder
from histolatent.errors import OptionError
from histolatent.images import open_tiles

COHORT = "phantom:sites=2,patients=4,slides=1,tiles_per_site=48,tile_px=48"
PLAN = CompactionPlan().changed(
    **{"training.steps": 3, "training.batch_size": 12, "training.check_every": 3, "projector": 16, "tile_px": 32}
)


def cell(name, seed, source, unseen, groups=(0, 0, 1, 1, 2, 2, 3, 3), labels=None):
    labels = [0] * len(source) if labels is None else labels
    read = {
        site: LabelsRead(*(tuple(map(int, values)) for values in (right, labels, groups)))
        for site, right in (("source", source), ("b", unseen))
    }
    return Cell(name, seed, {"rank": 8.0}, read, 1.0, "")


@pytest.mark.slow
def test_cells_are_trained_once_and_kept(tmp_path):
    told = []
    given = (open_tiles(COHORT), PLAN, tmp_path)
    options = {"variants": ["no compaction"], "seeds": [0, 1], "train_site": "source", "device": "cpu"}
    cells = run_ablation(*given, **options, progress=lambda *what: told.append(what))
    assert [(each.variant, each.seed) for each in cells] == [
        (PRESET, 0),
        ("no compaction", 0),
        (PRESET, 1),
        ("no compaction", 1),
    ]
    assert told[0][1:] == (0, 4) and told[-1] == ("done", 4, 4)
    files = sorted((tmp_path / "cells").glob("*.json"))
    assert len(files) == 4 and len(list((tmp_path / "cells").iterdir())) == 8
    trained = encoder(str(tmp_path / "cells" / cells[0].encoder))
    assert read_provenance(tmp_path / "cells" / cells[0].encoder)["plan"]["projector"] == 16 and trained.card.dim > 16
    stamps = [file.stat().st_mtime_ns for file in files]
    assert run_ablation(*given, **options) == cells
    assert [file.stat().st_mtime_ns for file in files] == stamps
    document = json.loads(files[0].read_text())
    assert document["plan"]["training"]["steps"] == 3 and "environment" in document
    table = summarise(cells)
    assert list(table.index) == [PRESET, "no compaction"] and table["seeds"].tolist() == [2, 2]
    assert "| no compaction |" in as_markdown(table)
    # Another plan is another cell.
    run_ablation(open_tiles(COHORT), PLAN.changed(projector=8), tmp_path, **{**options, "seeds": [0]})
    assert len(list((tmp_path / "cells").glob("*.json"))) == 6


def test_variants_that_change_nothing_are_left_out():
    names = list(variants_of(CompactionPlan()))
    assert names[0] == PRESET and "barlow" not in names and "no adversary" not in names
    assert "vicreg" in names and "with adversary" in names
    for preset in CompactionPlan.presets:
        assert PRESET in variants_of(CompactionPlan.read(preset))


def test_what_cannot_be_asked(tmp_path):
    with pytest.raises(OptionError, match="no variant is called 'barlwo'"):
        run_ablation(open_tiles(COHORT), PLAN, tmp_path, variants=["barlwo"])
    with pytest.raises(OptionError, match="already so"):
        run_ablation(open_tiles(COHORT), PLAN, tmp_path, variants=["barlow"])


def test_differences_are_paired_over_tiles_and_seeds():
    whole, none = [1] * 8, [0] * 8
    cells = [
        cell(PRESET, 0, whole, whole),
        cell("x", 0, whole, none),
        cell(PRESET, 1, whole, whole),
        cell("x", 1, whole, none),
    ]
    assert difference(cells, "x", PRESET, "unseen").estimate.value == -1
    assert difference(cells, "x", PRESET, "source").estimate.value == 0
    row = summarise(cells).loc["x"]
    assert row["unseen_change"] == -1 and row["unseen_low"] == row["unseen_high"] == -1 and row["unseen_p"] < 0.2


def test_an_interval_is_over_patients_and_not_over_tiles():
    rng = np.random.default_rng(0)
    by_patient = np.repeat(rng.integers(0, 2, 12), 40)
    groups = np.repeat(np.arange(12), 40)
    cells = [cell(PRESET, 0, by_patient, np.zeros(480, int), groups), cell("x", 0, by_patient, by_patient, groups)]
    found = difference(cells, "x", PRESET, "unseen").estimate
    assert found.high - found.low > 0.4  # 480 independent tiles would give about 0.09


def test_labels_count_alike_however_many_tiles_have_them():
    labels = [0] * 6 + [1] * 2
    always_0 = [1] * 6 + [0] * 2
    cells = [cell(PRESET, 0, always_0, always_0, labels=labels), cell("x", 0, [0] * 8, [1] * 8, labels=labels)]
    table = summarise(cells)
    assert table.loc[PRESET, "source"] == 0.5 and table.loc["x", "unseen_change"] == 0.5


def test_tiles_of_all_seeds_are_those_of_one_site():
    # Each seed keeps another patient, who may have one label only.
    one = cell(PRESET, 0, [1, 1, 1, 0], [1] * 4, groups=[0] * 4, labels=[0] * 4)
    other = cell(PRESET, 1, [0, 1, 1, 1], [1] * 4, groups=[1] * 4, labels=[0, 1, 1, 1])
    assert summarise([one, other]).loc[PRESET, "source"] == np.mean([3 / 5, 1])
