"""Known encoders, each with the card that its authors' instructions amount to."""

import tomllib
from collections.abc import Iterator
from functools import lru_cache
from importlib import resources
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, Field, model_validator

from ..errors import unknown
from .card import Domain, Pooling, Precision, Preprocessing
from .hub import has_weights

if TYPE_CHECKING:
    import pandas as pd


class CatalogueEntry(BaseModel):
    """One published encoder. Its revision is resolved when it is loaded, and recorded in the card then.

    `architecture` and `kwargs` are timm's; they make local weights loadable without the hub. `remote_code` says that
    the model runs Python code of its repository, `package` that it needs a package of its own.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9.-]*$")
    string: str = Field(pattern=r"^(hf|timm):[^@?]+$")
    dim: int = Field(gt=0)
    preprocessing: Preprocessing
    pooling: Pooling
    precision: Precision = "fp32"
    domain: Domain
    licence: str
    gated: bool
    revision: str | None = None
    architecture: str | None = None
    kwargs: dict[str, bool | int | float | str] = {}
    remote_code: bool = False
    package: str | None = None
    notes: str = ""

    @model_validator(mode="after")
    def _preprocessing_is_complete(self) -> "CatalogueEntry":
        if self.preprocessing.input_px is None or self.preprocessing.mean is None:
            raise ValueError(f"{self.name}: a published encoder has input_px, mean and std")
        return self

    @property
    def repository(self) -> str:
        """Return the repository on the Hugging Face hub."""
        scheme, _, rest = self.string.partition(":")
        return rest if scheme == "hf" else f"timm/{rest}"


@lru_cache(maxsize=1)
def _entries() -> dict[str, CatalogueEntry]:
    text = resources.files("histolatent.encoders").joinpath("cards.toml").read_text(encoding="utf-8")
    shared, entries = _split(tomllib.loads(text))
    found = [CatalogueEntry.model_validate(_filled(entry, shared)) for entry in entries]
    if len({entry.name for entry in found}) != len(found):
        raise ValueError("cards.toml names an encoder twice")
    return {entry.name: entry for entry in found}


def catalogue() -> list[CatalogueEntry]:
    """Return the known encoders, in the order of the data file.

    >>> next(entry.licence for entry in catalogue() if entry.name == "h-optimus-0")
    'Apache-2.0'
    """
    return list(_entries().values())


def catalogue_frame() -> "pd.DataFrame":
    """Return one row per known encoder, with its domain, licence, access and whether it is in the local cache."""
    import pandas as pd

    return pd.DataFrame(list(_rows()))


def entry_names() -> list[str]:
    """Return the names of the known encoders."""
    return list(_entries())


def catalogue_entry(name: str) -> CatalogueEntry:
    """Return one known encoder by name.

    >>> catalogue_entry("uni2h")
    Traceback (most recent call last):
        ...
    histolatent.errors.OptionError: no encoder is called 'uni2h'. Valid: ... Fix: did you mean 'uni2-h'?
    """
    try:
        return _entries()[name]
    except KeyError:
        raise unknown("encoder", name, _entries()) from None


def entry_of(string: str) -> CatalogueEntry | None:
    """Return the known encoder that `scheme:rest` names, if there is one. Case does not count, as on the hub."""
    return next((entry for entry in catalogue() if entry.string.lower() == string.lower()), None)


def in_cache(entry: CatalogueEntry) -> bool:
    """Say whether the weights of an encoder lie in the local Hugging Face cache. Nothing is asked of the network."""
    return has_weights(entry.repository)


def _rows() -> Iterator[dict[str, object]]:
    for entry in catalogue():
        yield {
            "name": entry.name,
            "string": entry.string,
            "domain": entry.domain,
            "dim": entry.dim,
            "input_px": entry.preprocessing.input_px,
            "pooling": entry.pooling,
            "precision": entry.precision,
            "licence": entry.licence,
            "gated": entry.gated,
            "cached": in_cache(entry),
        }


def _split(document: dict[str, object]) -> tuple[dict[str, dict[str, object]], list[dict[str, object]]]:
    shared, entries = document.pop("normalisation"), document.pop("encoder")
    if document or not isinstance(shared, dict) or not isinstance(entries, list):
        raise ValueError(f"cards.toml has unknown tables: {sorted(document)}")
    return shared, entries


def _filled(entry: dict[str, object], shared: dict[str, dict[str, object]]) -> dict[str, object]:
    """Put a named normalisation and the default of 224 px into an entry."""
    entry = dict(entry)
    name = str(entry.pop("normalisation"))
    rule = {"resize": "shorter-side-crop", "resize_px": 224, "input_px": 224, "interpolation": "bicubic"}
    given = entry.pop("preprocessing", {})
    if not isinstance(given, dict):
        raise ValueError("preprocessing is a table")
    if given.get("resize") == "squash":
        rule.pop("resize_px")
    return {**entry, "preprocessing": {**rule, **shared[name], **given}}
