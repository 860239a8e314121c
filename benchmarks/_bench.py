"""What the benchmarks share: repeated interleaved timings, provenance, one JSON file and one last line."""

import argparse
import json
import platform
import statistics
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from histolatent.provenance import environment, now

RESULTS = Path(__file__).parent / "results"


@dataclass
class Bench:
    """The checks and measurements of one benchmark."""

    name: str
    mode: str
    checks: dict[str, dict[str, Any]] = field(default_factory=dict)
    measured: dict[str, Any] = field(default_factory=dict)

    def check(self, what: str, value: float | None, target: str | None = None, reason: str = "") -> None:
        """Record a figure against its target (`>= 0.9`, `< 0.3`), or without one."""
        ok = None if target is None or value is None else bool(_meets(value, target))
        entry = {"value": None if value is None else float(f"{value:.4g}"), "target": target, "ok": ok}
        self.checks[what] = entry | ({"reason": reason} if reason else {})
        verdict = "" if ok is None else f" (target {target}: {'met' if ok else 'MISSED'})"
        print(f"{what}: {entry['value']}{verdict}", flush=True)

    def finish(self) -> None:
        """Write the JSON file with its provenance, and print the checks as the last line."""
        RESULTS.mkdir(exist_ok=True)
        document = {
            "benchmark": self.name,
            "mode": self.mode,
            "date": now(),
            "commit": _git("rev-parse", "--short", "HEAD"),
            "uncommitted_changes": bool(_git("status", "--porcelain", "--untracked-files=no")),
            "processor": _processor(),
            "environment": environment(),
            "checks": self.checks,
            "measured": self.measured,
        }
        (RESULTS / f"{self.name}.json").write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
        print(json.dumps({"benchmark": self.name, "mode": self.mode, "checks": self.checks}))


def start(name: str, description: str) -> Bench:
    """Read `--quick` or `--full` from the command line."""
    parser = argparse.ArgumentParser(description=description)
    group = parser.add_mutually_exclusive_group()
    group.add_argument("--quick", action="store_true", help="within five minutes on two cores (the default)")
    group.add_argument("--full", action="store_true", help="more repeats")
    return Bench(name, "full" if parser.parse_args().full else "quick")


def seconds(work: Callable[[], object]) -> float:
    """Return how long one call takes."""
    clock = time.perf_counter()
    work()
    return time.perf_counter() - clock


def interleaved(
    first: Callable[[], object], second: Callable[[], object], repeats: int
) -> tuple[list[float], list[float]]:
    """Time two things in turn, A B A B, so that a machine that slows down slows both."""
    pairs = [(seconds(first), seconds(second)) for _ in range(repeats)]
    return [pair[0] for pair in pairs], [pair[1] for pair in pairs]


def spread(values: list[float]) -> dict[str, float]:
    """Return median and interquartile range."""
    ordered = sorted(values)
    low, _, high = statistics.quantiles(ordered, n=4) if len(ordered) > 1 else (ordered[0],) * 3
    return {"median": statistics.median(ordered), "iqr": high - low, "runs": len(ordered)}


def _meets(value: float, target: str) -> bool:
    sign, bound = target.split()
    limit = float(bound)
    return {
        ">=": value >= limit,
        ">": value > limit,
        "<": value < limit,
        "<=": value <= limit,
        "==": value == limit,
    }[sign]


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=RESULTS.parent, capture_output=True, text=True, check=False)
    return done.stdout.strip()


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        names = [line.split(":")[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")]
        return f"{len(names)} x {names[0]}" if names else platform.machine()
    return platform.processor() or platform.machine()
