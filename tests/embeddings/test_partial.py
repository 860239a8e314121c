"""The store that fills up: goes on where it stopped, survives torn writes, refuses another plan."""

import errno
import json

import numpy as np
import pytest

from histolatent.embeddings import PartialTable
from histolatent.errors import InputError, OutputError

SHAPE = (7, 2, 3)
PLAN = {"encoder": "e", "settings": {"seed": 1}}


def vectors(rows) -> np.ndarray:
    return np.stack([np.full((2, 3), row, np.float32) for row in rows])


def hashes(rows) -> np.ndarray:
    return np.stack([np.full(2, 2**63 + row, np.uint64) for row in rows])


def filled(target, rows) -> PartialTable:
    store = PartialTable.open(target, SHAPE, PLAN)
    for row in rows:
        store.note(f"t{row}", {"hash": str(row)})
    store.write(rows, vectors(rows), hashes(rows))
    return store


def test_blocks_are_cut_at_the_same_places_after_an_interruption(tmp_path):
    store = PartialTable.open(tmp_path / "a.zarr", SHAPE, PLAN)
    assert store.waiting(3) == [range(3), range(3, 6), range(6, 7)]
    store = filled(tmp_path / "a.zarr", [0, 1, 2, 4])
    store.checkpoint()
    again = PartialTable.open(tmp_path / "a.zarr", SHAPE, PLAN)
    assert again.waiting(3) == [range(3, 6), range(6, 7)]
    assert again.kept.tolist() == [True, True, True, False, True, False, False]
    assert again.notes == {f"t{row}": {"hash": str(row)} for row in (0, 1, 2, 4)}
    np.testing.assert_array_equal(again.vectors()[[0, 1, 2, 4]], vectors([0, 1, 2, 4]))
    np.testing.assert_array_equal(again.hashes()[[0, 1, 2, 4]], hashes([0, 1, 2, 4]))
    with pytest.raises(ValueError, match="read-only"):
        again.vectors()[0] = 1


def test_what_was_not_checkpointed_is_done_again(tmp_path):
    filled(tmp_path / "a.zarr", [0, 1, 2]).checkpoint()
    filled(tmp_path / "a.zarr", [3, 4, 5])
    assert PartialTable.open(tmp_path / "a.zarr", SHAPE, PLAN).waiting(3) == [range(3, 6), range(6, 7)]


def test_skipped_tiles_wait_again_in_the_next_run(tmp_path):
    store = filled(tmp_path / "a.zarr", [0, 1])
    store.skip(2)
    store.note("t2", {"skipped": "damaged"})
    assert store.waiting(3) == [range(3, 6), range(6, 7)]
    store.checkpoint()
    again = PartialTable.open(tmp_path / "a.zarr", SHAPE, PLAN)
    assert again.waiting(3)[0] == range(3)
    again.note("t2", {"hash": "2"})
    again.checkpoint()
    assert PartialTable.open(tmp_path / "a.zarr", SHAPE, PLAN).notes["t2"] == {"hash": "2"}


def test_a_torn_note_is_forgotten_and_does_not_spoil_the_next(tmp_path):
    filled(tmp_path / "a.zarr", [0]).checkpoint()
    notes = tmp_path / "a.zarr.partial" / "notes.jsonl"
    with notes.open("a") as file:
        file.write('["t1",{"hash":"1","sizes":[3]')
    store = filled(tmp_path / "a.zarr", [1, 2])
    store.checkpoint()
    assert sorted(PartialTable.open(tmp_path / "a.zarr", SHAPE, PLAN).notes) == ["t0", "t1", "t2"]


def test_ids_with_any_sign_keep_their_notes(tmp_path):
    store = PartialTable.open(tmp_path / "a.zarr", SHAPE, PLAN)
    names = ["a\nb", "a\u2028b", "é", '"', "\x85"]
    for name in names:
        store.note(name, {"hash": name})
    store.checkpoint()
    assert PartialTable.open(tmp_path / "a.zarr", SHAPE, PLAN).notes == {name: {"hash": name} for name in names}


@pytest.mark.parametrize(
    ("shape", "plan", "difference"),
    [
        (SHAPE, {**PLAN, "encoder": "f"}, "encoder"),
        (SHAPE, {**PLAN, "settings": {"seed": 2}}, "settings"),
        ((8, 2, 3), PLAN, "shape"),
        ((7, 2, 4), {"encoder": "f"}, "encoder, settings, shape"),
    ],
)
def test_another_plan_is_refused_by_what_differs(tmp_path, shape, plan, difference):
    filled(tmp_path / "a.zarr", [0]).checkpoint()
    message = rf"an interrupted run with another {difference} is there\. Received: .*a\.zarr\.partial.*--restart"
    with pytest.raises(OutputError, match=message):
        PartialTable.open(tmp_path / "a.zarr", shape, plan)
    anew = PartialTable.open(tmp_path / "a.zarr", shape, plan, restart=True)
    assert not anew.kept.any()
    assert anew.notes == {}


def test_a_folder_without_a_plan_is_started_anew(tmp_path):
    (tmp_path / "a.zarr.partial").mkdir()
    (tmp_path / "a.zarr.partial" / "vectors.f32").write_bytes(b"rubbish")
    assert len(PartialTable.open(tmp_path / "a.zarr", SHAPE, PLAN).waiting(3)) == 3


def test_the_end_of_the_store_may_be_skipped(tmp_path):
    store = filled(tmp_path / "a.zarr", [1])
    store.skip(6)
    assert store.vectors().shape == SHAPE
    np.testing.assert_array_equal(store.vectors()[1], vectors([1])[0])


def test_nothing_but_skipped_tiles_says_why(tmp_path):
    store = PartialTable.open(tmp_path / "a.zarr", SHAPE, PLAN)
    for row in range(7):
        store.skip(row)
        store.note(f"t{row}", {"skipped": f"damaged {row}"})
    with pytest.raises(InputError, match=r"all 7 were skipped. Received: damaged 0. Fix: mend the tiles"):
        store.vectors()


def test_a_full_disk_is_said_and_what_is_safe_stays(tmp_path, monkeypatch):
    store = filled(tmp_path / "a.zarr", [0, 1, 2])
    store.checkpoint()
    store.write([3], vectors([3]), hashes([3]))

    def fail(self, target):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(type(tmp_path), "replace", fail)
    with pytest.raises(OutputError, match=r"the disk is full.*Received: .*a\.zarr\.partial.*the same command again"):
        store.checkpoint()
    monkeypatch.undo()
    assert PartialTable.open(tmp_path / "a.zarr", SHAPE, PLAN).kept.sum() == 3


def test_the_store_goes_away(tmp_path):
    store = filled(tmp_path / "a.zarr", [0])
    assert json.loads((store.folder / "plan.json").read_text())["shape"] == list(SHAPE)
    store.remove()
    assert not list(tmp_path.iterdir())
