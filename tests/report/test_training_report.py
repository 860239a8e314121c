"""The page of a training run: what it says and draws, and that it stands alone."""

import csv
import re

import numpy as np
import pytest

from histolatent.compact.plan import CompactionPlan
from histolatent.compact.prepared import prepare
from histolatent.compact.run import train
from histolatent.images import open_tiles
from histolatent.report.training import draw_curves, last_map, picture_of, write_training

TILES = "phantom:sites=1,patients=4,slides=1,tiles_per_site=24,tile_px=48"
CHANGES = {"training.steps": 6, "training.batch_size": 6, "training.check_every": 3, "projector": 16, "tile_px": 32}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained")
    plan = CompactionPlan().changed(**CHANGES)
    return train(prepare(open_tiles(TILES), plan, folder), folder)


def test_what_is_shown_is_of_held_out_tiles(trained):
    shown, held_out = trained.shown, trained.card["source"]["held_out"]
    assert len(shown.before) == len(shown.after) == min(24, held_out)
    assert shown.seen.shape[0] == len(shown.wanted) == len(shown.decoded) == 4
    assert shown.seen.shape[2:] == (32, 32, 3) and shown.wanted.shape[1:] == shown.decoded.shape[2:] == (2, 8, 8)
    assert all(0 < share <= 1 for share in shown.spans)
    assert not np.allclose(shown.before, shown.after)


def test_the_page_stands_alone_and_says_what_the_card_says(trained, tmp_path):
    write_training(trained, tmp_path)
    page = (tmp_path / "training.html").read_text(encoding="utf-8")
    after = trained.card["after"]
    assert f"{after['twin_top1']:.0%} find themselves again" in " ".join(page.split())
    assert all(finding.said.split(":")[0] in page for finding in trained.findings)
    assert not re.search(r"\bnan\b", page)
    assert page.count("<svg") == 3 and not re.search(r"(src|href)=.https?:", page)
    rows, checks = (
        list(csv.DictReader((tmp_path / name).read_text(encoding="utf-8").splitlines()))
        for name in ("losses.csv", "checks.csv")
    )
    assert [float(row["compaction"]) for row in rows] == [entry["compaction"] for entry in trained.history]
    assert len(checks) == len(trained.checks) == 3


def test_the_page_says_what_was_done_to_the_vectors_last(trained, tmp_path):
    write_training(trained, tmp_path)
    page = " ".join((tmp_path / "training.html").read_text(encoding="utf-8").split())
    assert "the vectors of the trained network, whitened by how states move them." in page
    assert page.count("<td>last map</td>") == 1
    assert last_map({"whiten": 0.0, "remove_above": 1.0}) == ""
    assert last_map({"whiten": 0.0, "remove_above": 0.5}).endswith("more than 50% of the variance")
    assert last_map({"whiten": 3.0, "remove_above": 0.5}).count(", without") == 1


def test_without_a_decoder_there_are_tiles_alone(tmp_path):
    plan = CompactionPlan().changed(**CHANGES, **{"objective.reconstruction": 0.0})
    made = train(prepare(open_tiles(TILES), plan, tmp_path), tmp_path)
    assert made.shown.decoded is None
    write_training(made, tmp_path)
    page = (tmp_path / "training.html").read_text(encoding="utf-8")
    assert "This plan has no reconstruction" in page and "wanted" not in page


def test_nothing_is_white_and_amounts_darken():
    nothing, some, more = (picture_of(np.full((2, 1, 1), amount))[0, 0] for amount in (0.0, 0.5, 1.0))
    np.testing.assert_allclose(nothing, 1)
    assert (more < some).all() and (some < 1).all()


def test_a_run_of_one_step_has_curves():
    check = {"step": 0, "twin_top1": 0.1, "ratio": 0.5, "rank": 3.0, "spread": 1.0, "colour": 0.5}
    assert draw_curves([{"step": 1, "compaction": 0.0}], [check, {**check, "step": 1}], 1).png.startswith(b"\x89PNG")
