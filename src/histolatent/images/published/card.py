"""The card of a fetched cohort: which files came from where, at which commit, under which licence."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ...errors import InputError
from ...outputs import Mark

FORMAT = 1
KIND = "histolatent published cohort"
MARK = Mark("card.json", KIND)
CARD, MANIFEST, TILES = "card.json", "manifest.csv", "tiles.sha256"


@dataclass(frozen=True)
class Fetched:
    """One file that came. `published` are the checksums that it was checked against, by algorithm.

    `found`: it was in its place already, and was checked, but not downloaded.
    """

    address: str
    bytes: int
    sha256: str
    published: dict[str, str]
    fetched: str
    found: bool = False


@dataclass(frozen=True)
class CohortCard:
    """What `card.json` holds. `files` are relative to `published/`, `tables` to the folder: name to sha256."""

    cohort: str
    title: str
    home: str
    paper: str
    licence: str
    notice: str
    created: str
    files: dict[str, Fetched]
    tiles: int
    tables: dict[str, str]
    commit: str | None = None
    environment: dict[str, Any] = field(default_factory=dict)
    format: int = FORMAT
    kind: str = KIND

    def to_json(self) -> str:
        """Return the card as it is written."""
        return json.dumps(asdict(self), indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def read_card(folder: Path) -> CohortCard:
    """Return the card of a fetched cohort.

    Raises
    ------
    InputError
        If there is none, or it is of another format.
    """
    if not MARK.on(folder):
        unfinished = unfinished_place(folder).exists()
        raise InputError(
            "this fetch has not finished" if unfinished else "this is not a cohort that histolatent has fetched",
            received=folder,
            valid=f"a folder with the {CARD} of histolatent data fetch",
            fix="give the fetch again: it goes on where it stopped" if unfinished else None,
        )
    found = json.loads((folder / CARD).read_text(encoding="utf-8"))
    if found.get("format") != FORMAT:
        raise InputError("the card is of a format that is not known", received=found.get("format"), valid=FORMAT)
    try:
        return CohortCard(**{**found, "files": {name: Fetched(**one) for name, one in found["files"].items()}})
    except (TypeError, KeyError) as error:
        raise InputError(f"the card is damaged ({error})", received=folder / CARD) from None


def unfinished_place(folder: Path) -> Path:
    """Return where a fetch into `folder` works until it is done."""
    whole = folder.resolve()  # which gives "." its name
    return whole.with_name(whole.name + ".unfinished")
