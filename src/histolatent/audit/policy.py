"""What is asked of an encoder, as thresholds on the bounds of intervals: defaults, or a TOML file."""

import os
import tomllib
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from ..errors import InputError, OptionError, unknown
from ..perturb import OPERATIONS
from .metrics import METRICS

POLICIES = ("second-site",)
#: Families of must-ignore changes; real pairs, whatever they are called, are one.
Family = Literal["geometric", "photometric", "acquisition", "stain", "artefact", "pair"]
FAMILIES: tuple[Family, ...] = get_args(Family)
#: Everything that questions are about: the families of operations, and what is asked besides.
Asked = Literal[
    "contract",
    "yardstick",
    "geometric",
    "photometric",
    "acquisition",
    "stain",
    "artefact",
    "pair",
    "must-react",
    "signal",
    "leakage",
    "required",
    "robustness",
]
ASKED: tuple[Asked, ...] = get_args(Asked)
#: Metrics that describe pairs of tiles, or single ones: an audit gives no figure of them that could be bounded.
NOT_FIGURES = ("disagreement", "procrustes_residual", "sensitivity")

#: What figures are of, where they are of a column; factors have names of their own.
COLUMNS = ("label", "site", "scanner", "stain", "pair")

# Strict: TOML has types, and `true` or "0.9" in place of a number is a mistake.
Share = Annotated[float, Field(ge=0, le=1, strict=True)]
Bound = Annotated[float, Field(strict=True)]
Severity = Annotated[int, Field(ge=1, le=5, strict=True)]


