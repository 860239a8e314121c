"""Compaction in the manners of scikit-learn."""

import contextlib
import os
import tempfile
import warnings
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils.validation import check_is_fitted

from .._types import Vectors
from ..encoders import Encoder, encode, encoder
from ..encoders.embed import embed_views
from ..errors import CompactionError, InputError, OptionError, require, unknown
from ..images import TileSource, open_tiles
from ..training.processes import Told
from .guards import Finding
from .plan import CompactionPlan
from .saving import read_provenance, save_compaction

if TYPE_CHECKING:
    from .frozen import FrozenCompaction
    from .run import Trained

KINDS = ("linear", "adapter", "encoder")
#: What tiles may be given as: a source by name or opened, or pixels in memory.
GivenTiles = str | os.PathLike[str] | TileSource | np.ndarray | Sequence[np.ndarray]


class CompactionWarning(UserWarning):
    """An embedding came out, and something is wrong with it."""


class Compactor(TransformerMixin, BaseEstimator):
    """Tiles to embeddings that do not react to staining and scanning, learnt from one source.

    Parameters
    ----------
    kind : `linear` or `adapter` on a frozen encoder, or `encoder`, a network trained anew.
    on : the string that loads the frozen encoder, for `linear` and `adapter`.
    plan : for `encoder`: a preset's name, a TOML file, or a CompactionPlan.
    states : for `linear` and `adapter`: states of each tile that the map is fitted to.
    prior : for `linear` and `adapter`: `fitted` to how the slides of the source differ, or `fixed`.
    strength : of a linear map, 0 to 64; None is what left-out slides ask for.
    seed : of everything.
    device, devices : `cpu`, `cuda` or `mps`, None for the best there is; how many of them train an `encoder`.
    workers : processes that read and render tiles; 0 for none.
    batch_size : tiles per forward pass of `transform`, and of fitting a `linear` or `adapter`.
    on_error : `stop`, or `skip` tiles that cannot be read while fitting.
    work : a folder in which an interrupted `fit` finds what it had; None is a temporary one.
    progress : called with what is done, how far, of how much, and figures by name.

    Attributes
    ----------
    encoder_ : the encoder; nothing else is needed at test time.
    card_ : plan, source, manifold, figures on held-out slides: what `compaction.json` holds.
    findings_ : what the guards say of it, in sentences.
    made_ : the whole outcome, a `Trained` or a `FrozenCompaction`; not there after `load`.

    >>> compactor = Compactor("linear", on="toy:random-conv", states=2)
    >>> compactor.fit_transform("phantom:sites=1,tiles_per_site=24,tile_px=48").shape
    (24, 64)
    """

    def __init__(
        self,
        kind: str = "linear",
        *,
        on: str | None = None,
        plan: str | os.PathLike[str] | CompactionPlan = "demo",
        states: int = 4,
        prior: str = "fitted",
        strength: float | None = None,
        seed: int = 0,
        device: str | None = None,
        devices: int = 1,
        workers: int = 0,
        batch_size: int = 64,
        on_error: str = "stop",
        work: str | os.PathLike[str] | None = None,
        progress: Told | None = None,
    ) -> None:
        self.kind = kind
        self.on = on
        self.plan = plan
        self.states = states
        self.prior = prior
        self.strength = strength
        self.seed = seed
        self.device = device
        self.devices = devices
        self.workers = workers
        self.batch_size = batch_size
        self.on_error = on_error
        self.work = work
        self.progress = progress

    def fit(self, X: GivenTiles, y: Iterable[Any] | None = None, *, groups: Iterable[Any] | None = None) -> "Compactor":
        """Learn from tiles of one source.

        `X` is whatever `open_tiles` takes, or uint8 RGB pixels in memory, `(n, h, w, 3)`. For those, `groups` names the
        slide of each tile, and `y` its label, which nothing is fitted to: `card_` says what is left of it.

        Raises
        ------
        OptionError
            If an option is out of range, or `y` or `groups` come with a source that has columns of its own.
        InputError
            If the tiles hold no H&E, or are too few.
        CompactionError
            If training fails, or the embedding is of no use: `findings_` and `card_` say why.
        """
        check_kind(self.kind, self.on)
        with self._folder() as folder:
            self.made_ = self._fit(_open(X, y, groups, folder), folder)
        self.encoder_: Encoder = self.made_.encoder
        self.card_: dict[str, Any] = dict(self.made_.card)
        self.findings_: tuple[Finding, ...] = getattr(self.made_, "findings", ())
        for finding in self.findings_:
            if finding.fatal:
                raise CompactionError(finding.said)
            warnings.warn(finding.said, CompactionWarning, stacklevel=2)
        return self

    def transform(self, X: GivenTiles) -> Vectors:
        """Return the embeddings of tiles, float32 `(n, d)`, in their order.

        Raises
        ------
        InputError
            If a tile cannot be read.
        """
        check_is_fitted(self, "encoder_")
        if not isinstance(X, str | os.PathLike | TileSource):
            return encode(self.encoder_, X, batch_size=self.batch_size)
        with tempfile.TemporaryDirectory() as folder:
            embedded = embed_views(
                open_tiles(X),
                [self.encoder_],
                [Path(folder) / "vectors"],
                batch_size=self.batch_size,
                workers=self.workers,
            )
            return np.array(embedded.stores[0].vectors()[:, 0])

    def get_feature_names_out(self, input_features: object = None) -> np.ndarray:
        """Return a name for each dimension, as scikit-learn asks of what transforms."""
        check_is_fitted(self, "encoder_")
        return np.array([f"compacted{place}" for place in range(self.encoder_.card.dim)], dtype=object)

    def save(self, folder: str | os.PathLike[str], *, overwrite: bool = False) -> Path:
        """Write the encoder and its provenance to a folder: use it as `encoder(folder)`, or `--encoder folder`.

        Raises
        ------
        OutputError
            If the folder exists, and not `overwrite`.
        """
        check_is_fitted(self, "encoder_")
        return save_compaction(self.encoder_, self.card_, Path(folder), overwrite=overwrite)

    @classmethod
    def load(cls, folder: str | os.PathLike[str], *, device: str | None = None) -> "Compactor":
        """Read what `save`, or `histolatent compact`, wrote.

        Raises
        ------
        EncoderError
            If it is no compaction, or the weights are not those of its card.
        """
        card = read_provenance(Path(folder))
        given: dict[str, Any] = {"seed": card.get("seed", 0), "device": device}
        if card["kind"] == "encoder":
            given["plan"] = CompactionPlan.checked(card["plan"], str(folder))
        else:
            options = card["options"]
            given |= {"on": card["on"], "seed": options["seed"], "states": options["states"], "prior": options["prior"]}
        loaded = cls(card["kind"], **given)
        loaded.encoder_ = encoder(os.fspath(folder), device=device)
        loaded.card_ = card
        loaded.findings_ = tuple(Finding(**entry) for entry in card.get("findings", ()))
        return loaded

    @contextlib.contextmanager
    def _folder(self) -> Iterator[Path]:
        if self.work is not None:
            path = Path(self.work)
            path.mkdir(parents=True, exist_ok=True)
            yield path
            return
        with tempfile.TemporaryDirectory(prefix="histolatent-") as made:
            yield Path(made)

    def _fit(self, source: TileSource, folder: Path) -> "FrozenCompaction | Trained":
        common: dict[str, Any] = {"seed": self.seed, "workers": self.workers, "on_error": self.on_error}
        told = self.progress
        if self.kind == "encoder":
            from .run import compact_encoder  # which needs torch and lightning

            plan = self.plan if isinstance(self.plan, CompactionPlan) else CompactionPlan.read(self.plan)
            devices = {"device": self.device, "devices": self.devices}
            return compact_encoder(source, plan, folder / "training", progress=told, **devices, **common)
        from .frozen import compact_frozen

        assert self.on is not None  # the kinds that lie on an encoder
        return compact_frozen(
            source,
            encoder(self.on, device=self.device),
            self.on,
            folder / "vectors",
            kind=self.kind,
            states=self.states,
            prior=self.prior,
            strength=self.strength,
            batch_size=self.batch_size,
            progress=told and (lambda done, total: told("embedding states", done, total, {})),
            **common,
        )


