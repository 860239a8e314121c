"""What every test shares: no network but loopback, no accelerator, a folder of real tiles if there is one."""

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import jaxtyping
import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")
if "PYTEST_XDIST_WORKER" in os.environ:  # several share the cores: threads that wait for each other only cost
    os.environ.setdefault("OMP_NUM_THREADS", "1")
LOOPBACK = ("127.", "::1", "localhost")


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    connect = socket.socket.connect

    def guarded(self: socket.socket, address: object) -> None:
        host = address[0] if isinstance(address, tuple) else ""
        if self.family in (socket.AF_INET, socket.AF_INET6) and not str(host).startswith(LOOPBACK):
            raise AssertionError(f"a test tried to connect to {address}")
        connect(self, address)  # pyright: ignore[reportArgumentType]

    monkeypatch.setattr(socket.socket, "connect", guarded)


@pytest.fixture(autouse=True)
def _unchecked_if_slow(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Check no shapes at run time in what is slow: checks double its time, and faster tests have made them."""
    if request.node.get_closest_marker("slow"):
        monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)


@pytest.hookimpl(wrapper=True)
def pytest_fixture_setup(fixturedef: pytest.FixtureDef) -> Iterator[None]:
    """Check no shapes in what is made once for many tests, either."""
    with pytest.MonkeyPatch.context() as patch:
        if fixturedef.scope != "function":
            patch.setattr(jaxtyping.config, "jaxtyping_disable", True)
        return (yield)


@pytest.fixture
def data() -> Path:
    """The folder of real tiles; the test is skipped without it."""
    folder = os.environ.get("HISTOLATENT_DATA")
    if not folder:
        pytest.skip("HISTOLATENT_DATA does not name a folder of real tiles")
    return Path(folder)
