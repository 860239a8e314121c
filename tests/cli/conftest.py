"""What the tests of the command line share."""

import sys
from collections.abc import Iterator

import pytest
from threadpoolctl import threadpool_limits
from typer.testing import CliRunner

from histolatent.cli import main
from histolatent.cli.app import app


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> Iterator[None]:
    """Keep BLAS to one thread: on a busy machine, threads that wait for each other make small fits far slower."""
    with threadpool_limits(1):
        yield


@pytest.fixture
def run(monkeypatch):
    """Run the command in this process, wide enough that no line is wrapped."""
    monkeypatch.setenv("COLUMNS", "300")

    def call(*words: object):
        return CliRunner().invoke(app, [str(word) for word in words], catch_exceptions=False)

    return call


@pytest.fixture
def fails(monkeypatch, capsys):
    """Run the command through `main`; return its exit code and the one line that it prints."""

    def call(*words: object) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["histolatent", *map(str, words)])
        with pytest.raises(SystemExit) as stop:
            main()
        captured = capsys.readouterr()
        assert "Traceback" not in captured.err
        lines = [line for line in captured.err.splitlines() if line.strip()]
        assert len(lines) == 1, captured.err
        return int(stop.value.code or 0), lines[0]

    return call
