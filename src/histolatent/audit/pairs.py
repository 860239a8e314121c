"""The audit of real pairs: vectors of the same tiles before and after a change that nobody had to simulate."""

import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import pandas as pd
from anndata import AnnData
from pydantic import ValidationError

from .._types import Codes, Tile, Vectors
from ..embeddings import card_of, obs_of
from ..encoders import EncoderCard
from ..encoders.embed import source_digest
from ..encoders.vectors import VectorEncoder
from ..errors import InputError, OptionError, unknown
from ..images.columns import check_table
from ..provenance import combined_digest
from .ladder import PAIR
from .matching import Matched, checked_vectors, is_everyone, match_rows, rows_of
from .measured import Measured
from .plan import PAIRS, Plan, check_tables, chosen_rows, find_groups
from .policy import Policy
from .result import AuditResult, OperationResult, Step
from .run import AuditRun, known_factors, measure_all

Role = Literal["must-ignore", "must-react", "control"]
#: Twins that are found no better than this (0.5 is chance) are probably not twins.
LOST_RANK = 0.4


@dataclass(frozen=True)
class Pairs:
    """What one encoder gave for the same tiles: before, and after each real change, by the name of the change.

    Each is an array `(n, d)`, rows in one order, or an AnnData with the vectors in `X`, matched by tile id. `card` is
    that of the encoder; without it, that of the table is taken, if both tables agree.
    """

    name: str
    before: np.ndarray | AnnData
    after: Mapping[str, np.ndarray | AnnData]
    card: EncoderCard | None = None

    @property
    def parts(self) -> dict[str, np.ndarray | AnnData]:
        """Before and after, by what a message calls them."""
        return {f"{self.name}, {part}": table for part, table in [("before", self.before), *self.after.items()]}


@dataclass(frozen=True)
class Unseen:
    """Tiles of which there is a table and no pixels."""

    name: str
    table: pd.DataFrame

    def read(self, index: int) -> Tile:
        """Raise InputError: there are no pixels."""
        raise InputError("an audit of vectors has no pixels", received=self.table.index[index])


def layer_tables(table: AnnData, layers: Mapping[str, str]) -> dict[str, AnnData]:
    """Return layers of a table as tables of their own; `layers` maps the name of a change to that of its layer.

    Raises
    ------
    OptionError
        If there is no such layer; the nearest is named.
    """
    names = list(map(str, table.layers))
    for layer in layers.values():
        if layer not in names:
            raise unknown("layer", layer, names)
    rows = pd.DataFrame(index=obs_of(table).index)
    return {name: AnnData(X=np.asarray(table.layers[layer]), obs=rows) for name, layer in layers.items()}


def audit_pairs(
    pairs: Pairs | Sequence[Pairs],
    table: pd.DataFrame | None = None,
    *,
    name: str = "real pairs",
    roles: Mapping[str, str] | str = "must-ignore",
    plan: Plan | None = None,
    baselines: Sequence[str] = (),
    factors: pd.DataFrame | None = None,
    measuring: Callable[[int, int], None] | None = None,
) -> AuditRun:
    """Audit encoders by vectors of the same tiles before and after real changes, such as a second scanner.

    `table` has a row per tile with the known columns (`label`, `site`, `patient`, `slide`, ...), indexed by tile id;
    its columns are laid over those of the first table of `pairs`. Rows are matched by tile id, and by their order
    where there are none; only tiles that are in every table count. `roles` says what an encoder should do about a
    change, for all or by the name of each: `must-ignore`, `must-react`, or `control`. One control (the same scanner,
    twice) is set beside every change that is to be ignored. Of the plan, suite and operations are not used.

    The result is that of `audit_encoders`, with one step per change, and how well tiles are found again across.
    `measuring` is told of steps of measurement.

    Misleads when pairs are not registered: tissue that is shifted between two scans counts as a move of the encoder.

    Raises
    ------
    InputError
        If vectors are not finite or differ in length, rows cannot be matched, or fewer than 10 tiles are shared.
    OptionError
        If there is nothing to audit, encoders have other changes, or a role is unknown.
    """
    asked = [pairs] if isinstance(pairs, Pairs) else list(pairs)
    changes = _changes(asked)
    plan = plan or Plan()
    plan = plan.model_copy(update={"suite": PAIRS, "operations": {}})
    operations = _operations(changes, roles, plan.policy)
    matched = _match(asked, table)
    whole = _table(asked, table, matched, name)
    check_tables(whole)
    vectors = _vectors(asked, matched)
    rows = np.arange(len(whole))
    if plan.max_tiles is not None and len(whole) > plan.max_tiles:
        rows = chosen_rows(len(whole), plan.max_tiles, plan.seed)
    part = pd.DataFrame(whole.iloc[rows])
    source = Unseen(name, part)
    measured = Measured(part, rows, find_groups(part), plan, operations, known_factors(source, factors, part))
    hashes = [{"before": _hash(views[0])} | dict(zip(changes, map(_hash, views[1:]), strict=True)) for views in vectors]
    encoders = [
        VectorEncoder(_card(one, views[0].shape[1], digests.values()), views[0])
        for one, views, digests in zip(asked, vectors, hashes, strict=True)
    ]
    tiles: dict[str, object] = {
        "name": name,
        "tiles": len(part),
        "table_sha256": source_digest(source),
        "vectors_sha256": {one.name: digests for one, digests in zip(asked, hashes, strict=True)},
        "skipped": {},
    }
    started = time.perf_counter()
    result, by_tile = measure_all(
        [one.name for one in asked],
        encoders,
        [_Views(views) for views in vectors],
        measured,
        tiles,
        baselines=baselines,
        progress=measuring,
    )
    notes = [*matched.notes, *_origins(asked), *_same(changes, hashes, asked), *_lost(result)]
    result = result.model_copy(update={"warnings": [*notes, *result.warnings]})
    return AuditRun(result, by_tile, {"measures": round(time.perf_counter() - started, 3)})


