"""Views across two processes: what they compute together is what one process would.

Run as a script, this file is one of the processes: `test_gather.py RANK FOLDER KIND`.
"""

import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import nullcontext
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
distributed = pytest.importorskip("torch.distributed")

from histolatent.compact.accumulate import accumulated  # noqa: E402
from histolatent.compact.gather import gather, gather_groups  # noqa: E402
from histolatent.compact.losses import LOSSES, infonce  # noqa: E402
from histolatent.errors import InputError  # noqa: E402

if not distributed.is_available() or not distributed.is_gloo_available():
    pytest.skip("this torch has no gloo", allow_module_level=True)

WORLD = 2
GROUPS = torch.tensor([0, 1, 1, 2, 2, 0, 3, 4, 5, 3])  # some of a group are in the other process


def tiles() -> torch.Tensor:
    """Return three views of ten tiles, five for each rank."""
    rng = np.random.default_rng(0)
    return torch.from_numpy(rng.normal(size=(10, 6)) + 0.5 * rng.normal(size=(3, 10, 6)))


def linear() -> torch.nn.Linear:
    encoder = torch.nn.Linear(6, 4, dtype=torch.float64)
    with torch.no_grad():
        encoder.weight.copy_(torch.from_numpy(np.random.default_rng(1).normal(size=(4, 6))))
        encoder.bias.fill_(0.3)
    return encoder


def outcome(value: float, encoder: torch.nn.Module, kind: str = "") -> np.ndarray:
    """Return a loss, and the gradients of the weights after what `kind` of training does to them."""
    gradients = torch.cat([parameter.grad.flatten() for parameter in encoder.parameters()])
    if kind == "averaged":
        distributed.all_reduce(gradients)
        gradients /= WORLD
    return np.concatenate([[value], gradients.numpy()])


def one_process() -> dict[str, np.ndarray]:
    found = {}
    for name, loss in {**LOSSES, "groups": lambda z: infonce(z, positives=GROUPS)}.items():
        encoder = linear()
        value = loss(encoder(tiles()))
        value.backward()
        found[name] = outcome(value.item(), encoder)
    return found


def shared(encoder: torch.nn.Module, kind: str) -> torch.nn.Module:
    return torch.nn.parallel.DistributedDataParallel(encoder) if kind == "ddp" else encoder


def act(rank: int, folder: Path, kind: str) -> None:
    """Do what one of the processes does, and write what it found."""
    distributed.init_process_group(
        "gloo",
        init_method=(folder / "store").resolve().as_uri(),
        rank=rank,
        world_size=WORLD,
        timeout=timedelta(seconds=60),
    )
    own = tiles()[:, 5 * rank : 5 * rank + 5]
    groups = gather_groups(GROUPS[5 * rank : 5 * rank + 5])
    found: dict[str, np.ndarray] = {"gathered groups": groups.numpy()}
    losses = {
        **LOSSES,
        "groups": lambda z: infonce(z, positives=groups),
        "uneven": lambda z: (1 + 2 * rank) * LOSSES["barlow"](z),
    }
    for name, loss in losses.items():
        encoder = linear()
        model = shared(encoder, kind)  # by a name: a wrapper that is gone averages nothing
        value = loss(gather(model(own)))
        value.backward()
        found[name] = outcome(value.item(), encoder, kind)
    for name, loss in LOSSES.items():
        encoder = linear()
        found[f"accumulated {name}"] = outcome(in_micro_batches(own, loss, shared(encoder, kind)), encoder, kind)

    found["views"] = gather(own).numpy()
    half = own.bfloat16().requires_grad_()
    gathered = gather(half.transpose(0, 1).contiguous().transpose(0, 1))  # not contiguous
    gathered.sum().backward()
    found["half"], found["half gradient"] = gathered.detach().float().numpy(), half.grad.float().numpy()
    for key, unequal in {"tiles": own[:, : 5 - rank], "dimensions": own[..., : 4 + rank]}.items():
        try:
            gather(unequal)
        except InputError as error:
            found[f"unequal {key}"] = np.array(str(error))
    np.savez(folder / f"{rank}.npz", **found)
    distributed.destroy_process_group()