class _Asked(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Band(_Asked):
    """PASS where the lower bound is at least `pass_at`, FAIL where the upper bound is below `fail_below`, else WARN."""

    pass_at: Share
    fail_below: Share

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
    severity: Severity | None = None
    column: str | None = None
    of: str | None = None
    at_least: Bound | None = None
    at_most: Bound | None = None
    fail_below: Bound | None = None
    fail_above: Bound | None = None
    why: str = ""

    @model_validator(mode="after")
    def _check_bounds(self) -> "Requirement":
        figures = [name for name in METRICS if name not in NOT_FIGURES]
        if self.figure not in figures:
            raise ValueError(str(unknown("figure", self.figure, figures)))
        if self.column is not None and self.figure != "factor_r2" and self.column not in COLUMNS:
            raise ValueError(str(unknown("column", self.column, COLUMNS)) + " (known names, not those of your table)")
        if (self.at_least is None) == (self.at_most is None):
            given = "neither is" if self.at_least is None else "both are"
            raise ValueError(f"give either at_least or at_most ({given} there); for both sides, write two entries")
        if self.at_least is None and self.fail_below is not None:
            raise ValueError("fail_below goes with at_least; with at_most it is fail_above")
        if self.at_most is None and self.fail_above is not None:
            raise ValueError("fail_above goes with at_most; with at_least it is fail_below")
        if self.at_least is not None and self.fail_below is not None and self.fail_below > self.at_least:
            raise ValueError(f"fail_below ({self.fail_below:g}) is above at_least ({self.at_least:g})")
        if self.at_most is not None and self.fail_above is not None and self.fail_above < self.at_most:
            raise ValueError(f"fail_above ({self.fail_above:g}) is below at_most ({self.at_most:g})")
        self._check_range()
        return self

    def _check_range(self) -> None:
        low, high = METRICS[self.figure].range
        for name in ("at_least", "at_most", "fail_below", "fail_above"):
            bound = getattr(self, name)
            if bound is not None and ((low is not None and bound < low) or (high is not None and bound > high)):
                ends = [f"at least {low:g}"] * (low is not None) + [f"at most {high:g}"] * (high is not None)
                raise ValueError(f"{name} ({bound:g}) is out of the range of {self.figure}: {' and '.join(ends)}")

    @property
    def side(self) -> str:
        """What the bound is: `at least 0.5`."""
        return f"at most {self.at_most:g}" if self.at_least is None else f"at least {self.at_least:g}"

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
    - `title`: what it is called where it is shown.
    - `ignore`: the probability that a must-ignore change moves a tile less than unrelated tiles lie apart (0.5 = as far
      as an unrelated tile). `families` and `operations` set other bands for some.
    - `react`: the probability that destroying biology moves a tile further than a nuisance does; `react_each`: the same
      for each operation that destroys some, which also fails where the ratio of displacements is below `fail_below`.
    - `require`: bounds on any other figure.
    - `contract`, `yardstick`, `signal` and `leakage` questions have no settings: see the documentation of the verdict.
    - `warn`, `undefined`: whether the gate lets an answer WARN or UNDEFINED through. `refuse_warn`: families of
      questions of which it lets no WARN through, whatever `warn` says.
    """

    title: str = "default"
    severity: Severity = 3
    must_react_severity: Severity = 5
    ignore: Band = Band(pass_at=0.95, fail_below=0.8)
    families: dict[Family, Band] = {}
    operations: dict[str, Band] = {}
    react: Band = Band(pass_at=0.5, fail_below=0.5)
    react_each: Band = Band(pass_at=0.5, fail_below=0.1)
    require: tuple[Requirement, ...] = ()
    warn: Literal["allow", "refuse"] = "allow"
    undefined: Literal["allow", "refuse"] = "refuse"
    refuse_warn: tuple[Asked, ...] = ()

    @model_validator(mode="after")
    def _check_operations(self) -> "Policy":
        for name in self.operations:
            if name not in OPERATIONS:
                raise ValueError("operations: " + str(unknown("operation", name, OPERATIONS)))
            role = OPERATIONS[name].role
            if role != "must-ignore":
                use = "; react_each is for those" if role == "must-react" else ""
                raise ValueError(f"operations: {name} is {role}, and a band is for must-ignore changes{use}")
        return self

    @model_validator(mode="after")
    def _check_requirements(self) -> "Policy":
        seen: set[tuple[object, ...]] = set()
        for asked in self.require:
            key = (*asked.key.items(), asked.at_least is None)
            if key in seen:
                raise ValueError(f"require: {asked.describe()} has two bounds on the same side")
            seen.add(key)
        return self

    def band(self, operation: str, family: str) -> Band:
        """Return the band that a must-ignore operation is judged by."""
        named = next((band for name, band in self.families.items() if name == family), self.ignore)
        return self.operations.get(operation, named)


def read_policy(name: str | os.PathLike[str]) -> Policy:
    """Read a policy from a TOML file, or one that ships with histolatent by its name (`second-site`).

    Raises
    ------
    InputError, OptionError
        If there is no such policy, it is no TOML, or a setting is not one of a policy: the message names file, place,
        what was found there and what is valid.
    """
    if str(name) in POLICIES:
        return parse_policy(policy_text(str(name)), str(name))
    path = Path(name)
    if not path.exists() and path.suffix.lower() != ".toml":
        error = unknown("policy", str(name), POLICIES)
        raise OptionError(error.what, valid=f"{error.valid}, or a file.toml of your own", fix=error.fix)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise InputError(f"the policy cannot be read ({error.strerror})", received=path) from None
    except UnicodeDecodeError:
        raise InputError("the policy is not text in UTF-8", received=path) from None
    return parse_policy(text, str(path))


def policy_text(name: str) -> str:
    """Return the TOML of a policy that ships with histolatent.

    Raises
    ------
    OptionError
        If none is called that.
    """
    if name not in POLICIES:
        raise unknown("policy", name, POLICIES)
    return resources.files("histolatent.audit").joinpath("policies", f"{name}.toml").read_text(encoding="utf-8")


def parse_policy(text: str, origin: str) -> Policy:
    """Return the policy that a TOML text holds; `origin` is what errors call it."""
    try:
        document: dict[str, Any] = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"the policy is no TOML ({error})", received=origin) from None
    return check_policy(document, origin)


def check_policy(document: object, origin: str) -> Policy:
    """Return the policy that a document holds, such as the one in the plan of an audit."""
    try:
        return Policy.model_validate(document)
    except ValidationError as error:
        raise _explained(error, document, origin) from None


def _explained(error: ValidationError, document: object, origin: str) -> InputError:
    """Return the first mistake in words, with how many there are."""
    # A setting that is not known is often the one that is missed: it is said first.
    mistakes: list[Any] = sorted(error.errors(), key=lambda item: item["type"] != "extra_forbidden")
    first = mistakes[0]
    path: tuple[Any, ...] = tuple(part for part in first["loc"] if part != "[key]")
    place, kind = _place(path, document), first["type"]
    more = f" (and {len(mistakes) - 1} more)" if len(mistakes) > 1 else ""
    where = f"{origin}: {place}" if place else origin
    if kind == "extra_forbidden":
        model = Requirement if path[0] == "require" else Band if len(path) > 1 else Policy
        found = unknown("setting", str(first["loc"][-1]), model.model_fields)
        inside = _place(path[:-1], document)
        return InputError(
            f"{origin}: {inside + ': ' if inside else ''}{found.what}{more}", valid=found.valid, fix=found.fix
        )
    if path[:1] == ("families",) and kind == "literal_error":
        found = unknown("family", str(path[1]), FAMILIES)
        return InputError(f"{origin}: families: {found.what}{more}", valid=found.valid, fix=found.fix)
    if path[:1] == ("refuse_warn",) and kind == "literal_error":
        found = unknown("family of questions", str(first["input"]), ASKED)
        return InputError(f"{origin}: refuse_warn: {found.what}{more}", valid=found.valid, fix=found.fix)
    if kind == "value_error":
        return InputError(f"{where}: {str(first['msg']).removeprefix('Value error, ')}{more}")
    valid = _valid(path)
    if kind == "missing":
        return InputError(f"{where} is missing{more}", valid=valid)
    return InputError(f"{where} is not {valid}{more}", received=_shortened(first["input"]))


def _place(path: tuple[int | str, ...], document: object) -> str:
    """Return where in the file something is, in the words of TOML: `families.stain.pass_at`, `[[require]] 2`."""
    if len(path) > 1 and path[0] == "require" and isinstance(path[1], int):
        entries = document.get("require", []) if isinstance(document, dict) else []
        entry = entries[path[1]] if path[1] < len(entries) else None
        figure = entry.get("figure") if isinstance(entry, dict) else None
        named = f" ({figure})" if isinstance(figure, str) and figure in METRICS else ""
        rest = ".".join(map(str, path[2:]))
        return f"[[require]] {path[1] + 1}{named}" + (f", {rest}" if rest else "")
    return ".".join(map(str, path))


def _valid(path: tuple[int | str, ...]) -> str:
    """Return what is valid at a place of a policy."""
    name = str(path[len(path) - 1]) if path else ""
    if not name:
        return "a table of settings"
    if path[0] == "refuse_warn":
        return "an array of families of questions"
    if path == ("require",):
        return "an array of tables, each under [[require]]"
    if path[0] == "require" and len(path) == 2:
        return "a table, under [[require]]"
    if name in ("warn", "undefined"):
        return "'allow' or 'refuse'"
    if name in ("severity", "must_react_severity"):
        return "a whole number from 1 to 5"
    if path[0] == "require" and name in ("at_least", "at_most", "fail_below", "fail_above"):
        return "a finite number"
    if name in ("pass_at", "fail_below"):
        return "a number from 0 to 1"
    if path in (("families",), ("operations",)):
        example = "stain" if name == "families" else "blur"
        return f"a table of bands, such as [{name}.{example}]"
    if path in (("ignore",), ("react",), ("react_each",)) or path[0] in ("families", "operations"):
        return "a table with pass_at and fail_below"
    return "a text in quotes"


def _shortened(value: object) -> str:
    words = {True: "true", False: "false"}[value] if isinstance(value, bool) else repr(value)
    return words if len(words) <= 60 else words[:57] + "..."
