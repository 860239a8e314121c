"""The picture of one tile's staining: it says what is so, nothing is clipped, and nothing leaks."""

import io

import matplotlib
import numpy as np
import pytest
from PIL import Image

from histolatent.errors import OptionError
from histolatent.images import decode
from histolatent.images.phantom import PhantomSpec, PhantomTiles
from histolatent.report import stain as drawing
from histolatent.report.stain import draw_stain, verdict
from histolatent.stain import StainModel, fit_colour, fit_tile


@pytest.fixture(scope="module")
def tile() -> np.ndarray:
    """A tile of the phantom, wider than high."""
    return PhantomTiles(PhantomSpec(sites=1, patients=1, slides=1, tiles_per_site=1, tile_px=96)).read(0)[:72]


@pytest.fixture
def figures(monkeypatch):
    """Keep every figure that is drawn."""
    kept = []
    original = drawing._head

    def head(figure, *words):
        kept.append(figure)
        original(figure, *words)

    monkeypatch.setattr(drawing, "_head", head)
    return kept


def texts_of(figure) -> list[str]:
    return [text.get_text() for text in figure.findobj(matplotlib.text.Text) if text.get_text() and text.get_visible()]


def assert_whole(figure) -> None:
    """Nothing lies outside the page, and no text over another; ticks are left to Matplotlib."""
    renderer = figure.canvas.get_renderer()
    inches = figure.get_tightbbox(renderer)
    assert min(inches.x0, inches.y0) >= 0
    assert inches.x1 <= figure.get_figwidth()
    assert inches.y1 <= figure.get_figheight()
    texts = list(figure.texts)
    for axis in figure.axes:
        texts += [axis.title, axis._left_title, axis.xaxis.label, axis.yaxis.label, *axis.texts]
        texts += axis.get_legend().get_texts() if axis.get_legend() else []
    shown = [(text.get_text(), text.get_window_extent(renderer)) for text in texts if text.get_text().strip()]
    assert len(shown) > 10
    for place, (first, one) in enumerate(shown):
        for second, other in shown[place + 1 :]:
            apart = one.x1 < other.x0 + 1 or other.x1 < one.x0 + 1 or one.y1 < other.y0 + 1 or other.y1 < one.y0 + 1
            assert apart, f"{first!r} lies over {second!r}"
    boxes = [axis.get_tightbbox(renderer) for axis in figure.axes]  # with labels
    for place, box in enumerate(boxes):
        assert not any(box.overlaps(other) for other in boxes[place + 1 :]), "two panels overlap"


def test_a_usable_tile(tile, figures):
    before = dict(matplotlib.rcParams)
    fit = fit_tile(tile)
    picture = draw_stain(tile, fit, name="t000")
    assert Image.open(io.BytesIO(picture)).size == (1400, 900)
    assert picture == draw_stain(tile, fit, name="t000")
    assert dict(matplotlib.rcParams) == before
    texts = texts_of(figures[0])
    assert isinstance(fit, StainModel)
    for expected in (
        "t000",
        "✓ " + verdict(fit),
        "hematoxylin alone",
        "eosin alone",
        "residual",
        "stain manifold",
        "96 x 72 px",
        f"eosin, {fit.canonical_degrees[1]:.1f}° off",
        f"99th percentile over tissue: {fit.max_concentrations[0]:.2f} OD",
    ):
        assert expected in texts
    assert any(text.startswith("background I0: ") and "found in the background" in text for text in texts)
    assert_whole(figures[0])


@pytest.mark.parametrize("name", ["x" * 400, "$x_{^/[b]"])
def test_any_name(tile, figures, name):
    draw_stain(tile, fit_tile(tile), name=name, whose="slide " + name)
    assert_whole(figures[0])


def test_a_white_tile(figures):
    blank = np.full((64, 64, 3), 243, np.uint8)
    draw_stain(blank, fit_tile(blank))
    texts = texts_of(figures[0])
    assert any(text.startswith("✕ not usable (too-little-tissue): fewer than 100 pixels") for text in texts)
    assert "no stain manifold without a usable fit" in texts
    assert "vectors: canonical, since no fit can be used" in texts
    assert_whole(figures[0])


def test_three_stains_and_given_vectors(tile, figures):
    three = fit_tile(tile, "fixed", stains="H&E-DAB")
    draw_stain(tile, three)
    assert "dab alone" in texts_of(figures[0])
    assert "the stain manifold is one of H&E" in texts_of(figures[0])
    assert verdict(three).endswith("between hematoxylin and eosin")
    draw_stain(tile, fit_tile(tile, "fixed", vectors=[[0.65, 0.7, 0.29], [0.1, 0.9, 0.3]]))
    assert "stain 1 alone" in texts_of(figures[1])
    for figure in figures:
        assert_whole(figure)


def test_a_fit_of_colours_has_no_vectors(tile):
    with pytest.raises(OptionError, match="no stain vectors to show"):
        draw_stain(tile, fit_colour([tile]))


@pytest.mark.data
def test_edge_tiles(data, figures):
    for path in sorted((data / "edge_tiles").glob("*.png"))[::4]:
        tile = decode(path)
        draw_stain(tile, fit_tile(tile), name=path.name)
        assert_whole(figures[-1])
