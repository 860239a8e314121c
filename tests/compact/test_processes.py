"""Training in two processes: the same work as in one, errors that come through, torchrun."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch

from histolatent.compact.plan import CompactionPlan
from histolatent.compact.run import compact_encoder
from histolatent.encoders import encoder
from histolatent.errors import OptionError, OutputError
from histolatent.images import open_tiles
from histolatent.training.checkpoint import CHECKPOINT
from histolatent.training.processes import make_fabric

TILES = "phantom:sites=1,patients=4,slides=1,tiles_per_site=24,tile_px=64"
CHANGES = {
    "same_place": 1.0,
    "training.steps": 2,
    "training.batch_size": 10,
    "training.check_every": 1,
    "training.precision": "fp32",
    "projector": 16,
    "backbone": "timm:test_vit2",
    "objective.adversary": 0.1,
}


@pytest.fixture(scope="module")
def source():
    return open_tiles(TILES)


def plan(**changes):
    return CompactionPlan().changed(**{**CHANGES, **changes})


@pytest.mark.slow
def test_two_processes_descend_the_loss_of_one(source, tmp_path):
    """One step is the same to rounding but for the projector's batch normalisation, which sees half of the tiles."""
    told = []
    made = [
        compact_encoder(
            source,
            plan(),
            tmp_path / str(devices),
            device="cpu",
            devices=devices,
            progress=lambda *said: told.append(said),
        )
        for devices in (1, 2)
    ]
    one, two = made
    assert [entry["step"] for entry in one.history] == [entry["step"] for entry in two.history]
    first, other = one.history[0], two.history[0]
    assert other["reconstruction"] == pytest.approx(first["reconstruction"], rel=1e-4)
    assert other["adversary"] == pytest.approx(first["adversary"], rel=1e-4)
    assert other["compaction"] == pytest.approx(first["compaction"], rel=0.5)
    assert (one.card["processes"], two.card["processes"]) == (1, 2)
    assert {what for what, *_ in told} == {"reading tiles", "training", "checked", "embedding states"}
    assert [check["step"] for check in two.checks] == [check["step"] for check in one.checks] == [0, 1, 2]
    weights = [torch.cat([p.flatten() for p in run.encoder.base.model.parameters()]) for run in made]
    assert float((weights[0] - weights[1]).norm() / weights[0].norm()) < 0.1


@pytest.mark.slow
def test_an_error_in_a_process_is_the_error_of_all(source, tmp_path):
    (tmp_path / CHECKPOINT).write_bytes(b"torn")
    with pytest.raises(OutputError, match=r"cannot be read.*--restart"):
        compact_encoder(source, plan(), tmp_path, device="cpu", devices=2)


def test_what_cannot_be_divided(source, tmp_path):
    with pytest.raises(OptionError, match="cannot be divided by the number of processes"):
        compact_encoder(source, plan(**{"training.batch_size": 5}), tmp_path, device="cpu", devices=2)
    with pytest.raises(OptionError, match=r"cannot train on 4000 devices.*of kind cpu"):
        make_fabric("cpu", "fp32", 4000)


@pytest.mark.slow
def test_torchrun_starts_the_command_once_for_each_device(tmp_path):
    changes = [f"--set={name}={value}" for name, value in {**CHANGES, "input_px": 64}.items()]
    words = ["histolatent", "compact", TILES, "--out", str(tmp_path / "lmc"), "--device", "cpu", "--workers", "0"]
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "torch.distributed.run",
            "--standalone",
            "--nproc-per-node",
            "2",
            "-m",
            *words,
            *changes,
        ],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert (tmp_path / "lmc" / "compaction.json").exists(), done.stderr[-3000:]
    card = json.loads((tmp_path / "lmc" / "compaction.json").read_text())
    assert card["processes"] == 2 and done.stdout.count("use it as --encoder") == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["lmc"]
    loaded = encoder(f"{tmp_path / 'lmc'}?verify=yes")
    assert np.isfinite(loaded.forward(np.zeros((1, 64, 64, 3), np.uint8))).all()
