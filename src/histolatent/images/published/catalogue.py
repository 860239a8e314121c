"""Published cohorts, each with its files as they are published: a data file, checked when it is read."""

import itertools
import tomllib
from collections.abc import Iterator
from functools import lru_cache
from importlib import resources
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from ...errors import unknown

if TYPE_CHECKING:
    import pandas as pd


def _below(name: str) -> str:
    if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts or "\\" in name:
        raise ValueError(f"{name} is not a path below the folder")
    return name


_Address = Annotated[str, Field(pattern=r"^https?://[^\s]+$")]
_Path = Annotated[str, Field(min_length=1), AfterValidator(_below)]


class _Entry(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class PublishedFile(_Entry):
    """One file: `name` is its path below `published/`. A file of the hub has no address.

    `bytes` and the checksums are as published, None where none are. `always`: it belongs to every part of the cohort,
    as a table of labels does. `optional`: it is fetched only where it is named.
    """

    name: _Path
    address: _Address | None = None
    bytes: int | None = Field(default=None, gt=0)
    md5: str | None = Field(default=None, pattern=r"^[0-9a-f]{32}$")
    sha256: str | None = Field(default=None, pattern=r"^[0-9a-f]{64}$")
    always: bool = False
    optional: bool = False

    @property
    def checksums(self) -> dict[str, str]:
        """The published checksums, by algorithm."""
        found = {"md5": self.md5, "sha256": self.sha256}
        return {algorithm: value for algorithm, value in found.items() if value is not None}


class Series(_Entry):
    """Files whose names follow a rule: every combination of `values`, put into `name` and `address`.

    A key of several words stands for values that go together: `"number id" = ["001 40282099"]`.
    """

    name: str
    address: str | None = None
    values: dict[str, tuple[str, ...]]

    def files(self) -> Iterator[PublishedFile]:
        """Yield the files, in order."""
        for combination in itertools.product(*self.values.values()):
            words = {
                key: word
                for keys, row in zip(self.values, combination, strict=True)
                for key, word in zip(keys.split(), row.split(), strict=True)
            }
            address = self.address.format(**words) if self.address else None
            yield PublishedFile(name=self.name.format(**words), address=address)


class Index(_Entry):
    """A published list of md5 sums, from which the files are taken: those that match `files`, and always `always`."""

    address: _Address
    base: _Address
    files: tuple[str, ...]
    always: tuple[str, ...] = ()


class Cohort(_Entry):
    """One published cohort: what it is, under which licence, what it says of each tile, and where its files are.

    `bytes` is about what is downloaded without options. `labels`, `sites`, `scanners` and `patients` are sentences;
    empty where nothing is published.
    """

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]*$")
    title: str
    what: str
    home: _Address
    paper: _Address
    licence: str
    notice: str
    bytes: int | None = Field(default=None, gt=0)
    labels: str = ""
    sites: str = ""
    scanners: str = ""
    patients: str = ""
    good_for: str
    misleads: str
    layout: str
    hub: str | None = Field(default=None, pattern=r"^[\w.-]+/[\w.-]+$")
    commit: str | None = Field(default=None, pattern=r"^[0-9a-f]{40}$")
    index: Index | None = None
    files: tuple[PublishedFile, ...] = ()
    series: tuple[Series, ...] = ()

    @model_validator(mode="after")
    def _files_can_be_had(self) -> "Cohort":
        files = self.listed()
        names = [file.name for file in files]
        if len(set(names)) != len(names):
            raise ValueError(f"{self.name} names a file twice")
        if not files and self.index is None:
            raise ValueError(f"{self.name} has no files")
        if self.hub is None and any(file.address is None for file in files):
            raise ValueError(f"{self.name} has a file without address")
        if self.commit is not None and self.hub is None:
            raise ValueError(f"{self.name} has a commit and no repository")
        return self

    def listed(self) -> list[PublishedFile]:
        """Return the files that the catalogue names; those of an index come from the net."""
        return [*self.files, *(file for series in self.series for file in series.files())]


@lru_cache(maxsize=1)
def _cohorts() -> dict[str, Cohort]:
    text = resources.files("histolatent.images.published").joinpath("cohorts.toml").read_text(encoding="utf-8")
    document = tomllib.loads(text)
    entries = document.pop("cohort")
    if document:
        raise ValueError(f"cohorts.toml has unknown tables: {sorted(document)}")
    found = [Cohort.model_validate(entry) for entry in entries]
    if len({cohort.name for cohort in found}) != len(found):
        raise ValueError("cohorts.toml names a cohort twice")
    return {cohort.name: cohort for cohort in found}


def cohorts() -> list[Cohort]:
    """Return the known cohorts, in the order of the data file.

    >>> next(cohort.licence for cohort in cohorts() if cohort.name == "pcam")
    'CC0-1.0'
    """
    return list(_cohorts().values())


def find_cohort(name: str) -> Cohort:
    """Return one cohort by name.

    >>> find_cohort("midog")
    Traceback (most recent call last):
        ...
    histolatent.errors.OptionError: no cohort is called 'midog'. Valid: ... Fix: did you mean 'midog-plus-plus'?
    """
    try:
        return _cohorts()[name]
    except KeyError:
        raise unknown("cohort", name, _cohorts()) from None


def cohorts_frame() -> "pd.DataFrame":
    """Return one row per cohort: what it is, its licence, and what it says of each tile."""
    import pandas as pd

    dropped = {"index", "files", "series"}
    return pd.DataFrame([cohort.model_dump(mode="json", exclude=dropped) for cohort in cohorts()])
