"""A small audit, and ways to change it."""

import pytest

from histolatent.audit import AuditResult, Plan, audit_encoders
from histolatent.encoders import encoder
from histolatent.images.phantom import PhantomSpec, PhantomTiles

BASELINE = "toy:colour-histogram"


@pytest.fixture(scope="session")
def cohort() -> PhantomTiles:
    """Three sites, four patients each, 24 tiles of 32 px."""
    return PhantomTiles(PhantomSpec(sites=3, patients=4, slides=1, tiles_per_site=8, tile_px=32, seed=5))


@pytest.fixture(scope="session")
def audited(cohort: PhantomTiles) -> AuditResult:
    """An audit of three encoders without trained weights."""
    names = ("toy:od-moments", "toy:constant", BASELINE)
    plan = Plan(resamples=100, columns={"label": "diagnosis"})
    return audit_encoders(cohort, [encoder(name) for name in names], plan=plan, baselines=[BASELINE])[0]
