"""Is the staining of a cohort in order? Figures per slide, what is not usable, and which slides stand out."""

import math
import os
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ..errors import OptionError
from ..images import TileSource
from ..outputs import whole
from ..provenance import canonical_json
from ..stain import NORMALIZERS, StainBook, StainModel
from ..stain.model import Facts
from .fit import fit_source, mixed_fit

FEWEST_SLIDES = 5
FARTHEST_Z = 3.5
ALL_TILES = "all tiles"
#: What to do about slides that are not usable, by reason.
ADVICE: Mapping[str, str] = {
    "too-little-tissue": "choose tiles with more tissue; until then their tiles are left as they are",
    "one-stain": "look at them (histolatent stain show): unstained, or stained with one of the two only?",
    "unclear-order": "look at them (histolatent stain show): where empty slide is dim or coloured, give its level with "
    "--white; where hardly anything is of one of the two stains, choose other tiles",
    "far-from-canonical": "look at them (histolatent stain show): other stains need --stains, pen and ink need other "
    "tiles",
    "looks-like-dab": "if they are immunohistochemistry, give them apart, with --stains H-DAB",
}
OUTLIER_ADVICE = "look at the slides that stand out (histolatent stain show), and normalise per slide before training"

MIXED_ADVICE = "the tiles have no one staining: name what belongs together with --by"


@dataclass(frozen=True)
class _Figure:
    """A figure that slides are compared by. `floor` is a spread, in its unit, below which no difference matters."""

    floor: float
    says: Callable[[float, float], str]
    logarithmic: bool = False


@dataclass(frozen=True)
class SlideCheck:
    """The staining of one slide.

    `tiles` of the slide, of which `tiles_read` were looked at, and `tiles_used` made its fit; angles in degrees;
    `strengths` are 99th percentiles of each stain's amount (natural-log optical density); `white` is I0 in levels;
    `tissue_share` 0 to 1, or None if not known; `outliers` say in words which figure lies more than 3.5 robust standard
    deviations from the median of the slides; `farthest_z` is the largest such distance, in size.
    """

    slide: str
    reason: str
    why: str
    tiles: int
    tiles_read: int
    tiles_used: int
    stains: tuple[str, ...]
    canonical_degrees: tuple[float, ...]
    separation_degrees: float
    spread_degrees: tuple[float, ...]
    strengths: tuple[float, ...]
    white: tuple[float, float, float]
    white_source: str
    tissue_share: float | None
    outliers: tuple[str, ...] = ()
    farthest_z: float = 0.0

    @property
    def valid(self) -> bool:
        """Whether the fit may be used."""
        return self.reason == "ok"

    @property
    def fine(self) -> bool:
        """Whether the fit may be used and no figure stands out."""
        return self.valid and not self.outliers


@dataclass(frozen=True)
class StainCheck:
    """The staining of a cohort, its slides worst first: not usable, then outliers, then the rest."""

    source: str
    slides: tuple[SlideCheck, ...]
    skipped: Mapping[str, str]
    notes: tuple[str, ...]

    @property
    def advice(self) -> tuple[str, ...]:
        """What to do, one sentence per kind of finding."""
        found = {item.reason: sum(other.reason == item.reason for other in self.slides) for item in self.slides}
        said = [f"{count} {reason}: {ADVICE[reason]}" for reason, count in found.items() if reason in ADVICE]
        out = sum(bool(item.outliers) for item in self.slides)
        said += [f"{out} out of line with the others: {OUTLIER_ADVICE}"] if out else []
        mixed = any(item.valid and item.slide == ALL_TILES and mixed_fit(item.spread_degrees) for item in self.slides)
        said += [MIXED_ADVICE] if mixed else []
        compared = sum(item.valid for item in self.slides) >= FEWEST_SLIDES
        fine = "every fit is usable" + (", and no slide stands out" if compared else "")
        return tuple(said) or (f"nothing to do: {fine}",)

    def to_dict(self) -> dict[str, Any]:
        """Return the fields, and the advice, as JSON holds them."""
        return {**asdict(self), "slides": [asdict(item) for item in self.slides], "advice": list(self.advice)}

    def to_frame(self) -> pd.DataFrame:
        """Return one row per slide, worst first, a column per figure and stain."""
        return pd.DataFrame([_row(item) for item in self.slides]).set_index("slide")


def check_source(
    src: str | os.PathLike[str] | TileSource, method: str = "macenko", *, by: str = "slide", **options: Any
) -> StainCheck:
    """Fit every slide of a source, and compare the fits. Options as in `fit_source`. See `check_book`."""
    _need_stains(method)
    return check_book(fit_source(src, method, by=by, **options))


def check_book(book: StainBook) -> StainCheck:
    """Compare the fits of a cohort.

    A figure stands out where it lies more than 3.5 robust standard deviations (1.4826 times the median absolute
    deviation, or a spread that does not matter if that is larger) from the median of the usable slides; at least five
    are needed. Strengths are compared by their logarithm. Misleads where half of the slides are of another laboratory:
    then neither half stands out. The share of tissue is shown, and not compared.

    Raises
    ------
    OptionError
        If the fits are of colours (Reinhard's method), and not of stains.
    """
    _need_stains(book.method)
    fits = book.slides or {ALL_TILES: book.overall}
    facts = book.provenance.slides if book.slides else {ALL_TILES: book.provenance.overall}
    slides = [
        _describe(name, fit, facts.get(name, Facts())) for name, fit in fits.items() if isinstance(fit, StainModel)
    ]
    judged = _judge(slides)
    notes = list(book.provenance.notes)
    usable = sum(item.valid for item in judged)
    if book.slides and usable < FEWEST_SLIDES:
        notes.append(
            f"{usable} slides are usable; it takes {FEWEST_SLIDES} to say which stand out, so none was compared"
        )
    order = sorted(judged, key=lambda item: (item.valid, not item.outliers, -item.farthest_z, item.slide))
    return StainCheck(book.source, tuple(order), dict(book.provenance.skipped), tuple(notes))


