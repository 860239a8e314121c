"""Where nothing is true, how often does an audit say that something is? It should be one time in twenty."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from scipy.stats import binom

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))
import _audit_null as null  # noqa: E402

sys.path.remove(str(BENCHMARKS))

#: One after the other in one process, the index and the margin share most of their work.
TOGETHER = ("index_of_permuted_labels", "margin_of_permuted_labels")
ALONE = [(case.run.__name__,) for case in null.CASES if case.by == "interval" and case.run.__name__ not in TOGETHER]
#: In a process of its own, in which no call is checked for the types that it is given.
SHARES = """
import json, sys
import numpy as np
sys.path.insert(0, sys.argv[1])
import _audit_null as null
runs = [getattr(null, name) for name in sys.argv[2:]]
print(json.dumps([float(np.mean([run(seed) for seed in range(null.RUNS)])) for run in runs]))
"""


@pytest.mark.slow
@pytest.mark.parametrize("names", [*ALONE, TOGETHER], ids=lambda names: names[0])
def test_chance_is_excluded_one_time_in_twenty(names):
    # Of a true 5 %, 400 runs give 3 to 7 % in 93 of 100 cases; the seeds are fixed.
    assert binom.cdf(28, null.RUNS, 0.05) - binom.cdf(11, null.RUNS, 0.05) > 0.93
    command = [sys.executable, "-c", SHARES, str(BENCHMARKS), *names]
    said = subprocess.run(command, capture_output=True, text=True, check=False)
    assert said.returncode == 0, said.stderr
    shares = json.loads(said.stdout)
    assert len(shares) == len(names) and all(0.03 <= share <= 0.07 for share in shares)
