import pytest

from histolatent.images.phantom import PhantomSpec, PhantomTiles


@pytest.fixture(scope="session")
def tiles() -> PhantomTiles:
    """Three sites, five patients, so that no two sizes are equal."""
    return PhantomTiles(PhantomSpec(sites=3, patients=5, tiles_per_site=50, seed=11))


@pytest.fixture(scope="session")
def one_site() -> PhantomTiles:
    """Enough tiles of one site to fit a small probe."""
    return PhantomTiles(PhantomSpec(sites=1, tiles_per_site=180, seed=3))
