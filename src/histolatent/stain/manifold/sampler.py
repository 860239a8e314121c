"""The stain manifold of a cohort: how its slides are stained, and which protocols to expect beside them."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from ...errors import InputError, OptionError, unknown
from ...provenance import stream
from ..fit import Sample, fit_samples, sample_pixels
from ..model import StainBook, StainModel
from .fitting import INFLATION, PRIOR_SLIDES, fit_prior
from .grid import StateGrid, grid_values
from .prior import Prior, fixed_prior
from .render import render_image
from .staining import Anchor, anchor_of, check_stains
from .state import ProtocolState, check_axis


@dataclass(frozen=True, eq=False, repr=False)
class StainManifold:
    """All protocols under which a tile could have been made, with coordinates.

    .. math:: x(p) = \\mathrm{camera}\\Big(I_0(p)\\, e^{-W(p)^\\top (e^{a} C + b\\,[\\mathrm{tissue}])}\\Big)

    `W` are the vectors of the tile's slide (hematoxylin, eosin, residual), `C` its amounts, `p` a `ProtocolState`. The
    state 0 is the tile itself. `anchor` is the model of the whole cohort, `slides` those of single slides, `prior` the
    law that states are drawn from; nothing is fitted to a tile that is rendered.

    Amounts are least squares and keep their sign, also under a Vahadane model: sparse ones do not give the tile back.

    Raises
    ------
    OptionError
        If a model is not of hematoxylin and eosin.
    """

    anchor: StainModel
    prior: Prior = field(default_factory=fixed_prior)
    slides: Mapping[str, StainModel] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_stains(self.anchor, "the anchor model")
        for slide, model in self.slides.items():
            check_stains(model, f"the model of slide {slide!r}")
        object.__setattr__(self, "slides", dict(self.slides))

    def __repr__(self) -> str:
        anchor = self.anchor_of(None)
        said = anchor.source if anchor.source == "fitted" else f"{anchor.source}, since {anchor.why}"
        return f"StainManifold(anchor {said}; {len(self.slides)} slides; {self.prior!r})"

    @classmethod
    def fit(
        cls,
        tiles_by_slide: Iterable[tuple[str, np.ndarray]],
        method: str = "macenko",
        *,
        inflation: float = INFLATION,
        prior_slides: float = PRIOR_SLIDES,
        layout: str = "HWC",
        **options: Any,
    ) -> "StainManifold":
        """Fit a model to each slide, one to all of them, and the prior between slides.

        `tiles_by_slide` gives pairs of slide and tile, in any order; each tile is read once, and 12 kB of it are kept.
        Options as in `fit_samples`; `inflation` and `prior_slides` as in `fit_prior`.

        Raises
        ------
        InputError
            If there are no tiles, or one is not usable.
        OptionError
            If an option is unknown or out of range.
        """
        samples: dict[str, list[Sample]] = {}
        for slide, image in tiles_by_slide:
            samples.setdefault(str(slide), []).append(sample_pixels(image, layout=layout))
        slides = {slide: fit_samples(held, method, **options) for slide, held in samples.items()}
        overall = fit_samples([sample for held in samples.values() for sample in held], method, **options)
        prior = fit_prior(list(slides.values()), inflation=inflation, prior_slides=prior_slides)
        return cls(overall, prior, slides)

    @classmethod
    def from_book(
        cls, book: StainBook, *, inflation: float = INFLATION, prior_slides: float = PRIOR_SLIDES
    ) -> "StainManifold":
        """Return the manifold of a stain file: its overall model, its slides, and the prior between them.

        Raises
        ------
        OptionError
            If the file holds colour models, as Reinhard's method fits them.
        """
        models: dict[str, StainModel] = {}
        for slide, fit in (*book.slides.items(), ("", book.overall)):
            if not isinstance(fit, StainModel):
                raise OptionError(
                    "a colour model spans no stain manifold", received=book.method, valid="macenko, vahadane, fixed"
                )
            models[slide] = fit
        overall = models.pop("")
        return cls(overall, fit_prior(list(models.values()), inflation=inflation, prior_slides=prior_slides), models)

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON-able values."""
        return {
            "anchor": self.anchor.model_dump(mode="json"),
            "prior": self.prior.to_dict(),
            "slides": {slide: model.model_dump(mode="json") for slide, model in self.slides.items()},
        }

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> "StainManifold":
        """Return the manifold of a dictionary that `to_dict` made.

        Raises
        ------
        InputError
            If a field is missing or wrong: the message names it.
        """
        for name in ("anchor", "prior", "slides"):
            if not isinstance(document.get(name), Mapping):
                raise InputError(f"stain manifold: field {name} is missing, or no mapping", received=list(document))
        slides = {slide: _read_model(model, f"slides.{slide}") for slide, model in document["slides"].items()}
        return cls(_read_model(document["anchor"], "anchor"), Prior.from_dict(document["prior"]), slides)

    @cached_property
    def _anchors(self) -> dict[str | None, Anchor]:
        return {}

    def with_prior(self, prior: Prior) -> "StainManifold":
        """Return the manifold with another prior, such as `manifold.prior.only("stain").widened(2)`."""
        return StainManifold(self.anchor, prior, self.slides)

    def anchor_of(self, slide: str | None) -> Anchor:
        """Return the staining that tiles of a slide are rendered from, and where it comes from.

        That is the slide's own model; where that is not valid, or its stains lie closer than 12 degrees, the overall
        one with the slide's background; where that will not do either, the canonical vectors. `source` and `why` say
        which. Without a slide, or in a manifold without models of slides, it is the overall one.

        Raises
        ------
        OptionError
            If there are models of slides, and none is called so.
        """
        if slide is not None and self.slides and slide not in self.slides:
            raise unknown("slide in the stain manifold", slide, self.slides)
        own = slide if self.slides else None
        if own not in self._anchors:
            self._anchors[own] = anchor_of(*([] if own is None else [self.slides[own]]), self.anchor)
        return self._anchors[own]

    def sample(self, seed: int, *names: str | int) -> ProtocolState:
        """Draw a state; the same seed and names (a tile, a view) give the same one, whatever was drawn before."""
        return self.prior.draw(stream(seed, "stain manifold", *names))

    def render(
        self,
        image: np.ndarray,
        state: ProtocolState,
        *,
        mpp: float | None = None,
        slide: str | None = None,
        tile_id: str = "",
        layout: str = "HWC",
    ) -> np.ndarray:
        """Return the image under a state, in the type and layout that it came in; the image itself is not changed.

        `mpp` turns the blur's um into pixels; without it 0.5 is assumed. `slide` names whose vectors are used, see
        `anchor_of`. `tile_id` chooses the noise, together with the state's seed. uint8 is rounded to the nearest level;
        a float image in 0 to 1 comes back unrounded, unless there is JPEG. State 0 gives an exact copy. But for blur,
        noise and JPEG a pixel depends on itself alone.

        Misleads where a state brightens what the tile shows at 0 or 255: what was cut off there is not known.

        Raises
        ------
        InputError
            If the image is not usable (see `read_levels`).
        OptionError
            If the slide is unknown, or `mpp` is no positive number.
        """
        return render_image(image, state, self.anchor_of(slide), mpp, tile_id, layout)

    def grid(
        self,
        image: np.ndarray,
        axis_a: str,
        axis_b: str,
        values_a: Sequence[float] | None = None,
        values_b: Sequence[float] | None = None,
        *,
        at: ProtocolState | None = None,
        mpp: float | None = None,
        slide: str | None = None,
        tile_id: str = "",
        layout: str = "HWC",
    ) -> StateGrid:
        """Render the image at every pair of values of two axes; the other coordinates are those of `at`, or 0.

        Without values an axis has five, from -2 to +2 standard deviations of the prior, or from 0 to +2 where it is
        one-sided. Options as in `render`.

        Raises
        ------
        OptionError
            If an axis is unknown or named twice, or a value lies beyond its limits.
        """
        if check_axis(axis_a) is check_axis(axis_b):
            raise OptionError("a grid needs two different axes", received=axis_a)
        rows = grid_values(axis_a, self.prior) if values_a is None else tuple(map(float, values_a))
        columns = grid_values(axis_b, self.prior) if values_b is None else tuple(map(float, values_b))
        if not (rows and columns):
            raise OptionError("a grid needs at least one value of each axis", received=f"{len(rows)} x {len(columns)}")
        base = ProtocolState() if at is None else at
        states = tuple(tuple(base.moved(**{axis_a: a, axis_b: b}) for b in columns) for a in rows)
        anchor = self.anchor_of(slide)
        tiles = [[render_image(image, state, anchor, mpp, tile_id, layout) for state in row] for row in states]
        return StateGrid(axis_a, axis_b, rows, columns, states, np.array(tiles))


def _read_model(document: Any, field_name: str) -> StainModel:
    try:
        return StainModel.model_validate(document)
    except ValueError as error:
        first = str(error).splitlines()[1:3]
        raise InputError(f"stain manifold: field {field_name} is no stain model: {' '.join(first)}") from None
