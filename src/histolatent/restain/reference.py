"""What tiles are matched to: a shipped name, a stain file, one image, or a reference slide."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ..errors import OptionError, nearest
from ..images import Cut, TileSource, decode, open_tiles
from ..images.formats import SUFFIXES
from ..images.slides import is_slide
from ..stain import NORMALIZERS, STAIN_SETS, Fit, StainBook, StainModel, read_book, reference_names, shipped_reference
from ..stain.model import need_valid
from .fit import fit_source
from .fitter import Fitter

STAIN_FILE = ".json"
#: A slide that is a reference is cut into tiles of this side.
REFERENCE_PX = 256


@dataclass(frozen=True)
class Reference:
    """A look to match, and where it came from."""

    name: str
    kind: Literal["shipped", "stain file", "image", "tiles"]
    fit: Fit


def find_reference(
    to: str | os.PathLike[str] | TileSource,
    fitter: Fitter,
    *,
    max_tiles: int = 200,
    workers: int = 0,
    seed: int = 0,
    on_error: str = "stop",
) -> Reference:
    """Return the look that `to` names.

    - `phantom`, `macenko`: shipped numbers;
    - `FILE.json`, `FILE.json:SLIDE`: the fit over all, or that of a slide, of a stain file;
    - an image file: fitted with `fitter`;
    - a slide, folder, manifest, array or TileSource: fitted over all its tiles. The phantom as a set of tiles is
      `phantom:`, with a colon.

    The background of a reference is looked for in it, also where `fitter` is given one for the tiles.

    Raises
    ------
    OptionError
        If there is nothing of this name, or it is not usable for this method: blank, of other stains, of a slide that
        is not in the file, or of another method.
    InputError
        If it cannot be read.
    """
    own = Fitter(fitter.method, fitter.stains, fitter.vectors, None, fitter.beta, fitter.alpha)
    if isinstance(to, TileSource):
        book = fit_source_as(own, to, max_tiles, workers, seed, on_error)
        return _checked(Reference(to.name, "tiles", book.overall), fitter)
    text = os.fspath(to)
    file, slide = split_slide(text)
    if text in reference_names():
        found = Reference(text, "shipped", shipped_reference(text, fitter.method))
    elif file.lower().endswith(STAIN_FILE):
        book = read_book(file)
        check_method(book, fitter.method)
        found = Reference(text, "stain file", book.overall if slide is None else book.of(slide))
    elif Path(text).suffix.lower() in SUFFIXES and not Path(text).is_dir():
        found = Reference(text, "image", own.fit_tile(decode(text)))
    elif (text and Path(text).exists()) or ":" in text:
        source = open_tiles(text, cut=Cut(REFERENCE_PX)) if is_slide(text) else text
        book = fit_source_as(own, source, max_tiles, workers, seed, on_error)
        found = Reference(text, "tiles", book.overall)
    else:
        guess = nearest(text, reference_names())
        raise OptionError(
            "there is no such reference",
            received=text,
            valid=f"{', '.join(reference_names())}, stain.json (or FILE.json:SLIDE), image, slide, folder or manifest",
            fix=f"did you mean {guess!r}?" if guess else None,
        )
    return _checked(found, fitter)


def fit_source_as(
    fitter: Fitter, src: str | TileSource, max_tiles: int, workers: int, seed: int, on_error: str
) -> StainBook:
    """Fit all tiles of a source together, with the options of `fitter`."""
    return fit_source(
        src,
        fitter.method,
        by="all",
        max_tiles=max_tiles,
        stains=fitter.stains,
        vectors=fitter.vectors,
        white=fitter.white,
        beta=fitter.beta,
        alpha=fitter.alpha,
        workers=workers,
        seed=seed,
        on_error=on_error,
    )


def split_slide(text: str) -> tuple[str, str | None]:
    """Split `FILE.json:SLIDE`; the slide is None where none is named.

    >>> split_slide("stain.json:S:1"), split_slide("stain.json")
    (('stain.json', 'S:1'), ('stain.json', None))
    """
    head, colon, slide = text.partition(STAIN_FILE + ":")
    return (head + STAIN_FILE, slide) if colon else (text, None)


def check_method(book: StainBook, method: str) -> None:
    """Raise OptionError if the fits of a stain file are not those that a method needs."""
    if NORMALIZERS[book.method] != NORMALIZERS[method]:
        raise OptionError(
            "the stain file was fitted for another method",
            received=f"{book.method} in the file, {method} asked for",
            fix=f"--method {book.method}, or fit again with --method {method}",
        )


def _checked(reference: Reference, fitter: Fitter) -> Reference:
    fit = reference.fit
    need_valid(fit, f"the reference {reference.name}")
    if isinstance(fit, StainModel) and fit.method != "given" and fitter.vectors is None:
        stains = STAIN_SETS[fitter.stains]
        if fit.stains != stains:
            raise OptionError(
                f"the reference {reference.name} is of other stains",
                received=", ".join(fit.stains),
                valid=", ".join(stains),
                fix="--stains, or another --to",
            )
    return reference
