"""Compaction on a frozen encoder, from tiles to an encoder: views, embedding, held-out groups, map."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ..encoders import Encoder
from ..encoders.embed import embed_views, source_card
from ..encoders.mapped import MappedEncoder, map_encoder
from ..errors import CompactionError, InputError, OptionError, unknown
from ..images import TileSource, select_rows
from ..probes import NotReadable, fit_probe
from ..provenance import environment, now, stream
from ..restain import fit_source
from ..stain import StainBook
from ..stain.manifold import StainManifold, fixed_prior
from ..training.holdout import group_codes, leave_out, make_folds
from .closed_form import Apply, Judged, fit_closed_form
from .guards import LEAST_RANK
from .states import WIDER, StateViews

Progress = Callable[[int, int], None]
#: A strength is chosen on groups of slides, each left out once.
FOLDS = 4
#: Tiles that a map is fitted to at most, and at least.
MAX_TILES, LEAST_TILES = 20_000, 16
MOST_STRENGTH = 64.0
FROZEN_KINDS = ("linear", "adapter")


@dataclass(frozen=True)
class Kept:
    """What is left of a label on the source: balanced accuracies of probes on patients or slides that these leave out.

    Probes leave tiles out; the map was fitted to all of them, without labels.
    `before` and `after` are of probes trained on the embedding before and after compaction; `unchanged` is of the probe
    of before, given vectors of after: what a downstream model loses that is not trained again.
    """

    label: str
    before: float
    after: float
    unchanged: float


@dataclass(frozen=True, eq=False)
class FrozenCompaction:
    """What a compaction of a frozen encoder left: an encoder, figures on left-out tiles, its provenance.

    `before` and `after` are of slides and states that maps were not fitted to; strength, or when to stop, was chosen on
    them. `by` is what they were left out by: `patient`, `slide` or `tile`. `kept` is None without labels.
    """

    encoder: MappedEncoder
    before: Judged
    after: Judged
    by: str
    kept: Kept | None
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
    brown = [name for name, fit in book.slides.items() if fit.reason == "looks-like-dab"]
    if brown and 2 * len(brown) >= len(book.slides):
        raise InputError(
            "the slides of the source look like immunohistochemistry, brown and blue",
            received=f"{len(brown)} of {len(book.slides)}: {', '.join(brown[:5])}",
            valid="slides stained with hematoxylin and eosin",
            fix="leave these out, or look at them with: histolatent stain check",
        )
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


def compact_frozen(
    source: TileSource,
    base: Encoder,
    name: str,
    target: Path,
    *,
    kind: str = "linear",
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
) -> FrozenCompaction:
    """Compact a frozen encoder from one source: a `linear` map in closed form, or an `adapter`, a residual network.

    Every tile is embedded under the state that it is in, `states` others drawn from the prior, and two of a wider one.
    The vectors are kept beside `target` until they are removed, so that an interrupted run goes on. `strength` is that
    of a linear map, in place of the choice on left-out slides; `name` is the string that loads `base`.

    Raises
    ------
    InputError
        If the source holds no H&E, or too few tiles.
    OptionError
        If an option is out of range, or the encoder cannot embed pixels.
    """
    if kind not in FROZEN_KINDS:
        raise unknown("kind of compaction on an encoder", kind, FROZEN_KINDS)
    if strength is not None and kind != "linear":
        raise OptionError("only a linear compaction has a strength", received=f"{kind}, {strength:g}")
    if max_tiles < LEAST_TILES:
        raise OptionError("too few tiles to fit a compaction", received=max_tiles, valid=f"{LEAST_TILES} or more")
    if strength is not None and not 0 <= strength <= MOST_STRENGTH:
        raise OptionError(
            "the strength of a compaction is out of range", received=f"{strength:g}", valid=f"0 to {MOST_STRENGTH:g}"
        )
    source = _some(source, max_tiles, seed)
    _check_folds(make_folds(source.table, FOLDS, seed)[0])
    manifold = fit_manifold(source, prior=prior, workers=workers, seed=seed, on_error=on_error)
    views = StateViews(manifold, slides_of(source), states=states, seed=seed)
    options = {"states": states, "prior": prior, "wider": WIDER, "seed": seed}
    embedded = embed_views(
        source,
        [base],
        [target],
        views=views,
        plan={**options, "manifold": manifold.to_dict()},
        batch_size=batch_size,
        workers=workers,
        on_error=on_error,
        restart=restart,
        progress=progress,
    )
    store = embedded.stores[0]
    rows = np.flatnonzero(store.kept)
    table = pd.DataFrame(source.table.iloc[rows])
    folds, column = make_folds(table, FOLDS, seed)
    _check_folds(folds)
    vectors = store.vectors()
    parts = [rows[fold] for fold in folds]
    if kind == "linear":
        form = fit_closed_form(vectors, parts, held_out=views.held_out, strength=strength)
        change, before = form.map, form.judged[0]
        after = next(entry for entry in form.judged if entry.strength == form.strength)
        chosen = form.to_dict()
    else:
        from .adapter import fit_adapter  # which needs torch

        judged, fitted = leave_out(parts, 1 / FOLDS)
        made = fit_adapter(vectors, fitted, judged, held_out=views.held_out, seed=seed)
        change, before, after, chosen = made.map, made.before, made.after, made.to_dict()
    if not after.rank >= LEAST_RANK:
        raise CompactionError(
            "the compaction leaves nothing in which tiles differ",
            received=f"effective rank {after.rank:.1f}, strength {after.strength:g}",
            fix="take a smaller strength",
        )
    kept = _kept(np.array(vectors[rows, 0]), change.apply, table, seed)
    card = {
        "created": now(),
        "kind": kind,
        "on": name,
        "options": options,
        "source": source_card(source, store),
        "folds": {"by": column, "tiles": [len(fold) for fold in folds]},
        "chosen": chosen,
        "label": None if kept is None else asdict(kept),
        "manifold": manifold.to_dict(),
        "environment": environment(),
    }
    notes = f"Compacted ({kind}) on {source.name} alone. Research use."
    return FrozenCompaction(map_encoder(base, name, change, notes=notes), before, after, column, kept, card)


def _check_folds(folds: Sequence[np.ndarray]) -> None:
    """Raise InputError unless there are tiles enough in two folds or more."""
    sizes = [len(fold) for fold in folds]
    if sum(sizes) < LEAST_TILES or len(sizes) < 2 or min(sizes) < 2:
        raise InputError(
            "too few tiles to fit and to judge a compaction",
            received=f"folds of {', '.join(map(str, sizes))} tiles",
            valid=f"{LEAST_TILES} tiles or more, and 2 or more in each of two groups of slides",
        )


def _kept(tiles: np.ndarray, apply: Apply, table: pd.DataFrame, seed: int) -> Kept | None:
    """Probe the label before and after, and after with the probe of before; None if it cannot be probed."""
    if "label" not in table:
        return None
    groups = group_codes(table)
    target = [None if pd.isna(value) else str(value) for value in table["label"]]
    moved = apply(tiles)
    probes = [fit_probe(vectors, target, groups, seed=seed) for vectors in (tiles, moved)]
    if isinstance(probes[0], NotReadable) or isinstance(probes[1], NotReadable):
        return None
    readings = probes[0].read(tiles), probes[1].read(moved), probes[0].read(moved)
    return Kept("label", *(reading.balanced_accuracy for reading in readings))


def _some(source: TileSource, most: int, seed: int) -> TileSource:
    """Return a source of at most so many tiles, drawn by the seed and their ids."""
    n = len(source.table)
    if n <= most:
        return source
    return select_rows(source, np.sort(stream(seed, "compaction tiles").permutation(n)[:most]))
