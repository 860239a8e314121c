"""`histolatent gate` and `histolatent policy`."""

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from ..errors import InputError
from .console import STATUS_COLOURS, console, printable, say

EXAMPLE = "Example: histolatent gate audit/ --policy second-site --junit gate.xml"
SHOW_EXAMPLE = "Example: histolatent policy show second-site > policy.toml"
CHECK_EXAMPLE = "Example: histolatent policy check policy.toml"
WIDE = 150
SYMBOLS = {True: "meets", False: "does not meet"}

policy_app = typer.Typer(
    name="policy",
    help="Policies: what is asked of an encoder, as a TOML file.",
    no_args_is_help=True,
)


def gate(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder that histolatent audit wrote.")],
    policy: Annotated[
        str | None,
        typer.Option(metavar="FILE|NAME", help="policy.toml, or second-site. Default: the policy of the audit."),
    ] = None,
    encoder: Annotated[
        list[str] | None,
        typer.Option("--encoder", "-e", help="Judge this one only. Repeatable. Default: all but baselines."),
    ] = None,
    junit: Annotated[Path | None, typer.Option(metavar="FILE", help="Write the answers as JUnit XML too.")] = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="Print the line of the outcome only.")] = False,
) -> None:
    """Judge the figures of an audit by a policy. Ends with 0 if every encoder meets it, with 1 if one does not.

    Nothing is embedded again. Ends with 2 where it cannot be judged.
    """
    from ..audit import read_policy
    from ..audit.gate import gate as judge
    from ..audit.gate import own_policy
    from ..audit.words import counted
    from ..report.junit import junit_xml, write_junit
    from .perturb import note_plugins

    note_plugins()
    asked = None if policy is None else read_policy(policy)
    result = read_audit(folder)
    asked = own_policy(result) if asked is None else asked
    gated = judge(result, asked, encoder or ())
    if junit is not None:
        write_junit(junit_xml(result, asked, gated), junit)
    if not quiet:
        for item in gated:
            _print_answers(item, asked)
    failed = [item.encoder.name for item in gated if not item.met]
    count = f"{len(gated) - len(failed)} of {counted(len(gated), 'encoder')}"
    outcome = f"{'FAIL' if failed else 'PASS'}: {count} meet{'s' * (len(gated) == 1)} the policy {asked.title!r}"
    let = let_through(gated)
    more = f"; not {', '.join(failed)}" if failed else f" ({let} let through)" if let else ""
    say(printable(outcome + more))
    if failed:
        raise typer.Exit(1)


def _print_answers(item, policy) -> None:
    from rich.table import Table
    from rich.text import Text

    encoder = item.encoder
    title = f"{encoder.name}{' (baseline)' if encoder.baseline else ''}, policy {policy.title!r}"
    table = Table(title=Text(printable(title)), title_justify="left")
    table.add_column("question", overflow="fold", min_width=20)
    table.add_column("answer", no_wrap=True)
    table.add_column("figure", overflow="fold", min_width=10)
    table.add_column("threshold", overflow="fold")
    for check in encoder.checks:
        status = Text(check.status, STATUS_COLOURS[check.status])
        table.add_row(Text(printable(check.name)), status, Text(shown(check.figure)), Text(check.threshold or ""))
    wide_console().print(table)
    said = "; ".join(f"{family.family} {family.status}" for family in encoder.families)
    say(printable(f"families: {said}"))
    for check in item.refused:
        say(printable(f"{check.status} {check.name}: {check.sentence}"))
    let = let_through([item])
    say(
        printable(f"{encoder.name} {SYMBOLS[item.met]} the policy" + (f"; it lets {let} through" if let else "") + "\n")
    )


def let_through(gated) -> str:
    """Return how many answers that are no PASS a policy lets through: `3 WARN and 1 UNDEFINED`."""
    let = [check.status for item in gated for check in item.encoder.checks if check not in item.refused]
    counts = {status: let.count(status) for status in ("WARN", "UNDEFINED")}
    return " and ".join(f"{count} {status}" for status, count in counts.items() if count)


def wide_console():
    """Return a console for tables. A log has no width: it gets a wide one, unless COLUMNS says otherwise."""
    return console(None if sys.stdout.isatty() or os.environ.get("COLUMNS") else WIDE)


def shown(figure, digits: str = ".3f") -> str:
    """Return a figure with its interval, empty where there is none."""
    if figure is None or figure.value is None:
        return ""
    if figure.low is None or figure.high is None:
        return f"{figure.value:{digits}}"
    return f"{figure.value:{digits}} [{figure.low:{digits}}, {figure.high:{digits}}]"


def read_audit(folder: Path):
    """Read the audit in a folder; every error names the place and says what to do."""
    from ..report import read_result

    try:
        return read_result(folder)
    except InputError as error:
        received = str(folder) if error.received in (None, folder) else f"{error.received} in {folder}"
        fix = error.fix or "name a folder that histolatent audit of this version has written, or run it again"
        raise InputError(error.what, received=received, valid=error.valid, fix=fix) from None
    except OSError as error:
        raise InputError(f"audit.json cannot be read ({error.strerror})", received=folder) from None


@policy_app.command("show", epilog=SHOW_EXAMPLE)
def show(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A policy that comes with histolatent.")] = "second-site",
) -> None:
    """Print a policy that comes with histolatent, as the TOML that you may copy and change."""
    from ..audit.policy import policy_text

    typer.echo(policy_text(name), nl=False)


@policy_app.command("check", epilog=CHECK_EXAMPLE)
def check(
    policy: Annotated[str, typer.Argument(metavar="FILE|NAME", help="policy.toml, or second-site.")],
) -> None:
    """Read a policy, and say in words what it asks. Ends with 2 at a mistake, which is named with its place."""
    from ..audit import read_policy
    from .perturb import note_plugins

    note_plugins()
    found = read_policy(policy)
    say(
        printable(f"{found.title!r}: nuisances at severity {found.severity}, must-react at {found.must_react_severity}")
    )
    bands = {"ignore": found.ignore, **{f"ignore, {name}": band for name, band in found.families.items()}}
    bands |= {f"ignore, {name}": band for name, band in found.operations.items()}
    bands |= {"react": found.react, "react_each": found.react_each}
    for name, band in bands.items():
        say(f"{name}: PASS from {band.pass_at:g}, FAIL below {band.fail_below:g}")
    for asked in found.require:
        why = f" ({asked.why})" if asked.why else ""
        say(printable(f"require {asked.describe()} {asked.side}{why}"))
    but = f", but refuses it in {', '.join(found.refuse_warn)}" if found.warn == "allow" and found.refuse_warn else ""
    say(f"WARN: {found.warn}{but}; UNDEFINED: {found.undefined}")
