"""Plans of trainings: numbers and names in a TOML file, checked, with presets. Imports nothing heavy."""

import os
import tomllib
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, ClassVar, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ..errors import InputError, OptionError, nearest, unknown

Share = Annotated[float, Field(ge=0, le=1, strict=True)]
Weight = Annotated[float, Field(ge=0, strict=True)]
Positive = Annotated[float, Field(gt=0, strict=True)]
Count = Annotated[int, Field(ge=1, strict=True)]


P = TypeVar("P", bound="Plan")


class Part(BaseModel):
    """A part of a plan: frozen, and without fields that are not known."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Plan(Part):
    """A whole plan, `called` so in errors. `presets` are TOML files in the folder `presets` of its `package`."""

    called: ClassVar[str] = "the plan"
    package: ClassVar[str]
    presets: ClassVar[tuple[str, ...]] = ()

    @classmethod
    def read(cls: type[P], origin: str | os.PathLike[str]) -> P:
        """Read a preset by name, or a TOML file.

        Raises
        ------
        OptionError
            If there is neither.
        InputError
            If the file is not TOML, or a field is unknown (with the nearest name), missing or wrong.
        """
        if str(origin) in cls.presets:
            text = (resources.files(cls.package) / "presets" / f"{origin}.toml").read_text(encoding="utf-8")
        else:
            path = Path(origin)
            if not path.is_file():
                raise (
                    unknown("preset", str(origin), cls.presets)
                    if path.suffix != ".toml"
                    else OptionError(
                        "there is no such file", received=path, valid=f"a TOML file, or one of {', '.join(cls.presets)}"
                    )
                )
            try:
                text = path.read_text(encoding="utf-8")
            except UnicodeDecodeError as error:
                raise InputError(f"{cls.called} is not UTF-8", received=f"{origin}: {error}") from None
        try:
            return cls.checked(tomllib.loads(text), str(origin))
        except tomllib.TOMLDecodeError as error:
            raise InputError(f"{cls.called} is not TOML", received=f"{origin}: {error}") from None

    @classmethod
    def checked(cls: type[P], fields: Mapping[str, Any], origin: str) -> P:
        """Build a plan from a mapping; say in one message what is wrong with it."""
        try:
            return cls.model_validate(fields)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            place = [str(part) for part in first["loc"]]
            message, fix, valid = first["msg"].removeprefix("Value error, "), None, None
            if first["type"] == "extra_forbidden":
                owner = _owner(cls, place[:-1])
                guess = nearest(place[-1], owner.model_fields)
                message, fix = "is unknown", f"did you mean {guess!r}?" if guess else None
                valid = ", ".join(owner.model_fields)
            what = f"{'.'.join(place)}: {message}" if place else message
            raise InputError(f"{cls.called} is not valid: {what}", received=origin, valid=valid, fix=fix) from None

    def changed(self: P, **values: Any) -> P:
        """Return the plan with other values, named as `states.views` or `backbone`.

        Raises
        ------
        InputError
            As `read`.
        """
        fields = self.model_dump()
        for name, value in values.items():
            *path, last = name.replace("__", ".").split(".")
            part = fields
            for step in path:
                part = part.setdefault(step, {})
                if not isinstance(part, dict):
                    raise InputError(f"{self.called} is not valid: {step} has no parts", received=name)
            part[last] = value
        return self.checked(fields, ", ".join(f"{name}={value}" for name, value in values.items()))


def _owner(model: type[BaseModel], path: list[str]) -> type[BaseModel]:
    for name in path:
        annotation = model.model_fields[name].annotation
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            model = annotation
    return model
