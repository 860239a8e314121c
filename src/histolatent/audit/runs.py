"""Two audits side by side: what got worse, what got better, and what cannot be said."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
from pydantic import BaseModel, ConfigDict
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from .._types import Codes
from ..errors import InputError, OptionError, unknown
from ..stats import RESAMPLES
from .comparison import MOVE, PIXELS, READ, TRUE, UNSEEN, compare_tables, figures_of
from .policy import Policy
from .result import AuditResult, Comparison, EncoderResult, Figure, OperationResult

FEWEST_TILES = 10


@dataclass(frozen=True)
class Run:
    """One audit: its document, its table of tiles, and what it is called in messages."""

    where: str
    result: AuditResult
    tiles: pd.DataFrame

    def of(self, encoder: str) -> pd.DataFrame:
        """Return the rows of one encoder, by tile."""
        found = self.tiles[self.tiles["encoder"] == encoder].set_index("tile")
        if found.empty or not found.index.is_unique:
            raise InputError(
                f"tiles.parquet does not hold each tile of {encoder} once", received=self.where, fix="audit it again"
            )
        return found

    def encoder(self, name: str) -> EncoderResult:
        """Return what was found of one encoder."""
        return next(item for item in self.result.encoders if item.name == name)


class Change(BaseModel):
    """One figure of an encoder in the first run and in the second; `change` is the second less the first.

    `p_holm` is adjusted within the family, `p_bh` over the whole table. `outcome` is decided by `p_holm` below 0.05.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    first: str
    second: str
    metric: str
    operation: str | None
    column: str | None
    family: str
    tiles: int
    before: float
    after: float
    change: Figure
    p: float | None
    p_holm: float | None
    p_bh: float | None
    outcome: Literal["worse", "better", "undecided"]


class Changes(BaseModel):
    """What differs between two runs. `left_out` says what is not compared and why, `notes` what to mind of the rest.

    `collapsed` are encoders of the second run that give every tile practically the same vector, which their other half
    in the first did not: nothing of them is compared, and nothing can be worse.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    tiles: int
    groups: int
    resamples: int
    changes: list[Change]
    left_out: list[str]
    notes: list[str]
    collapsed: list[str]

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, ready for JSON."""
        return self.model_dump(mode="json")

    def to_frame(self) -> pd.DataFrame:
        """Return a row per figure."""
        names = [name for name in Change.model_fields if name != "change"]
        place = names.index("after") + 1
        columns = [*names[:place], "change", "low", "high", *names[place:]]
        rows = []
        for item in self.changes:
            figure = {"change": item.change.value, "low": item.change.low, "high": item.change.high}
            rows.append({**item.model_dump(exclude={"change"}), **figure})
        return pd.DataFrame(rows, columns=pd.Index(columns))


def pair_encoders(
    first: AuditResult, second: AuditResult, names: Sequence[str] = (), between: Sequence[tuple[str, str]] = ()
) -> list[tuple[str, str]]:
    """Return which encoder of one run is compared with which of another.

    Those of `names`, which both runs hold, and the pairs `between`. With neither, all that both hold but baselines.

    Raises
    ------
    OptionError
        If a name is not in a run, or no name is in both.
    """
    held = [{encoder.name: encoder.baseline for encoder in result.encoders} for result in (first, second)]
    for pair in [*((name, name) for name in names), *between]:
        for name, known, run in zip(pair, held, ("first", "second"), strict=True):
            if name not in known:
                raise unknown(f"encoder of the {run} run", name, known)
    if names or between:
        return list(dict.fromkeys([*((name, name) for name in names), *between]))
    shared = [name for name, baseline in held[0].items() if name in held[1] and not (baseline or held[1][name])]
    if not shared:
        raise OptionError(
            "the runs have no encoder in common, baselines aside",
            received=f"{', '.join(held[0])} and {', '.join(held[1])}",
            fix="say which to compare: --between NAME_A=NAME_B, or --encoder for a baseline",
        )
    return [(name, name) for name in shared]