def check_kind(kind: str, on: str | None) -> None:
    """Refuse a kind that does not exist, lacks the encoder that it lies on, or cannot run here.

    Raises
    ------
    OptionError
        If the two do not go together.
    MissingExtraError
        If a package that it needs is not installed.
    """
    if kind not in KINDS:
        raise unknown("kind of compaction", kind, KINDS)
    if (on is None) != (kind == "encoder"):
        raise OptionError(
            "the kinds linear and adapter lie on an encoder, and the kind encoder on none",
            received=kind + (f" on {on}" if on else ""),
            fix="name the encoder to compact (--on ENCODER) for linear and adapter, and none for encoder",
        )
    if kind == "encoder":
        require("lightning_fabric", "compact")


def _open(tiles: GivenTiles, labels: Iterable[Any] | None, groups: Iterable[Any] | None, folder: Path) -> TileSource:
    """Return tiles as a source; pixels in memory are written to `folder`."""
    columns = {"label": labels, "slide": groups}
    given = {name: list(values) for name, values in columns.items() if values is not None}
    if isinstance(tiles, str | os.PathLike | TileSource):
        if given:
            raise OptionError(
                "a source says in its own columns what its tiles are",
                received=" and ".join({"label": "y", "slide": "groups"}[name] for name in given),
                fix="leave them out, or give pixels in memory",
            )
        return open_tiles(tiles)
    pixels = _stacked(tiles)
    for name, values in given.items():
        if len(values) != len(pixels):
            raise InputError("not one value for each tile", received=f"{len(values)} for {len(pixels)} tiles: {name}")
    path = folder / "tiles.npy"
    np.save(path, pixels)
    named = {name: [None if pd.isna(value) else str(value) for value in values] for name, values in given.items()}
    return open_tiles(path, table=pd.DataFrame(named, index=range(len(pixels))))


def _stacked(tiles: np.ndarray | Sequence[np.ndarray]) -> np.ndarray:
    try:
        return np.asarray(tiles)
    except ValueError:
        raise InputError(
            "tiles in memory must be of one size", received="tiles of several", fix="give a folder or a manifest"
        ) from None
