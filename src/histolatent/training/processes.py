"""Training on several devices: one process each, started here or by torchrun. Imports torch."""

import contextlib
import datetime
import logging
import multiprocessing
import os
import threading
from collections.abc import Callable, Iterator
from typing import Any

import torch
from lightning_fabric import Fabric
from lightning_fabric.strategies.ddp import DDPStrategy
from torch.multiprocessing.spawn import ProcessException

from ..encoders.torch_models import choose_device
from ..errors import HistolatentError, OptionError

#: What a training run says while it runs: of what, steps done, steps in all, costs.
Told = Callable[[str, int, int, Any], None]
#: Processes wait for each other so long: the first of them reads tiles and renders held-out states meanwhile.
PATIENCE = datetime.timedelta(hours=12)


@contextlib.contextmanager
def threads(count: int) -> Iterator[None]:
    """Let torch use so many threads on a CPU, and then what it used before."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def started_outside() -> bool:
    """Whether processes were started by torchrun or the like."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1


def make_fabric(device: str | None, precision: str, devices: int = 1) -> Fabric:
    """Return what Fabric needs to train on `devices` devices of a kind, or on those that torchrun started.

    Raises
    ------
    OptionError
        If there are not so many, or the kind cannot be divided.
    """
    chosen = torch.device(choose_device(device))
    if precision == "auto":
        precision = "bf16" if _fast_bf16(chosen.type) else "fp32"
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)  # it tells which precision it was given
    named: dict[str, Any] = {
        "accelerator": chosen.type,
        "precision": {"bf16": "bf16-mixed", "fp32": "32-true"}[precision],
    }
    if started_outside():
        here = int(os.environ.get("LOCAL_WORLD_SIZE", os.environ["WORLD_SIZE"]))
        nodes = int(os.environ["WORLD_SIZE"]) // here
        return Fabric(**named, devices=here, num_nodes=nodes, strategy=DDPStrategy(timeout=PATIENCE))
    if devices == 1:
        return Fabric(**named, devices=[chosen.index or 0] if chosen.type == "cuda" else 1)
    there = torch.cuda.device_count() if chosen.type == "cuda" else os.cpu_count() or 1
    if chosen.type == "mps" or chosen.index is not None or not 1 <= devices <= there:
        raise OptionError(
            f"cannot train on {devices} devices",
            received=device or chosen.type,
            valid=f"1 to {there} of kind {chosen.type}" if chosen.type != "mps" else "1 of kind mps",
            fix="give the kind alone: --device cuda --devices 2",
        )
    return Fabric(**named, devices=devices, strategy=DDPStrategy(start_method="spawn", timeout=PATIENCE))


def _fast_bf16(device: str) -> bool:
    """Whether a device computes in bfloat16 itself, so that it is faster there than float32."""
    if device == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return device == "cpu" and torch.cpu._is_avx512_bf16_supported()


def launch(fabric: Fabric, run: Callable[..., bytes], *given: Any, told: Told | None) -> bytes:
    """Call `run(fabric, *given, told)` in every process that this one starts; return what the first one returns.

    What `told` is called with there, it is called with here; an error of histolatent there is raised here.
    """
    with multiprocessing.get_context("spawn").Manager() as manager:
        queue = manager.Queue()
        errors: list[HistolatentError] = []
        results: list[bytes] = []

        def listen() -> None:
            while (message := queue.get()) is not None:
                if isinstance(message, HistolatentError):
                    errors.append(message)
                elif isinstance(message, bytes):
                    results.append(message)
                elif told:
                    told(*message)

        listener = threading.Thread(target=listen, daemon=True)
        listener.start()
        try:
            fabric.launch(_Reporting(run, given, queue))
        except ProcessException:
            queue.put(None)
            listener.join()
            if errors:
                raise errors[0] from None
            raise
        queue.put(None)
        listener.join()
        return results[0]


class _Reporting:
    """What each process runs. No dataclass, and nothing handed over beside it: Fabric takes such apart.

    Results go through the queue, too: Fabric's own way back holds 64 kB, and then waits for ever.
    """

    def __init__(self, run: Callable[..., bytes], given: tuple[Any, ...], queue: Any) -> None:
        self.run, self.given, self.queue = run, given, queue

    def __call__(self, fabric: Fabric) -> None:
        try:
            result = self.run(fabric, *self.given, self.tell if fabric.is_global_zero else None)
            if fabric.is_global_zero:
                self.queue.put(result)
        except HistolatentError as error:
            self.queue.put(error)
            raise

    def tell(self, *message: Any) -> None:
        self.queue.put(message)
