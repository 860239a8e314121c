"""What a method of harmonisation is: fitted to the source, and to unlabelled target tiles only where it needs them."""

import inspect
import re
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
from filelock import FileLock
from jaxtyping import Float

from ..._types import Vectors
from ...compact.augmentation import Augmentation
from ...compact.plan import CompactionPlan
from ...encoders import Encoder, encoder
from ...errors import OptionError, unknown
from ...images import TileSource
from ...outputs import whole
from ...provenance import digest, file_digest
from ..ablate import VARIANTS
from .gan_plan import GanPlan

#: Vectors of one site among several, which differ in number.
OfSite = Float[np.ndarray, "_n _d"]
#: What a method changes: tiles, the network that embeds them, or vectors. In a chain it is in this order.
Stage = Literal["tiles", "encoder", "vectors"]
_NAME = re.compile(r"[\w.-]+")
STAGES: tuple[Stage, ...] = ("tiles", "encoder", "vectors")


@dataclass(frozen=True)
class Work:
    """Where a method may keep what it makes, what is random in it, and what it runs on.

    `folder` is of the chain, `shared` of all chains of the seed. `reused` has the seconds of what `once` made earlier:
    a method costs what it needs, whoever was first. `gan` says how a GAN is trained.
    """

    folder: Path
    seed: int = 0
    workers: int = 0
    device: str | None = None
    shared: Path | None = None
    reused: list[float] = field(default_factory=list[float])
    gan: GanPlan = field(default_factory=GanPlan)

    def of(self, method: "Method") -> "Work":
        """Return the same for one method, whose folders are others when its file has changed."""
        key = files_key((method,))
        return replace(self, folder=self.folder / key, shared=(self.shared or self.folder) / key)

    def once(self, name: str, make: Callable[[Path], object]) -> Path:
        """Return the path at which `make` wrote, now or earlier for another chain of the seed."""
        path = (self.shared or self.folder) / name
        took = path.with_name(f"{path.name}.seconds")
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(path.with_name(f"{path.name}.lock")):
            if took.exists():
                self.reused.append(float(took.read_text(encoding="utf-8")))
            else:
                clock = time.perf_counter()
                make(path)
                with whole(took, overwrite=True) as part:
                    part.write_text(str(time.perf_counter() - clock), encoding="utf-8")
        return path


@dataclass(frozen=True)
class Base:
    """What all methods start from: a plan by which a network is trained on the source, or a frozen encoder by name."""

    plan: CompactionPlan
    name: str | None = None
    device: str | None = None

    @property
    def encoder(self) -> Encoder | None:
        """The frozen encoder, the same each time; None where networks are trained."""
        return None if self.name is None else _loaded(self.name, self.device)

    @property
    def plain(self) -> CompactionPlan:
        """The same training without states, and so without compaction: views differ in place alone."""
        return self.plan.changed(**VARIANTS["no states"])


@lru_cache(maxsize=1)
def _loaded(name: str, device: str | None) -> Encoder:
    return encoder(name, device=device)


@dataclass(frozen=True, eq=False)
class Network:
    """What embeds tiles. With an `augmentation`, heads are also trained on copies of the source's tiles under it."""

    encoder: Encoder
    augmentation: Augmentation | None = None


@runtime_checkable
class TilesMethod(Protocol):
    """Fit a change of pixels, and return what makes it: from tiles of one site and its name to the same in new look.

    `target` has the unlabelled tiles of each unseen site, and is None unless the method needs them.
    """

    def __call__(
        self, source: TileSource, target: Mapping[str, TileSource] | None, work: Work
    ) -> Callable[[TileSource, str], TileSource]: ...


@runtime_checkable
class EncoderMethod(Protocol):
    """Return the network that embeds tiles, trained on the source or frozen."""

    def __call__(self, source: TileSource, base: Base, work: Work) -> Network: ...


@dataclass(frozen=True, eq=False)
class Space:
    """The source as an encoder sees it: its tiles, and their vectors `(n, d)` in the same order."""

    tiles: TileSource
    encoder: Encoder
    vectors: Vectors


@runtime_checkable
class VectorsMethod(Protocol):
    """Fit a change of vectors, and return what makes it: from vectors `(n, d)` of one site and its name to others."""

    def __call__(
        self, source: Space, target: Mapping[str, OfSite] | None, work: Work
    ) -> Callable[[Vectors, str], Vectors]: ...


@dataclass(frozen=True)
class Method:
    """A method of harmonisation: at what stage it acts, what it needs, and where it is described.

    `fit` is a TilesMethod, EncoderMethod or VectorsMethod, as `stage` says. A method that `needs_target` is fitted to
    unlabelled tiles of the sites that it is judged at, and cannot be used where these are not known beforehand. One on
    vectors that is `of_places` looks at nothing but vectors: for detection it is fitted to places of maps, too. Others
    change the last of the layers that a place is seen by. Without values in its `columns` a method cannot be fitted.
    `file` is where it was read from, of one that is not registered.

    Raises
    ------
    OptionError
        If the name is not of letters, digits, `.`, `_` and `-`, or there is no such stage.
    """

    name: str
    stage: Stage
    describes: str
    fit: Any
    reference: str = ""
    needs_target: bool = False
    of_places: bool = False
    columns: tuple[str, ...] = ()
    file: Path | None = None

    @property
    def files(self) -> tuple[Path, ...]:
        """The files that say what it does: that which it was read from, and that of its `fit`."""
        try:
            fit = inspect.getsourcefile(inspect.unwrap(self.fit))
        except TypeError:  # a callable that is no function
            fit = inspect.getsourcefile(type(self.fit))
        found = [self.file, None if fit is None else Path(fit)]
        return tuple(dict.fromkeys(path.resolve() for path in found if path is not None))

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise OptionError("a method cannot be called so", received=repr(self.name), valid="letters, digits, . _ -")
        if self.stage not in STAGES:
            raise unknown("stage of a method", self.stage, STAGES)


def files_key(methods: Iterable[Method]) -> str:
    """Return what changes with the name or a file of a method."""
    return digest([(method.name, [file_digest(file) for file in method.files]) for method in methods])[:12]
