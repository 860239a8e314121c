"""The `histolatent` command."""

import contextlib
import signal
import sys
import threading
from collections.abc import Iterator
from types import FrameType

import typer

from ..errors import HistolatentError
from . import (
    ablate,
    audit,
    benchmark,
    cohort,
    compact,
    compare,
    data,
    demo,
    embed,
    explore,
    export,
    gate,
    health,
    listing,
    pairs,
    perturb,
    stain,
)
from .console import error_console

#: What a shell says of a process that Ctrl-C, or SIGTERM, has ended.
INTERRUPTED, TERMINATED = 130, 143

app = typer.Typer(
    name="histolatent",
    help="Audit the latent spaces of histopathology encoders. Research use, not a medical device.",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Start with: [bold]histolatent demo[/bold]",
)
app.command("demo", epilog=demo.EXAMPLE)(demo.demo)
app.command("audit", epilog=audit.EXAMPLE)(audit.audit)
app.command("compact", epilog=compact.EXAMPLE)(compact.compact)
app.command("ablate", epilog=ablate.EXAMPLE)(ablate.ablate)
app.command("benchmark", epilog=benchmark.EXAMPLE)(benchmark.benchmark)
app.command("pairs", epilog=pairs.EXAMPLE)(pairs.pairs)
app.command("gate", epilog=gate.EXAMPLE)(gate.gate)
app.command("compare", epilog=compare.EXAMPLE)(compare.compare)
app.add_typer(gate.policy_app, name="policy")
app.command("embed", epilog=embed.EXAMPLE)(embed.embed)
app.command("export", epilog=export.EXAMPLE)(export.export)
app.command("convert", epilog=embed.CONVERT_EXAMPLE)(embed.convert)
app.command("phantom", epilog=cohort.EXAMPLE)(cohort.phantom)
app.add_typer(data.app, name="data")
app.add_typer(stain.app, name="stain")
app.add_typer(perturb.app, name="perturb")
app.add_typer(explore.app, name="explore")
app.command("encoders", epilog=listing.EXAMPLE)(listing.encoders)
app.command("doctor", epilog=health.EXAMPLE)(health.doctor)


def _show_version(value: bool) -> bool:
    if value:
        from ..provenance import version

        typer.echo(version())
        raise typer.Exit
    return value


@app.callback()
def _root(
    version: bool = typer.Option(
        False, "--version", help="Print the version and stop.", callback=_show_version, is_eager=True
    ),
) -> None:
    pass


def main() -> None:
    """Run the command; an expected error is printed without a traceback, and ends with code 2."""
    try:
        with _termination_as_exit():
            app()
    except HistolatentError as error:
        error_console().print(f"[bold red]error[/bold red]: {_escaped(str(error))}", soft_wrap=True)
        sys.exit(error.exit_code)
    except (KeyboardInterrupt, SystemExit) as stop:
        code = stop.code if isinstance(stop, SystemExit) else INTERRUPTED  # Typer turns Ctrl-C into an exit with 130
        if code not in (INTERRUPTED, TERMINATED):
            raise
        error_console().print(
            "stopped; given again, audit, benchmark, compact, data fetch, embed, explore train and stain normalize "
            "go on where they were",
            soft_wrap=True,
        )
        sys.exit(code)


@contextlib.contextmanager
def _termination_as_exit() -> Iterator[None]:
    """Turn SIGTERM into SystemExit, so that worker processes are ended and what is half-written is put away.

    A handler that somebody else has set stays.
    """
    ours = threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    if ours:
        signal.signal(signal.SIGTERM, _exit)
    try:
        yield
    finally:
        if ours:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _exit(number: int, frame: FrameType | None) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # a second one is not to break off what the first one began
    raise SystemExit(TERMINATED)


def _escaped(text: str) -> str:
    from rich.markup import escape

    return escape(text)
