"""What the commands share: consoles, progress, options that mean the same everywhere."""

import contextlib
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from ..errors import OptionError

if TYPE_CHECKING:
    from ..images import Cut, TileSource

STATUS_COLOURS = {"PASS": "green", "WARN": "yellow", "FAIL": "bold red", "UNDEFINED": "dim"}

Source = Annotated[
    str,
    typer.Argument(
        help="Folder, manifest (.csv, .tsv, .parquet), array (.npy, .h5), 'phantom', or with --tile-px a slide."
    ),
]
Columns = Annotated[
    list[str] | None,
    typer.Option(
        "--column", metavar="KNOWN=YOURS", help="Name a column of yours: --column label=diagnosis. Repeatable."
    ),
]
Label = Annotated[str | None, typer.Option(help="Column of the label: what the encoder should keep.")]
Site = Annotated[str | None, typer.Option(help="Column of the site: what it should not show.")]
Group = Annotated[
    str | None,
    typer.Option(help="Column of the patient: what belongs together. Default: patient, else slide, if there is one."),
]
Workers = Annotated[
    int | None,
    typer.Option(min=0, help="Processes that prepare tiles; 0 does it in this one. Default: one a core, at most 8."),
]
BatchSize = Annotated[int, typer.Option(min=1, help="Tiles per forward pass.")]
OnError = Annotated[
    str,
    typer.Option(
        metavar="stop|skip", help="What to do at a tile that cannot be read; skipped ones are listed in the card."
    ),
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace the output if it exists.")]
Restart = Annotated[bool, typer.Option("--restart", help="Drop what an interrupted run left, and start anew.")]
AllowOutside = Annotated[
    bool, typer.Option("--allow-outside", help="Let the manifest name files outside its own folder.")
]
TilePx = Annotated[
    int | None,
    typer.Option("--tile-px", min=1, help="Cut larger images and slides into tiles of so many pixels a side."),
]
TileMpp = Annotated[
    float | None,
    typer.Option("--tile-mpp", help="Micrometres per pixel of the tiles that are cut. Default: as the file has them."),
]
Tissue = Annotated[
    float | None,
    typer.Option(
        "--tissue", help="Least share of tissue in a tile that is cut, 0 to 1. Default: 0.25 of a slide, 0 of an image."
    ),
]
Device = Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1, mps. Default: the best there is.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="No progress bar.")]


def console(width: int | None = None) -> Console:
    """Return the console for results (standard output), as wide as its terminal unless told."""
    return Console(highlight=False, emoji=False, width=width)


def error_console() -> Console:
    """Return the console for progress and errors (standard error)."""
    return Console(stderr=True, highlight=False, emoji=False)


def say(text: str) -> None:
    """Print a line of the result as it is: not wrapped, and no brackets in a path read as markup."""
    console().print(text, soft_wrap=True, markup=False)


@contextlib.contextmanager
def progress_bar(text: str, *, quiet: bool = False, unit: str = "tiles") -> Iterator[Callable[[int, int], None]]:
    """Yield a callback `(done, total)` that draws a progress bar with rate and time left."""
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    bar = Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn(unit + ","),
        TimeElapsedColumn(),
        TextColumn("gone,"),
        TimeRemainingColumn(),
        TextColumn("left"),
        console=error_console(),
        disable=quiet,
    )
    with bar:
        task = bar.add_task(text, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def cells_told(doing: str, *, quiet: bool) -> Callable[[str, int, int], None]:
    """Return a callback `(what, done, total)` that says how far a run of cells is, and how long the rest may take."""
    begun = time.monotonic()
    before: int | None = None

    def told(what: str, done: int, total: int) -> None:
        nonlocal before
        before = done if before is None else before
        said = [f"{done} of {total} done"]
        if done < total:
            said += [f"{doing}: {what}"]
        if before < done < total:
            minutes = (time.monotonic() - begun) / (done - before) * (total - done) / 60
            said += [f"about {minutes:.0f} minutes left" if minutes >= 1.5 else "about a minute left"]
        if not quiet:
            error_console().print("; ".join(said))

    return told


#: What a training says that it does, and what is counted meanwhile.
STAGES = {
    "reading tiles": "tiles",
    "embedding tiles": "tiles",
    "embedding states": "tiles",
    "training": "steps",
}


@contextlib.contextmanager
def training_bars(
    name: str, said: Callable[[int, Mapping[str, float]], str], *, quiet: bool
) -> Iterator[Callable[..., None]]:
    """Yield what a training tells its progress to: a bar for each stage, and what is `said` of each check."""
    with contextlib.ExitStack() as bars:
        open_bars: dict[str, Callable[[int, int], None]] = {}

        def told(what: str, done: int, total: int, values: Mapping[str, float]) -> None:
            if what in STAGES:
                if what not in open_bars:
                    bars.close()
                    title = f"training {name}" if what == "training" else what
                    open_bars[what] = bars.enter_context(progress_bar(title, quiet=quiet, unit=STAGES[what]))
                open_bars[what](done, total)
            elif not quiet:
                error_console().print(said(done, values))

        yield told


def parse_columns(pairs: list[str] | None, **named: str | None) -> dict[str, str]:
    """Turn `label=diagnosis` into a mapping from the known name to the user's; `named` are those with an option."""
    columns: dict[str, str] = {}
    for pair in pairs or []:
        known, equals, theirs = pair.partition("=")
        if not (known and equals and theirs):
            raise OptionError("a column is named as KNOWN=YOURS", received=pair, fix="--column label=diagnosis")
        columns[known] = theirs
    return columns | {known: theirs for known, theirs in named.items() if theirs is not None}


def asked_cut(tile_px: int | None, tile_mpp: float | None, tissue: float | None) -> "Cut | None":
    """Return how tiles are to be cut, None where they are not."""
    from ..images import Cut

    if tile_px is not None:
        return Cut(tile_px, tile_mpp, tissue)
    for option, value in (("--tile-mpp", tile_mpp), ("--tissue", tissue)):
        if value is not None:
            raise OptionError(f"{option} says how tiles are cut, and none are", fix=f"{option} with --tile-px")
    return None


def open_source(
    src: str, columns: dict[str, str], cut: "Cut | None", *, allow_outside: bool, quiet: bool
) -> "TileSource":
    """Open tiles; with `cut` those that are cut from larger images and slides, which may take a while."""
    from ..images import TileWarning, open_tiles

    if cut is None:
        return open_tiles(src, columns=columns, allow_outside=allow_outside)
    with progress_bar("cutting", quiet=quiet, unit="files") as progress, warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always", TileWarning)
        source = open_tiles(src, columns=columns, allow_outside=allow_outside, cut=cut, progress=progress)
    for warning in said:
        error_console().print(f"note: {warning.message}", soft_wrap=True, markup=False)
    return source


def worker_count(workers: int | None) -> int:
    """Return the number of workers asked for, or the default."""
    from ..images import default_workers

    return default_workers() if workers is None else workers


def training_workers(workers: int | None) -> int:
    """Return the number of workers asked for, or one less than there are cores: the process that trains works too."""
    return max(1, worker_count(None) - 1) if workers is None else workers


def printable(text: str) -> str:
    """Return the text with control characters written out: names come from files, and a terminal obeys them."""
    return "".join(
        letter if letter.isprintable() or letter == "\n" else letter.encode("unicode_escape").decode("ascii")
        for letter in text
    )