@dataclass(frozen=True)
class _Views:
    """Arrays of one shape as a stack, none of them copied."""

    parts: tuple[Vectors, ...]

    @property
    def shape(self) -> tuple[int, int, int]:
        n, d = self.parts[0].shape
        return n, len(self.parts), d

    def __getitem__(self, where: tuple[Codes, int], /) -> np.ndarray:
        rows, view = where
        part = self.parts[view]
        return part if is_everyone(rows, len(part)) else part[rows]


def _changes(pairs: Sequence[Pairs]) -> list[str]:
    """Return the names of the changes, which must be those of every encoder."""
    if not pairs:
        raise OptionError("no encoder to audit", fix="give its vectors before and after as Pairs")
    names = [one.name for one in pairs]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise OptionError("an encoder is named twice", received=", ".join(twice))
    changes = list(pairs[0].after)
    if not changes:
        raise OptionError("there is nothing after", fix="name at least one change, with its vectors")
    if "before" in changes:
        raise OptionError("a change cannot be called before", fix="name it by what changed, such as the scanner")
    for one in pairs[1:]:
        if set(one.after) != set(changes):
            raise OptionError(
                "encoders have vectors for different changes",
                received=f"{pairs[0].name}: {', '.join(changes)}; {one.name}: {', '.join(one.after)}",
                fix="leave one out, or audit them one by one",
            )
    return changes


def _operations(changes: Sequence[str], roles: Mapping[str, str] | str, policy: Policy) -> list[OperationResult]:
    given = dict.fromkeys(changes, roles) if isinstance(roles, str) else dict(roles)
    for name, role in given.items():
        if name not in changes:
            raise unknown("change", name, changes)
        if role not in get_args(Role):
            raise unknown("role", role, get_args(Role))
    of = {name: given.get(name, "must-ignore") for name in changes}
    controls = [name for name in changes if of[name] == "control"]
    return [
        OperationResult(
            name=name,
            family=PAIR,
            role=role,
            parameter="real pairs",
            unit="",
            graded=False,
            control=controls[0] if len(controls) == 1 and role == "must-ignore" else None,
            describes=f"the same tiles under {name}",
            misleads="tissue that is out of register between the two counts as a move of the encoder",
            steps=[
                Step(
                    severity=policy.must_react_severity if role == "must-react" else policy.severity,
                    level=None,
                    pixels_sha256="",
                )
            ],
        )
        for name, role in of.items()
    ]


def _match(pairs: Sequence[Pairs], table: pd.DataFrame | None) -> Matched:
    tables = [rows_of(what, part) for one in pairs for what, part in one.parts.items()]
    if table is not None:
        tables.append(rows_of("the table of tiles", table))
    return match_rows(tables)