def write_check(check: StainCheck, out: str | os.PathLike[str], *, overwrite: bool = False) -> None:
    """Write a check as CSV (a row per slide) or JSON (all of it), by the ending.

    Raises
    ------
    OptionError
        If the ending is another.
    OutputError
        If the file exists and not `overwrite`, or cannot be written.
    """
    suffix = Path(out).suffix.lower()
    if suffix not in (".csv", ".json"):
        raise OptionError("a check is written as a table", received=out, valid=".csv, .json")
    text = check.to_frame().to_csv(lineterminator="\n") if suffix == ".csv" else canonical_json(check.to_dict()) + "\n"
    with whole(out, overwrite=overwrite) as part:
        part.write_text(text, encoding="utf-8")


def _need_stains(method: str) -> None:
    if method in NORMALIZERS and NORMALIZERS[method] != method:
        raise OptionError(
            "a check looks at stains, and this method fits colours",
            received=method,
            valid=", ".join(name for name, target in NORMALIZERS.items() if name == target),
        )


def _describe(name: str, fit: StainModel, facts: Facts) -> SlideCheck:
    return SlideCheck(
        slide=name,
        reason=fit.reason,
        why=fit.why,
        tiles=fit.tiles if facts.tiles is None else facts.tiles,
        tiles_read=fit.tiles if facts.sampled is None else facts.sampled,
        tiles_used=fit.tiles_used,
        stains=fit.stains,
        canonical_degrees=fit.canonical_degrees,
        separation_degrees=round(fit.separation_degrees, 3),
        spread_degrees=fit.spread_degrees,
        strengths=fit.max_concentrations,
        white=fit.white,
        white_source=fit.white_source,
        tissue_share=facts.tissue_share,
    )


def _figures(item: SlideCheck) -> dict[str, float]:
    """Return the figures by which slides are compared."""
    found = {"separation": item.separation_degrees}
    for number, stain in enumerate(item.stains):
        found[f"strength {stain}"] = item.strengths[number]
        found[f"angle {stain}"] = item.canonical_degrees[number]
        found[f"spread {stain}"] = item.spread_degrees[number]
    found |= {f"white {c}": level for c, level in zip(("red", "green", "blue"), item.white, strict=True)}
    return found


def _kind(name: str) -> _Figure:
    kind, _, of = name.partition(" ")
    return {
        "strength": _Figure(0.05, lambda x, m: f"{of} {x / m:.2g}x the cohort's median", logarithmic=True),
        "angle": _Figure(1.0, lambda x, m: f"{of} vector {x:.0f}° from canonical (median {m:.0f}°)"),
        "separation": _Figure(1.0, lambda x, m: f"stains {x:.0f}° apart (median {m:.0f}°)"),
        "spread": _Figure(1.0, lambda x, m: f"{of} varies by {x:.0f}° between tiles (median {m:.0f}°)"),
        "white": _Figure(2.0, lambda x, m: f"background {of} {x:.0f} (median {m:.0f})"),
    }[kind]


def _judge(slides: list[SlideCheck]) -> list[SlideCheck]:
    """Return the slides with what stands out, largest first."""
    usable = [item for item in slides if item.valid]
    if len(usable) < FEWEST_SLIDES:
        return slides
    values = {name: np.array([_figures(item)[name] for item in usable]) for name in _figures(usable[0])}
    judged = []
    for item in slides:
        if not item.valid:
            judged.append(item)
            continue
        distances = {name: robust_z(value, values[name], _kind(name)) for name, value in _figures(item).items()}
        ranked = sorted(distances, key=lambda name: -abs(distances[name]))
        out = tuple(
            _kind(name).says(_figures(item)[name], float(np.median(values[name])))
            for name in ranked
            if abs(distances[name]) > FARTHEST_Z
        )
        farthest = round(abs(distances[ranked[0]]), 3)
        judged.append(SlideCheck(**{**_fields(item), "outliers": out, "farthest_z": farthest}))
    return judged


def robust_z(value: float, values: np.ndarray, figure: _Figure) -> float:
    """Return how far a value lies from the median, in robust standard deviations of at least the figure's floor."""
    if figure.logarithmic:
        value, values = math.log(max(value, 1e-6)), np.log(np.maximum(values, 1e-6))
    middle = float(np.median(values))
    scale = max(1.4826 * float(np.median(np.abs(values - middle))), figure.floor)
    return (value - middle) / scale


def _fields(item: SlideCheck) -> dict[str, Any]:
    return {name: getattr(item, name) for name in SlideCheck.__dataclass_fields__}


def _row(item: SlideCheck) -> dict[str, Any]:
    row: dict[str, Any] = {
        "slide": item.slide,
        "reason": item.reason,
        "why": item.why,
        "outliers": "; ".join(item.outliers),
        "tiles": item.tiles,
        "tiles_read": item.tiles_read,
        "tiles_used": item.tiles_used,
    }
    for number, stain in enumerate(item.stains):
        for name, values in (
            ("degrees", item.canonical_degrees),
            ("spread_degrees", item.spread_degrees),
            ("strength", item.strengths),
        ):
            row[f"{stain}_{name}"] = values[number] if item.valid else None
    row["separation_degrees"] = item.separation_degrees if item.valid else None
    row |= {f"white_{c}": level for c, level in zip(("red", "green", "blue"), item.white, strict=True)}
    return {
        **row,
        "white_source": item.white_source,
        "tissue_share": item.tissue_share,
        "farthest_z": item.farthest_z,
    }
