"""What is asked of an encoder, as thresholds on the bounds of intervals: defaults, or a TOML file."""

import os
import tomllib
from importlib import resources
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from ..errors import InputError, OptionError, unknown
from ..perturb import OPERATIONS
from .metrics import METRICS

POLICIES = ("second-site",)


class _Asked(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Band(_Asked):
    """PASS where the lower bound is at least `pass_at`, FAIL where the upper bound is below `fail_below`, else WARN."""

    pass_at: float = Field(ge=0, le=1)
    fail_below: float = Field(ge=0, le=1)

    @model_validator(mode="after")
    def _check_order(self) -> "Band":
        if self.fail_below > self.pass_at:
            raise ValueError(f"fail_below ({self.fail_below:g}) is above pass_at ({self.pass_at:g})")
        return self


class Requirement(_Asked):
    """A figure of the audit that has to be on one side of a bound; `figure` is its name in the registry.

    `operation`, `severity`, `column` and `of` choose among figures of that name, as in `figures.csv`; where several are
    left, all have to hold. With `at_least`: PASS where the lower bound is at least that, FAIL where the upper bound is
    below `fail_below` (`at_least`, unless given). With `at_most` and `fail_above` the other way round.
    """

    figure: str
    operation: str | None = None
    severity: int | None = Field(default=None, ge=1, le=5)
    column: str | None = None
    of: str | None = None
    at_least: float | None = None
    at_most: float | None = None
    fail_below: float | None = None
    fail_above: float | None = None
    why: str = ""

    @model_validator(mode="after")
    def _check_bounds(self) -> "Requirement":
        if self.figure not in METRICS:
            raise ValueError(str(unknown("figure", self.figure, METRICS)))
        if (self.at_least is None) == (self.at_most is None):
            raise ValueError("give either at_least or at_most")
        wrong = self.fail_below if self.at_least is None else self.fail_above
        if wrong is not None:
            raise ValueError("fail_below goes with at_least, fail_above with at_most")
        if self.at_least is not None and self.fail_below is not None and self.fail_below > self.at_least:
            raise ValueError("fail_below is above at_least")
        if self.at_most is not None and self.fail_above is not None and self.fail_above < self.at_most:
            raise ValueError("fail_above is below at_most")
        return self

    @property
    def key(self) -> dict[str, str | int]:
        """The keys by which figures are found."""
        given = self.model_dump(include={"operation", "severity", "column", "of"}, exclude_none=True)
        return {"metric": self.figure, **given}

    def describe(self) -> str:
        """Return the figure in words, such as `robustness margin, column site`."""
        where = ", ".join(f"{name} {value}" for name, value in self.key.items() if name != "metric")
        return METRICS[self.figure].title + (f", {where}" if where else "")


class Policy(_Asked):
    """What is asked of an encoder. The defaults are conventions, not measurements: set your own before you rely on one.

    - `severity`: must-ignore changes are judged here; `must_react_severity`: so are those that destroy biology.
    - `ignore`: the probability that a must-ignore change moves a tile less than unrelated tiles lie apart (0.5 = as far
      as an unrelated tile). `families` and `operations` set other bands for some.
    - `react`: the probability that destroying biology moves a tile further than a nuisance does; `react_each`: the same
      for each operation that destroys some, which also fails where the ratio of displacements is below `fail_below`.
    - `require`: bounds on any other figure.
    - `contract`, `yardstick`, `signal` and `leakage` questions have no settings: see the documentation of the verdict.
    - `warn`, `undefined`: whether the gate lets an answer WARN or UNDEFINED through.
    """

    title: str = "default"
    severity: int = Field(default=3, ge=1, le=5)
    must_react_severity: int = Field(default=5, ge=1, le=5)
    ignore: Band = Band(pass_at=0.95, fail_below=0.8)
    families: dict[Literal["geometric", "photometric", "acquisition", "stain", "artefact"], Band] = {}
    operations: dict[str, Band] = {}
    react: Band = Band(pass_at=0.5, fail_below=0.5)
    react_each: Band = Band(pass_at=0.5, fail_below=0.1)
    require: tuple[Requirement, ...] = ()
    warn: Literal["allow", "refuse"] = "allow"
    undefined: Literal["allow", "refuse"] = "refuse"

    @model_validator(mode="after")
    def _check_operations(self) -> "Policy":
        for name in self.operations:
            if name not in OPERATIONS:
                raise ValueError(str(unknown("operation", name, OPERATIONS)))
        return self

    def band(self, operation: str, family: str) -> Band:
        """Return the band that a must-ignore operation is judged by."""
        named = next((band for name, band in self.families.items() if name == family), self.ignore)
        return self.operations.get(operation, named)


def read_policy(name: str | os.PathLike[str]) -> Policy:
    """Read a policy from a TOML file, or one that ships with histolatent by its name (`second-site`).

    Raises
    ------
    InputError
        If there is no such file, it is no TOML, or a setting is not one of a policy; the message names the place.
    """
    if str(name) in POLICIES:
        return _parse(policy_text(str(name)), str(name))
    path = Path(name)
    if not path.exists() and path.suffix != ".toml":
        raise OptionError(
            "there is no such policy", received=str(name), valid=f"{', '.join(POLICIES)}, or a file.toml of your own"
        )
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise InputError(f"the policy cannot be read ({error.strerror})", received=path) from None
    except UnicodeDecodeError:
        raise InputError("the policy is not text in UTF-8", received=path) from None
    return _parse(text, str(path))


def policy_text(name: str) -> str:
    """Return the TOML of a policy that ships with histolatent."""
    return resources.files("histolatent.audit").joinpath("policies", f"{name}.toml").read_text(encoding="utf-8")


def _parse(text: str, origin: str) -> Policy:
    try:
        document: dict[str, Any] = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"the policy is no TOML ({error})", received=origin) from None
    try:
        return Policy.model_validate(document)
    except ValidationError as error:
        first = error.errors()[0]
        places = [str(part) for part in first["loc"]]
        place = ".".join(places) or "the policy"
        said = str(first["msg"]).removeprefix("Value error, ")
        if first["type"] == "extra_forbidden":
            model = Requirement if places[0] == "require" else Band if len(places) > 1 else Policy
            said = str(unknown("setting", places[-1], model.model_fields))
        raise InputError(f"{origin}: {place}: {said}", fix="see the documentation of policies") from None
