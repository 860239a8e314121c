"""A small audit, and ways to change it."""

from collections.abc import Iterator

import pytest
from threadpoolctl import threadpool_limits

from histolatent.audit import AuditResult, Plan, audit_encoders
from histolatent.encoders import encoder
from histolatent.images.phantom import PhantomSpec, PhantomTiles

BASELINE = "toy:colour-histogram"


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> Iterator[None]:
    """Keep BLAS to one thread: on a busy machine, threads that wait for each other make small fits far slower."""
    with threadpool_limits(1):
        yield


@pytest.fixture(scope="session")
def cohort() -> PhantomTiles:
    """Three sites, four patients each, 24 tiles of 32 px."""
    return PhantomTiles(PhantomSpec(sites=3, patients=4, slides=1, tiles_per_site=8, tile_px=32, seed=5))


@pytest.fixture(scope="session")
def audited(cohort: PhantomTiles) -> AuditResult:
    """An audit of three encoders without trained weights."""
    names = ("toy:od-moments", "toy:constant", BASELINE)
    plan = Plan(resamples=100, columns={"label": "diagnosis"})
    return audit_encoders(cohort, [encoder(name) for name in names], plan=plan, baselines=[BASELINE]).result
