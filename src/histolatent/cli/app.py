"""The `histolatent` command."""

import sys

import typer

from ..errors import HistolatentError
from . import audit, cohort, compare, embed, gate, health, listing, perturb, stain
from .console import error_console

app = typer.Typer(
    name="histolatent",
    help="Audit the latent spaces of histopathology encoders. Research use, not a medical device.",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Start with: [bold]histolatent demo[/bold]",
)
app.command("demo", epilog=health.DEMO_EXAMPLE)(health.demo)
app.command("audit", epilog=audit.EXAMPLE)(audit.audit)
app.command("gate", epilog=gate.EXAMPLE)(gate.gate)
app.command("compare", epilog=compare.EXAMPLE)(compare.compare)
app.add_typer(gate.policy_app, name="policy")
app.command("embed", epilog=embed.EXAMPLE)(embed.embed)
app.command("convert", epilog=embed.CONVERT_EXAMPLE)(embed.convert)
app.command("phantom", epilog=cohort.EXAMPLE)(cohort.phantom)
app.add_typer(stain.app, name="stain")
app.add_typer(perturb.app, name="perturb")
app.command("encoders", epilog=listing.EXAMPLE)(listing.encoders)
app.command("doctor", epilog=health.DOCTOR_EXAMPLE)(health.doctor)


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
        app()
    except HistolatentError as error:
        error_console().print(f"[bold red]error[/bold red]: {_escaped(str(error))}", soft_wrap=True)
        sys.exit(error.exit_code)
    except (KeyboardInterrupt, SystemExit) as stop:
        if isinstance(stop, SystemExit) and stop.code != 130:  # Typer turns Ctrl-C into 130
            raise
        error_console().print(
            "stopped; given again, audit, embed and stain normalize go on where they were", soft_wrap=True
        )
        sys.exit(130)


def _escaped(text: str) -> str:
    from rich.markup import escape

    return escape(text)