def compare_runs(first: Run, second: Run, pairs: Sequence[tuple[str, str]], *, resamples: int | None = None) -> Changes:
    """Compare two runs on the tiles that both have, pair by pair of encoders, on the same resamples.

    Tiles whose pixels differ are left out, and so is every operation of which a shared tile was perturbed otherwise.
    Displacement has the unrelated tiles of its run as the unit, and probes are trained on the tiles of theirs: both are
    compared only where the two runs hold the same tiles in one order, in the same groups, under one seed. Otherwise an
    encoder would differ from itself. Groups are those of the first run, joined where the second holds tiles together
    that the first does not.

    Raises
    ------
    InputError
        If nothing can be compared: fewer than 10 shared tiles with the same pixels, or no figure in common.
    """
    reasons = _Reasons()
    left, right = _shared(first, second, pairs[0], reasons)
    unlike = _unlike(first, second, left, pairs[0])
    collapsed = _collapsed(first, second, pairs, reasons)
    pairs = [pair for pair in pairs if pair not in collapsed]
    groups = joined_groups(left["group"].to_numpy(), right["group"].to_numpy())
    operations = _operations(first, second, left, right, reasons, same_tiles=unlike is None)
    if unlike is None:
        dropped = _other_truth(left, right, reasons)
    else:
        dropped = [name for name in left.columns if name.startswith(MOVE) or name.endswith(READ)]
        reasons.left_out.append(
            f"displacement and probes: {unlike}, so that unrelated tiles, the unit of displacement, and the parts that "
            "probes were trained on are others; audit both on one table of tiles, with one seed"
        )
    if not _same_roles(first.result, second.result, operations):
        dropped.append("selectivity")
        reasons.left_out.append("selectivity: it rests on operations that are not the same in both runs")
    resamples = max(RESAMPLES, int(first.result.plan.get("resamples", 0))) if resamples is None else resamples
    tables = []
    for before, after in pairs:
        parts = [run.of(name).loc[left.index] for run, name in ((first, before), (second, after))]
        tables.append([part.drop(columns=dropped, errors="ignore").assign(group=groups) for part in parts])
    keys = [(f"after {i}", f"before {i}") for i in range(len(pairs))]
    found = compare_tables(
        [(*key, after, before) for key, (before, after) in zip(keys, tables, strict=True)],
        operations,
        resamples=resamples,
        seed=int(first.result.plan.get("seed", 0)),
    )
    new = [after for before, after in collapsed if first.encoder(before).null.defined]
    if not found and not new:
        raise InputError("nothing can be compared", received="; ".join(reasons.left_out) or "no figure in common")
    for (before, after), key in zip(pairs, keys, strict=True):
        reasons.notes += _identities(first, second, before, after)
        if not any(item.first == key[0] for item in found):
            reasons.left_out.append(f"{after}: no figure is in both runs")
    changes = [
        item
        for pair, key, parts in zip(pairs, keys, tables, strict=True)
        for item in _changes(pair, key, parts, found, operations)
    ]
    return Changes(
        tiles=len(left),
        groups=len(np.unique(groups)),
        resamples=resamples,
        changes=changes,
        left_out=reasons.left_out,
        notes=reasons.notes,
        collapsed=new,
    )


def _collapsed(first: Run, second: Run, pairs: Sequence[tuple[str, str]], reasons: "_Reasons") -> list[tuple[str, str]]:
    """Return the pairs that cannot be compared since all tiles of one run lie together: none would move less."""
    found = []
    for pair in pairs:
        told = [run.encoder(name).null.defined for run, name in zip((first, second), pair, strict=True)]
        if not all(told):
            found.append(pair)
            where = " and ".join(run.where for run, apart in zip((first, second), told, strict=True) if not apart)
            reasons.left_out.append(f"{pair[1]}: every tile has practically the same embedding in {where}")
    return found


class _Reasons:
    """What is said beside the figures."""

    def __init__(self) -> None:
        self.left_out: list[str] = []
        self.notes: list[str] = []


def joined_groups(first: np.ndarray, second: np.ndarray) -> Codes:
    """Return the groups of tiles that are together in either of two groupings, directly or by a chain of tiles.

    >>> joined_groups(np.array([0, 0, 1, 2]), np.array([5, 6, 6, 7])).tolist()
    [0, 0, 0, 1]
    """
    codes = [np.unique(column, return_inverse=True)[1].reshape(-1) for column in (first, second)]
    count = int(codes[0].max()) + 1
    total = count + int(codes[1].max()) + 1
    edges = coo_array((np.ones(len(first)), (codes[0], codes[1] + count)), shape=(total, total))
    labels = connected_components(edges, directed=False)[1][codes[0]]
    return np.unique(labels, return_inverse=True)[1].reshape(-1)


