"""What each part of a training plan is worth: variants of it, over seeds, on one cohort."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ..compact.plan import CompactionPlan
from ..encoders.embed import source_digest
from ..errors import OptionError, unknown
from ..images import TileSource
from ..outputs import whole as whole_file
from ..provenance import canonical_json, digest, environment, now
from ..stats import Difference, Statistic, paired_difference, whole_value
from .cohort import SOURCE, Cohort, split_cohort
from .unseen import LabelsRead, mean_accuracy, pooled, read_unseen

#: Without what states have and an augmentation has not.
_AUGMENTED: Mapping[str, Any] = {
    "objective.adversary": 0.0,
    "whiten": 0.0,
    "remove_above": 1.0,
    "states.render": "workers",
}
#: The plan as it is.
PRESET = "as planned"
#: Each variant: what it changes in the plan.
VARIANTS: Mapping[str, Mapping[str, Any]] = {
    PRESET: {},
    "no states": {"states.strength": 0.0, "objective.adversary": 0.0, "whiten": 0.0, "remove_above": 1.0},
    "no compaction": {"objective.compaction": 0.0, "whiten": 0.0, "remove_above": 1.0},
    "no loss": {"objective.compaction": 0.0},
    "own pooling": {"pooling": "own"},
    "no whitening": {"whiten": 0.0},
    "with removal": {"remove_above": 0.5},
    "no reconstruction": {"objective.reconstruction": 0.0},
    "no adversary": {"objective.adversary": 0.0},
    "with adversary": {"objective.adversary": 0.1},
    "barlow": {"objective.loss": "barlow"},
    "infonce": {"objective.loss": "infonce"},
    "vicreg": {"objective.loss": "vicreg"},
    "ratio": {"objective.loss": "ratio"},
    "4 views": {"states.views": 4},
    "fixed prior": {"states.prior": "fixed"},
    "hed-light": {**_AUGMENTED, "states.kind": "hed-light"},
    "hed-strong": {**_AUGMENTED, "states.kind": "hed-strong"},
    "randstainna": {**_AUGMENTED, "states.kind": "randstainna"},
    "stain states only": {"states.parts": ("stain",)},
    "strength 0.5": {"states.strength": 0.5},
    "strength 1": {"states.strength": 1.0},
    "strength 1.5": {"states.strength": 1.5},
    "strength 2": {"states.strength": 2.0},
}
Told = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Cell:
    """One variant under one seed: figures, and whether the labels were read, by site.

    `encoder` is the folder of what was trained, in the folder of the cells.
    """

    variant: str
    seed: int
    figures: Mapping[str, float]
    read: Mapping[str, LabelsRead]
    seconds: float
    encoder: str


def variants_of(plan: CompactionPlan) -> dict[str, CompactionPlan]:
    """Return the plan under every variant that changes something, and as it is."""
    changed = {name: plan.changed(**changes) for name, changes in VARIANTS.items()}
    return {name: other for name, other in changed.items() if name == PRESET or other != plan}


def run_ablation(
    cohort: TileSource,
    plan: CompactionPlan,
    out: Path,
    *,
    variants: Sequence[str] = (),
    seeds: Sequence[int] = (0, 1, 2),
    train_site: str | None = None,
    device: str | None = None,
    workers: int = 0,
    progress: Told | None = None,
) -> list[Cell]:
    """Train every variant under every seed on one site, read it at the others, and keep each cell in `out/cells`.

    Cells that are there already, of the same plan and tiles, are not trained again; one that was interrupted goes on.
    See `split_cohort` for what is trained on and what is read; with one site, seeds take turns in whom they keep.

    Raises
    ------
    OptionError
        If there is no such variant, or the plan is that already.
    InputError
        If the cohort cannot be divided.
    """
    there = variants_of(plan)
    for name in variants:
        if name not in VARIANTS:
            raise unknown("variant", name, tuple(there))
        if name not in there:
            raise OptionError("the plan is already so", received=name, valid=", ".join(there))
    names = list(dict.fromkeys([PRESET, *(variants or there)]))
    divided = {seed: split_cohort(cohort, train_site, fold=seed) for seed in seeds}
    files = {
        (seed, name): out / "cells" / f"{name.replace(' ', '-')}-{seed}-{_key(divided[seed], there[name], seed)}.json"
        for seed in seeds
        for name in names
    }
    waiting = [cell for cell, path in files.items() if not path.exists()]
    for number, (seed, name) in enumerate(waiting):
        if progress:
            progress(f"{name}, seed {seed}", len(files) - len(waiting) + number, len(files))
        _train(divided[seed], there[name], name, seed, files[seed, name], device, workers)
    if progress:
        progress("done", len(files), len(files))
    return [_read(path) for path in files.values()]


def _key(cohort: Cohort, plan: CompactionPlan, seed: int) -> str:
    """Return what tells a cell from one of other tiles or another plan."""
    facts = {"tiles": source_digest(cohort.tiles), "trained": cohort.train.tolist(), "seed": seed}
    return digest({"plan": plan.model_dump(mode="json", exclude={"about"}), **facts})[:12]


def _read(path: Path) -> Cell:
    """Return a cell that is there."""
    found = json.loads(path.read_text(encoding="utf-8"))
    fields = {field: found[field] for field in Cell.__dataclass_fields__}
    read = {site: LabelsRead(**{key: tuple(each[key]) for key in each}) for site, each in found["read"].items()}
    return Cell(**{**fields, "read": read})


def _train(
    cohort: Cohort, plan: CompactionPlan, name: str, seed: int, path: Path, device: str | None, workers: int
) -> None:
    """Train and read a cell, and keep it."""
    import time

    from ..compact.run import compact_encoder
    from ..compact.saving import save_compaction
    from ..outputs import remove

    path.parent.mkdir(parents=True, exist_ok=True)
    work, clock = path.with_suffix(".training"), time.perf_counter()
    made = compact_encoder(cohort.source, plan, work, seed=seed, device=device, workers=workers)
    seconds = time.perf_counter() - clock
    seen = read_unseen(cohort, made.encoder, seed=0, workers=workers)
    figures = {**seen.figures, **{f"held_out_{key}": made.card["after"][key] for key in ("twin_top1", "ratio", "rank")}}
    cell = Cell(name, seed, figures, seen.read, round(seconds, 1), path.stem)
    save_compaction(made.encoder, made.card, path.with_suffix(""), overwrite=True)
    document = {**asdict(cell), "plan": plan.model_dump(mode="json"), "created": now(), "environment": environment()}
    with whole_file(path) as part:
        part.write_text(canonical_json(document) + "\n", encoding="utf-8")
    remove(work)


def summarise(cells: Sequence[Cell]) -> pd.DataFrame:
    """Return a row for each variant: means over seeds, and differences from the plan with 95 % intervals.

    Accuracies are balanced, over the tiles of all seeds, and intervals of a bootstrap of patients; see `accuracy`.
    """
    rows = []
    for name in dict.fromkeys(cell.variant for cell in cells):
        own = of_variant(cells, name)
        keys = dict.fromkeys(key for cell in own for key in cell.figures)
        row: dict[str, Any] = {"variant": name, "seeds": len(own)}
        row |= {key: float(np.mean([cell.figures[key] for cell in own if key in cell.figures])) for key in keys}
        row |= {what: value_of(own, what) for what in (SOURCE, "unseen")}
        row["seconds"] = float(np.mean([cell.seconds for cell in own]))
        if name != PRESET:
            for what in (SOURCE, "unseen"):
                gap = difference(cells, name, PRESET, what)
                row |= {
                    f"{what}_change": gap.estimate.value,
                    f"{what}_low": gap.estimate.low,
                    f"{what}_high": gap.estimate.high,
                    f"{what}_p": gap.p,
                }
        rows.append(row)
    return pd.DataFrame(rows).set_index("variant")


def accuracy(cells: Sequence[Cell], what: str) -> tuple[Statistic, np.ndarray]:
    """Return the balanced accuracy of the cells of a variant as a statistic, and a code for whose tile each one is.

    `what` is `source`, a site, or `unseen`: the mean over sites. Tiles of all seeds count as one site's, and a patient
    is the same one under each seed.
    """
    names = [site for site in cells[0].read if site == what or (what == "unseen" and site != SOURCE)]
    sites = [pooled([cell.read[site] for cell in cells]) for site in names]
    return mean_accuracy(sites), np.unique(np.concatenate([site.groups for site in sites]), return_inverse=True)[1]


def paired(cells: Sequence[Cell], first: str, second: str, what: str) -> tuple[Statistic, Statistic, np.ndarray]:
    """Return the `accuracy` of two variants over the same tiles and seeds, and a code for whose tile each is."""
    own, other = (of_variant(cells, name) for name in (first, second))
    assert [cell.seed for cell in own] == [cell.seed for cell in other]
    (one, groups), (two, _) = accuracy(own, what), accuracy(other, what)
    return one, two, groups


def difference(cells: Sequence[Cell], first: str, second: str, what: str) -> Difference:
    """Return how much better a variant reads the label than another, over the same tiles and seeds."""
    return paired_difference(*paired(cells, first, second, what))


def value_of(cells: Sequence[Cell], what: str) -> float:
    """Return the `accuracy` of the cells of a variant, each tile counted once."""
    statistic, groups = accuracy(cells, what)
    return whole_value(statistic, len(groups))


def of_variant(cells: Sequence[Cell], name: str) -> list[Cell]:
    """Return the cells of one variant, by seed."""
    return sorted((cell for cell in cells if cell.variant == name), key=lambda cell: cell.seed)


def as_markdown(table: pd.DataFrame) -> str:
    """Return the table as Markdown: the figures that matter, and the changes with their intervals."""
    columns = {
        SOURCE: "source",
        "unseen": "unseen sites",
        "unseen_change": "unseen, against the plan",
        "silhouette": "silhouette of sites",
        "site_above_chance": "site, above chance",
        "robustness": "robustness index",
        "rank": "effective rank",
        "held_out_twin_top1": "twin retrieval",
    }
    shown = [key for key in columns if key in table]
    lines = [f"| variant | {' | '.join(columns[key] for key in shown)} |", "|" + " --- |" * (len(shown) + 1)]
    for row in table.reset_index().to_dict("records"):
        cells = []
        for key in shown:
            value = float(row[key])
            text = "" if np.isnan(value) else f"{value:.1f}" if key == "rank" else f"{value:.3f}"
            if text and key == "unseen_change":
                text = f"{value:+.3f} [{row['unseen_low']:+.3f}, {row['unseen_high']:+.3f}]"
            cells.append(text)
        lines.append(f"| {row['variant']} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"
