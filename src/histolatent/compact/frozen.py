"""Compaction on a frozen encoder, from tiles to an encoder: views, embedding, held-out groups, map."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Int

from ..encoders import Encoder
from ..encoders.embed import embed_views, source_card
from ..encoders.mapped import MappedEncoder, map_encoder
from ..errors import InputError, OptionError
from ..images import TileSource, select_rows
from ..provenance import environment, now, stream
from ..restain import fit_source
from ..stain import StainBook
from ..stain.manifold import StainManifold, fixed_prior
from .closed_form import ClosedForm, fit_closed_form
from .states import WIDER, StateViews

Progress = Callable[[int, int], None]
#: A strength is chosen on groups of slides, each left out once.
FOLDS = 4
#: Tiles that a linear map is fitted to: more change nothing that could be seen.
MAX_TILES = 20_000


@dataclass(frozen=True, eq=False)
class LinearCompaction:
    """What a linear compaction left: an encoder, how it was chosen, and its provenance."""

    encoder: MappedEncoder
    form: ClosedForm
    card: Mapping[str, Any]


def fit_manifold(source: TileSource, *, prior: str, workers: int, seed: int, on_error: str) -> StainManifold:
    """Fit the stain manifold of a source: a model of each slide, and the prior between slides.

    Raises
    ------
    OptionError
        If the prior is neither `fitted` nor `fixed`.
    InputError
        If the source has no stained tissue: all tiles blank, or another staining than hematoxylin and eosin.
    """
    if prior not in ("fitted", "fixed"):
        raise OptionError("there is no such prior", received=prior, valid="fitted, fixed")
    book = fit_source(source, workers=workers, seed=seed, on_error=on_error)
    _check_stained(book)
    manifold = StainManifold.from_book(book)
    return manifold if prior == "fitted" else manifold.with_prior(fixed_prior())


def _check_stained(book: StainBook) -> None:
    fits = [*book.slides.values(), book.overall]
    if any(fit.valid for fit in fits):
        return
    raise InputError(
        "no slide of the source could be told to be stained with hematoxylin and eosin",
        received=f"{book.source}: {book.overall.why}",
        valid="H&E tiles with tissue",
        fix="look at them with: histolatent stain check",
    )


def slides_of(source: TileSource) -> dict[str, str]:
    """Return the slide of each tile that has one."""
    if "slide" not in source.table:
        return {}
    named = source.table["slide"].dropna()
    return dict(zip(named.index.astype(str), named.astype(str), strict=True))


def make_folds(table: pd.DataFrame, count: int, seed: int) -> tuple[list[Int[np.ndarray, " _r"]], str]:
    """Return rows in up to `count` folds of whole patients, else slides, else single tiles; and which of them.

    Groups are dealt to the fold that has fewest tiles, largest first, so that folds are about as large as each other.
    """
    column = next((name for name in ("patient", "slide") if name in table and table[name].nunique() > 1), None)
    names = np.asarray(table.index if column is None else table[column].astype(str))
    groups, counts = np.unique(names.astype(str), return_counts=True)
    order = stream(seed, "folds").permutation(len(groups))
    order = order[np.argsort(-counts[order], kind="stable")]
    members: list[list[str]] = [[] for _ in range(min(count, len(groups)))]
    sizes = np.zeros(len(members), int)
    for place in order:
        fold = int(sizes.argmin())
        members[fold].append(groups[place])
        sizes[fold] += counts[place]
    return [np.flatnonzero(np.isin(names.astype(str), fold)) for fold in members], column or "tile"


def compact_linear(
    source: TileSource,
    base: Encoder,
    name: str,
    target: Path,
    *,
    states: int = 4,
    prior: str = "fitted",
    strength: float | None = None,
    max_tiles: int = MAX_TILES,
    seed: int = 0,
    workers: int = 0,
    batch_size: int = 64,
    on_error: str = "stop",
    restart: bool = False,
    progress: Progress | None = None,
) -> LinearCompaction:
    """Fit a linear compaction to a frozen encoder, from one source.

    Every tile is embedded under the state that it is in, `states` others drawn from the prior, and two of a wider one.
    The vectors are kept beside `target` until the compaction is saved, so that an interrupted run goes on. `strength`
    takes the place of the choice on held-out groups; `name` is the string that loads `base`.

    Raises
    ------
    InputError
        If the source holds no H&E, or too few tiles or groups.
    OptionError
        If an option is out of range, or the encoder cannot embed pixels.
    """
    if max_tiles < 8:
        raise OptionError("too few tiles to fit a compaction", received=max_tiles, valid="8 or more")
    source = _some(source, max_tiles, seed)
    manifold = fit_manifold(source, prior=prior, workers=workers, seed=seed, on_error=on_error)
    views = StateViews(manifold, slides_of(source), states=states, seed=seed)
    plan = {"states": states, "prior": prior, "wider": WIDER, "seed": seed, "manifold": manifold.to_dict()}
    embedded = embed_views(
        source,
        [base],
        [target],
        views=views,
        plan=plan,
        batch_size=batch_size,
        workers=workers,
        on_error=on_error,
        restart=restart,
        progress=progress,
    )
    store = embedded.stores[0]
    kept = np.flatnonzero(store.kept)
    folds, column = make_folds(source.table.iloc[kept], FOLDS, seed)
    form = fit_closed_form(store.vectors(), [kept[fold] for fold in folds], held_out=views.held_out, strength=strength)
    card = {
        "created": now(),
        "kind": "linear",
        "on": name,
        "options": {key: value for key, value in plan.items() if key != "manifold"},
        "source": source_card(source, store),
        "folds": {"by": column, "tiles": [len(fold) for fold in folds]},
        "manifold": manifold.to_dict(),
        "chosen": form.to_dict(),
        "environment": environment(),
    }
    return LinearCompaction(map_encoder(base, name, form.map, notes=_notes(form, source)), form, card)


def _notes(form: ClosedForm, source: TileSource) -> str:
    return f"Linear compaction of strength {form.strength:g}, fitted to {source.name}. Research use."


def _some(source: TileSource, most: int, seed: int) -> TileSource:
    """Return a source of at most so many tiles, drawn by the seed and their ids."""
    n = len(source.table)
    if n <= most:
        return source
    return select_rows(source, np.sort(stream(seed, "compaction tiles").permutation(n)[:most]))