def _table(pairs: Sequence[Pairs], table: pd.DataFrame | None, matched: Matched, name: str) -> pd.DataFrame:
    """Return the columns of the first table of vectors, and over them those of `table`, typed and checked."""
    found = pd.DataFrame(index=matched.ids)
    first = pairs[0].before
    if isinstance(first, AnnData):
        found = obs_of(first).iloc[matched.places[0]].set_axis(matched.ids)
    if table is not None:
        over = table.iloc[matched.places[-1]].set_axis(matched.ids)
        found = found.assign(**{str(column): over[column] for column in over})
    return check_table(found.rename_axis("tile"), origin=name)


def _vectors(pairs: Sequence[Pairs], matched: Matched) -> list[tuple[Vectors, ...]]:
    """Return before and each change of each encoder, in the order of the changes of the first."""
    places = iter(matched.places)
    found = []
    for one in pairs:
        parts = {
            what: checked_vectors(what, _array(part), next(places), matched.ids) for what, part in one.parts.items()
        }
        widths = {what: rows.shape[1] for what, rows in parts.items()}
        if len(set(widths.values())) > 1:
            raise InputError(
                "vectors before and after have different dimensions",
                received="; ".join(f"{what}: {width}" for what, width in widths.items()),
                fix="use the same encoder and the same settings for both",
            )
        wanted = ["before", *pairs[0].after]
        found.append(tuple(parts[f"{one.name}, {part}"] for part in wanted))
    return found


def _array(part: np.ndarray | AnnData) -> np.ndarray:
    return part if isinstance(part, np.ndarray) else np.asarray(part.X)


def _hash(vectors: Vectors) -> str:
    return hashlib.sha256(np.ascontiguousarray(vectors).data.cast("B")).hexdigest()


def _card(pairs: Pairs, dim: int, hashes) -> EncoderCard:
    """Return the card of the encoder if it is known, else one that says that these are vectors, and which."""
    card = pairs.card or known_card(pairs.before)
    if card is None:
        sha256 = combined_digest(hashes)
        return EncoderCard(
            name=pairs.name,
            kind="vectors",
            source=f"pairs:{pairs.name}",
            dim=dim,
            revision=f"sha256:{sha256}",
            weights_sha256=sha256,
            notes="Precomputed vectors of real pairs: how they were made is not known to histolatent.",
        )
    if card.dim != dim:
        raise InputError(
            f"the vectors are not of the encoder of the card {card.name}", received=dim, valid=f"{card.dim} dimensions"
        )
    return card.model_copy(update={"name": pairs.name})


def known_card(part: np.ndarray | AnnData) -> EncoderCard | None:
    """Return the card of the encoder that made a table, if the table says."""
    if not isinstance(part, AnnData):
        return None
    try:
        return EncoderCard.model_validate(card_of(part).get("encoder"))
    except (InputError, ValidationError):
        return None


def _origins(pairs: Sequence[Pairs]) -> list[str]:
    """Say where before and after were made by encoders that differ."""
    said = []
    for one in pairs:
        before = known_card(one.before)
        for name, part in one.after.items():
            after = known_card(part)
            if before is not None and after is not None and before.identity != after.identity:
                said.append(
                    f"{name}: the card says that {after.name} made these vectors, and another encoder, or other "
                    f"settings, of {before.name} those before: the moves are theirs too"
                )
    return said


def _same(changes: Sequence[str], hashes: Sequence[Mapping[str, str]], pairs: Sequence[Pairs]) -> list[str]:
    """Say where nothing moved at all, and where two changes are one."""
    said = []
    for one, digests in zip(pairs, hashes, strict=True):
        for place, name in enumerate(changes):
            twin = next((other for other in ("before", *changes[:place]) if digests[other] == digests[name]), None)
            if twin is not None:
                said.append(
                    f"{one.name}: the vectors of {name} are those of {'the tiles before' if twin == 'before' else twin}"
                    ", number by number: is it the right file?"
                )
    return said


def _lost(result: AuditResult) -> list[str]:
    """Say where tiles are found again hardly better than by chance, as rows in another order would be."""
    ignored = {operation.name for operation in result.operations if operation.role != "must-react"}
    said = []
    for encoder in result.encoders:
        for dose in encoder.doses:
            rank = dose.metrics["twin_rank"].value
            if encoder.null.defined and dose.operation in ignored and rank is not None and rank > LOST_RANK:
                said.append(
                    f"{encoder.name}: tiles are found again under {dose.operation} hardly better than by chance "
                    f"(mean rank {rank:.2f}, chance 0.50): are the rows of both in the same order?"
                )
    return said
