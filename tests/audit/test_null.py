"""Where nothing is true, how often does an audit say that something is? It should be one time in twenty."""

import sys
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import binom

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))
import _audit_null as null  # noqa: E402

sys.path.remove(str(BENCHMARKS))


#: Enough to see an interval that is far too narrow; `benchmarks/audit.py` asks four times as many, of closer bounds.
RUNS = 100
#: One after the other in one process, the index and the margin share most of their work.
TOGETHER = (null.index_of_permuted_labels, null.margin_of_permuted_labels)
ALONE = [(case.run,) for case in null.CASES if case.by == "interval" and case.run not in TOGETHER]


@pytest.mark.slow
@pytest.mark.parametrize("runs", [*ALONE, TOGETHER], ids=lambda runs: runs[0].__name__)
def test_chance_is_excluded_one_time_in_twenty(runs):
    # Of a true 5 %, 100 runs give 1 to 10 % in 98 of 100 cases, of a true 15 % in 10; the seeds are fixed.
    assert binom.cdf(10, RUNS, 0.05) - binom.cdf(0, RUNS, 0.05) > 0.98
    assert binom.cdf(10, RUNS, 0.15) < 0.1
    for run in runs:
        assert 0.01 <= np.mean([run(seed) for seed in range(RUNS)]) <= 0.1