def _shared(first: Run, second: Run, pair: tuple[str, str], reasons: _Reasons) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the tiles of both runs with the same pixels, in one order."""
    left, right = first.of(pair[0]), second.of(pair[1])
    shared = left.index.intersection(right.index, sort=False)
    if not len(shared):
        raise InputError(
            "the runs have no tile in common",
            received=f"{left.index[0]}, ... in {first.where}; {right.index[0]}, ... in {second.where}",
            fix="audit the same tiles, named alike",
        )
    left, right = left.loc[shared], right.loc[shared]
    if PIXELS in left and PIXELS in right:
        same = left[PIXELS].to_numpy() == right[PIXELS].to_numpy()
        if not same.all():
            reasons.left_out.append(f"{int((~same).sum())} tiles of the same name: their pixels differ")
        left, right = left[same], right[same]
    else:
        digests = [run.result.tiles.get("pixels_sha256") for run in (first, second)]
        if None not in digests and digests[0] != digests[1]:
            raise InputError(
                "the pixels of the tiles differ, or cannot be checked tile by tile",
                received=f"{first.where} and {second.where}",
                fix="audit both again with this version, on the same tiles",
            )
        if None in digests:
            reasons.notes.append("no pixels were read: that tiles of one name are the same tissue is taken on trust")
    if len(left) < FEWEST_TILES:
        raise InputError(
            "the runs have too few tiles with the same pixels in common",
            received=len(left),
            valid=f"at least {FEWEST_TILES}",
            fix="audit the same tiles, read by the same versions of the image libraries",
        )
    return left, right


def _operations(
    first: Run, second: Run, left: pd.DataFrame, right: pd.DataFrame, reasons: _Reasons, *, same_tiles: bool
) -> list[OperationResult]:
    """Return the operations that did the same to every shared tile."""
    known = [{item.name: item for item in run.result.operations} for run in (first, second)]
    policies = [Policy.model_validate(run.result.plan.get("policy", {})) for run in (first, second)]
    found, alone, otherwise = [], [], []
    for name in dict.fromkeys([*known[0], *known[1]]):
        if name not in known[0] or name not in known[1]:
            alone.append(name)
            continue
        items = [names[name] for names in known]
        column = f"{PIXELS}: {name}"
        if column in left and column in right:
            same = bool((left[column].to_numpy() == right[column].to_numpy()).all())
        else:
            steps = [_judged(item, policy) for item, policy in zip(items, policies, strict=True)]
            digests = [step.pixels_sha256 for step in steps]
            # Real pairs are not perturbed, so that nothing was hashed: like the tiles, they are taken on trust.
            same = steps[0].level == steps[1].level and digests[0] == digests[1] and (same_tiles or digests[0] == "")
        (found if same and items[0].role == items[1].role else otherwise).append(items[0])
    if alone:
        reasons.left_out.append(f"{', '.join(alone)}: applied in one of the runs only")
    if otherwise:
        reasons.left_out.append(
            f"{', '.join(item.name for item in otherwise)}: the perturbed pixels differ (another seed, level, "
            "resolution, severity of the policy or version), or cannot be checked"
        )
    return found


def _judged(item: OperationResult, policy: Policy):
    return item.at(policy.must_react_severity if item.role == "must-react" else policy.severity)


def _same_roles(first: AuditResult, second: AuditResult, operations: Iterable[OperationResult]) -> bool:
    """Return whether selectivity was measured by the same operations, all of which are compared."""
    compared = {item.name for item in operations}
    used = [{item.name for item in result.operations if item.role != "control"} for result in (first, second)]
    return used[0] == used[1] and used[0] <= compared


def _unlike(first: Run, second: Run, left: pd.DataFrame, pair: tuple[str, str]) -> str | None:
    """Return why the two runs did not measure on the same footing, or None if they did."""
    before, after = first.of(pair[0]), second.of(pair[1])
    if len(left) < max(len(before), len(after)):
        return f"{len(left)} tiles are the same in both runs, of {len(before)} and {len(after)}"
    if not before.index.equals(after.index):
        return "the tiles are in another order"
    codes = [np.unique(part["group"].to_numpy(), return_inverse=True)[1].reshape(-1) for part in (before, after)]
    count = len(np.unique(np.stack(codes), axis=1).T)
    if not count == codes[0].max() + 1 == codes[1].max() + 1:
        return "the tiles are grouped otherwise"
    for part, name, words in (
        ("clusters", "null_apart_by", "unrelated tiles are told by"),
        ("plan", "seed", "the seed is"),
    ):
        values = [getattr(run.result, part).get(name) for run in (first, second)]
        if values[0] != values[1]:
            return f"{words} {values[0]} and {values[1]}"
    return None


def _other_truth(left: pd.DataFrame, right: pd.DataFrame, reasons: _Reasons) -> list[str]:
    """Return the columns of probes that read another truth in one run than in the other."""
    read = [name.removesuffix(READ) for name in left.columns if name.endswith(READ) and name in right]
    changed = [name for name in read if not left[name + TRUE].fillna("").equals(right[name + TRUE].fillna(""))]
    if changed:
        reasons.left_out.append(f"probes of {', '.join(changed)}: the truth is not the same in both runs")
    # Which tiles a probe has not seen depends on the site, the scanner or the stain.
    return [name + READ for name in ({*changed, UNSEEN} if changed else ())]


def _identities(first: Run, second: Run, before: str, after: str) -> list[str]:
    identity = [first.encoder(before).identity, second.encoder(after).identity]
    if before != after:
        return []
    if identity[0] == identity[1]:
        return [f"{before}: weights, preprocessing and precision are the same in both runs"]
    return [f"{before}: weights, preprocessing or precision are not the same in both runs"]


def _changes(
    pair: tuple[str, str],
    key: tuple[str, str],
    parts: Sequence[pd.DataFrame],
    found: Sequence[Comparison],
    operations: Sequence[OperationResult],
) -> list[Change]:
    mine = [item for item in found if (item.first, item.second) == key]
    values = [item.values() for item in figures_of(parts[0], parts[1], operations)]
    return [
        Change(
            first=pair[0],
            second=pair[1],
            before=float(f"{before:.6g}"),
            after=float(f"{after:.6g}"),
            change=item.difference,
            outcome="undecided" if item.better is None else "better" if item.better == key[0] else "worse",
            **item.model_dump(include={"metric", "operation", "column", "family", "tiles", "p", "p_holm", "p_bh"}),
        )
        for item, (before, after) in zip(mine, values, strict=True)
    ]
