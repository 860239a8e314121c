"""Whether a label that is read at some sites is read at one that was left out."""

from dataclasses import dataclass

import numpy as np

from .._types import Codes, Vectors
from ..probes import FittedProbe, NotReadable, Reading, fit_probe
from ..stats import RESAMPLES, Estimate, Statistic, balanced_accuracy, bootstrap


@dataclass(frozen=True)
class Transfer:
    """Balanced accuracy of the label on the tiles of one site.

    `unseen` is that of probes without the site in training, `seen` of probes with it, `gap` the former less the latter
    on the same tiles and resamples. No probe has seen the patients that it is asked about. `read` is the class that the
    former gave each of the tiles `rows`.
    """

    left_out: str
    unseen: Estimate
    seen: Estimate
    gap: Estimate
    rows: tuple[int, ...]
    read: tuple[str, ...]


def leave_site_out(
    vectors: Vectors,
    target: list[str | None],
    sites: list[str | None],
    groups: Codes,
    *,
    seen: Reading,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> dict[str, Transfer | NotReadable]:
    """Return, by site, how well `target` is read there by a probe of all other sites, and what that costs.

    `seen` is the reading of the same target in grouped folds over all sites. Tiles of groups that stand at several
    sites are left out of training wherever one of theirs is tested. Classes that a site lacks do not count there; a
    site with one class, or one that holds all tiles of a class, gives the reason.

    Misleads: `seen` was trained on more tiles, so part of the gap is not the site. Sites differ in how hard they are.
    """
    known = np.array([value is not None for value in target]) & np.array([value is not None for value in sites])
    names = np.array([value or "" for value in sites])
    found: dict[str, Transfer | NotReadable] = {}
    for site in sorted(set(names[known].tolist())):
        here = known & (names == site)
        elsewhere = known & ~here & ~np.isin(groups, np.unique(groups[here]))
        found[site] = _leave_out(vectors, target, groups, site, here, elsewhere, seen, resamples, seed)
    return found


def _leave_out(
    vectors: Vectors,
    target: list[str | None],
    groups: Codes,
    site: str,
    here: np.ndarray,
    elsewhere: np.ndarray,
    seen: Reading,
    resamples: int,
    seed: int,
) -> Transfer | NotReadable:
    classes = {target[row] for row in np.flatnonzero(here)}
    if len(classes) < 2:
        return NotReadable(f"{site} has one class only")
    missing = sorted(str(name) for name in classes - {target[row] for row in np.flatnonzero(elsewhere)})
    if missing:
        return NotReadable(f"{missing[0]!r} occurs nowhere but at {site}")
    # Classes that are not at this site are no part of the task: they could only be wrong answers.
    asked = [value if value in classes else None for value in target]
    split = ["test" if a else "train" if b else None for a, b in zip(here, elsewhere, strict=True)]
    fitted = fit_probe(vectors, asked, groups, split=split, seed=seed)
    if not isinstance(fitted, FittedProbe):
        return fitted
    unseen = fitted.read(vectors)
    rows, first, second = np.intersect1d(unseen.rows, seen.rows, return_indices=True)
    if not len(rows):
        return NotReadable(f"no tile of {site} was read by a probe that has seen the site")
    codes = np.unique(groups[rows], return_inverse=True)[1]
    after = balanced_accuracy(unseen.correct[first], unseen.codes[first])
    before = balanced_accuracy(seen.correct[second], seen.codes[second])

    def gap(weights: np.ndarray) -> np.ndarray:
        return after(weights) - before(weights)

    statistics: tuple[Statistic, ...] = (after, before, gap)
    asked, known, lost = (bootstrap(one, codes, resamples=resamples, seed=seed) for one in statistics)
    read = tuple(unseen.classes[code] for code in unseen.predicted[first])
    return Transfer(site, asked, known, lost, tuple(rows.tolist()), read)
