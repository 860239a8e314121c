"""`histolatent data`: cohorts that others have published."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .console import Quiet, console, progress_bar, say

if TYPE_CHECKING:
    from ..images.published import Cohort

app = typer.Typer(
    help="Fetch cohorts that others have published, with a manifest for each.",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)
LIST_EXAMPLE = "Example: histolatent data list midog-plus-plus"
FETCH_EXAMPLE = "Example: histolatent data fetch pathmnist --out pathmnist/ --accept-licence"
VERIFY_EXAMPLE = "Example: histolatent data verify pathmnist/"
MEGABYTE = 10**6
#: What `list` says of one cohort, in this order.
FACTS = (
    "what",
    "home",
    "paper",
    "licence",
    "notice",
    "labels",
    "sites",
    "scanners",
    "patients",
    "good_for",
    "misleads",
)


@app.command("list", epilog=LIST_EXAMPLE)
def list_cohorts(
    name: Annotated[str | None, typer.Argument(help="Say all that is known of one cohort.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON in place of a table.")] = False,
) -> None:
    """List the cohorts that can be fetched, with size, licence and what they say of each tile."""
    from ..images.published import cohorts, find_cohort
    from ..provenance import canonical_json

    found = [find_cohort(name)] if name is not None else cohorts()
    if json:
        typer.echo(canonical_json([cohort.model_dump(mode="json") for cohort in found]))
    elif name is not None:
        _show(found[0])
    else:
        _show_table(found)


@app.command("fetch", epilog=FETCH_EXAMPLE)
def fetch(
    name: Annotated[str, typer.Argument(help="Which cohort. See: histolatent data list.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the cohort. Given again, it is completed.")],
    only: Annotated[
        list[str] | None,
        typer.Option("--only", metavar="FILE", help="A file, or a pattern as 'images/tumor_00*'. Repeatable."),
    ] = None,
    mirror: Annotated[
        str | None, typer.Option(metavar="URL", help="Another host that has the same files at the same paths.")
    ] = None,
    accept_licence: Annotated[
        bool, typer.Option("--accept-licence", help="You have read the licence that is shown, and accept it.")
    ] = False,
    quiet: Quiet = False,
) -> None:
    """Download a cohort, check it, unpack it and write its manifest. An interrupted fetch goes on where it stopped."""
    from ..images.published import arrange_cohort, download_cohort, find_cohort
    from ..images.published.fetch import refuse_licence

    cohort = find_cohort(name)
    say(f"{cohort.title}: {cohort.what}\nLicence: {cohort.licence}. {cohort.notice}\n{cohort.home}")
    accepted = accept_licence or (on_terminal() and typer.confirm("Do you accept it?"))
    if not accepted:
        refuse_licence(cohort)
    # The client of the hub draws a bar of its own.
    with progress_bar("downloading", quiet=quiet or cohort.hub is not None, unit="MB") as bar:
        download_cohort(
            name,
            out,
            only=only or (),
            mirror=mirror,
            accept_licence=True,
            progress=lambda done, total: bar(done // MEGABYTE, total // MEGABYTE),
        )
    with progress_bar("arranging", quiet=quiet) as bar:
        card = arrange_cohort(out, progress=lambda count: bar(count, count))
    unchecked = sum(not file.published for file in card.files.values())
    if unchecked:
        say(
            f"For {unchecked} of {len(card.files)} files no checksum is published: what came is recorded, and compared "
            "from then on."
        )
    say(f"{out}: {card.tiles} rows in manifest.csv, {len(card.files)} published files, card.json")


@app.command("verify", epilog=VERIFY_EXAMPLE)
def verify(
    folder: Annotated[Path, typer.Argument(help="A folder that histolatent data fetch wrote.")],
    json: Annotated[bool, typer.Option("--json", help="Print JSON in place of lines.")] = False,
    quiet: Quiet = False,
) -> None:
    """Compare a fetched cohort with its card. Exit code 1 if anything is missing or changed."""
    from ..images.published import verify_cohort
    from ..provenance import canonical_json

    with progress_bar("reading", quiet=quiet, unit="files") as progress:
        found = verify_cohort(folder, progress=progress)
    if json:
        typer.echo(canonical_json(found.to_dict()))
    else:
        for state, names in (("missing", found.missing), ("changed", found.changed)):
            for name in names:
                say(f"{state}: {name}")
        say(
            f"{folder}: {found.cohort}, {found.checked} files, {'all as they came' if found.ok else 'NOT as they came'}"
        )
    if not found.ok:
        raise typer.Exit(1)


def on_terminal() -> bool:
    """Whether somebody can be asked."""
    return sys.stdin.isatty()


def _show(cohort: "Cohort") -> None:
    say(f"{cohort.name}: {cohort.title}")
    for fact in FACTS:
        say(f"  {fact.replace('_', ' '):9s} {getattr(cohort, fact) or 'none published'}")
    say(f"  {'size':9s} {_size(cohort.bytes)}")
    files = cohort.listed()
    for file in files[:12]:
        marks = [*file.checksums, *(["only where it is named"] if file.optional else [])]
        say(f"  file      {file.name}{f', {_size(file.bytes)}' if file.bytes else ''}{_bracketed(marks)}")
    if len(files) > 12:
        say(f"  file      and {len(files) - 12} more")
    if cohort.index is not None:
        patterns = ", ".join((*cohort.index.files, *cohort.index.always))
        say(f"  file      {patterns}, as {cohort.index.address} lists them")


def _show_table(found: "list[Cohort]") -> None:
    from rich.table import Table

    table = Table(title="Published cohorts")
    table.add_column("name", no_wrap=True)  # to be copied
    for heading in ("size", "licence", "says of each tile"):
        table.add_column(heading, overflow="fold")
    for one in found:
        known = {"label": one.labels, "site": one.sites, "scanner": one.scanners, "patient or slide": one.patients}
        table.add_row(one.name, _size(one.bytes), one.licence, ", ".join(word for word, fact in known.items() if fact))
    console().print(table)
    say("More of one: histolatent data list NAME. Licences with NC forbid commercial use.")


def _size(count: int | None) -> str:
    if count is None:
        return "not known"
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count} bytes"


def _bracketed(words: list[str]) -> str:
    return f" ({', '.join(words)})" if words else ""