def in_micro_batches(own: torch.Tensor, loss: Callable[..., torch.Tensor], model: torch.nn.Module) -> float:
    """Return the loss of three micro-batches, which also have a side loss."""

    def forward(batch: torch.Tensor) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        z = model(batch)
        return z, {"size": z.square().mean()}

    no_sync = getattr(model, "no_sync", nullcontext)
    return accumulated(forward, own.split([2, 2, 1], dim=1), lambda z: loss(gather(z)), no_sync=no_sync).loss


@pytest.fixture(scope="module", params=["averaged", pytest.param("ddp", marks=pytest.mark.slow)])
def ranks(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, np.ndarray]]:
    """What each of two processes found, each with half of the tiles; gradients averaged by hand, or by DDP."""
    folder = tmp_path_factory.mktemp("ranks")
    loopback = "lo0" if sys.platform == "darwin" else "lo"
    environment = {**os.environ, "GLOO_SOCKET_IFNAME": loopback, "OMP_NUM_THREADS": "1"}
    processes = [
        subprocess.Popen(
            [sys.executable, "-W", "error", __file__, str(rank), str(folder), request.param],
            env=environment,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(WORLD)
    ]
    try:
        said = [process.communicate(timeout=120)[1] for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert [process.returncode for process in processes] == [0, 0], "\n".join(said)
    return [dict(np.load(folder / f"{rank}.npz")) for rank in range(WORLD)]


@pytest.mark.parametrize("name", [*LOSSES, "groups"])
def test_two_processes_find_what_one_does(ranks, name):
    wanted = one_process()[name]
    assert np.abs(wanted[1:]).max() > 1e-3
    for found in ranks:
        np.testing.assert_allclose(found[name], wanted, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", list(LOSSES))
def test_micro_batches_of_two_processes_find_what_one_does(ranks, name):
    encoder = linear()
    z = encoder(tiles())
    value = LOSSES[name](z)
    (value + z.square().mean()).backward()
    for found in ranks:
        np.testing.assert_allclose(found[f"accumulated {name}"], outcome(value.item(), encoder), rtol=1e-9, atol=1e-12)


def test_losses_that_differ_between_ranks_are_averaged(ranks):
    value, *gradient = one_process()["barlow"]
    for rank, found in enumerate(ranks):
        np.testing.assert_allclose(
            found["uneven"], [(1 + 2 * rank) * value, *(2 * np.array(gradient))], rtol=1e-9, atol=1e-12
        )


def test_tiles_come_in_the_order_of_ranks(ranks):
    for found in ranks:
        assert np.array_equal(found["views"], tiles().numpy())
        assert np.array_equal(found["gathered groups"], GROUPS.numpy())


def test_half_precision_is_gathered(ranks):
    for found in ranks:
        assert np.array_equal(found["half"], tiles().bfloat16().float().numpy())
        assert np.array_equal(found["half gradient"], np.full((3, 5, 6), WORLD))


def test_unequal_batches_are_named_in_every_process(ranks):
    for found in ranks:
        assert "rank 0: (3, 5, 6); rank 1: (3, 4, 6)" in str(found["unequal tiles"])
        assert "Fix: drop the last, smaller batch" in str(found["unequal tiles"])
        assert "rank 0: (3, 5, 4); rank 1: (3, 5, 5)" in str(found["unequal dimensions"])


def test_one_process_gathers_nothing():
    assert not distributed.is_initialized()
    z = tiles().requires_grad_()
    assert gather(z) is z
    assert gather_groups(GROUPS) is GROUPS


def test_what_is_not_gathered():
    with pytest.raises(InputError, match=r"only projections are gathered. Received: torch.float32 \(4, 3\)"):
        gather(torch.ones(4, 3))
    with pytest.raises(InputError, match=r"only projections are gathered. Received: torch.int64"):
        gather(torch.ones(2, 4, 3, dtype=torch.int64))
    with pytest.raises(InputError, match=r"groups are one integer for each tile. Received: torch.float32 \(4,\)"):
        gather_groups(torch.ones(4))


if __name__ == "__main__":
    act(int(sys.argv[1]), Path(sys.argv[2]), sys.argv[3])
