"""`histolatent compact`."""

import contextlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import OptionError
from .console import (
    AllowOutside,
    Columns,
    Device,
    OnError,
    Overwrite,
    Quiet,
    Restart,
    Source,
    TileMpp,
    TilePx,
    Tissue,
    Workers,
    asked_cut,
    error_console,
    open_source,
    parse_columns,
    progress_bar,
    say,
    training_bars,
    training_workers,
    worker_count,
)

if TYPE_CHECKING:
    from ..compact.guards import Finding
    from ..compact.plan import CompactionPlan
    from ..images import TileSource

EXAMPLE = "Example: histolatent compact tiles/ --kind linear --on phikon --out lmc/"


def compact(
    src: Source,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of the encoder: use it as --encoder afterwards.")],
    kind: Annotated[
        str | None,
        typer.Option(
            help="linear or adapter (on a frozen encoder), or encoder (trained anew). Default: linear with --on."
        ),
    ] = None,
    on: Annotated[
        str | None, typer.Option("--on", help="The frozen encoder to compact. See: histolatent encoders.")
    ] = None,
    plan: Annotated[
        str | None, typer.Option(help="For --kind encoder: a preset (demo, small, wsi) or a TOML file. Default: demo.")
    ] = None,
    change: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="Change the plan: --set training.steps=4000. Repeatable."),
    ] = None,
    backbone: Annotated[
        str | None,
        typer.Option(
            metavar="conv-small|timm:NAME", help="For --kind encoder: the network to train. Default: the plan's."
        ),
    ] = None,
    states: Annotated[
        int | None, typer.Option(min=1, help="With --on: states per tile that the map is fitted to. Default: 4.")
    ] = None,
    strength: Annotated[
        float | None, typer.Option(help="Strength of a linear map, 0 to 64. Default: what left-out slides ask for.")
    ] = None,
    prior: Annotated[
        str | None,
        typer.Option(metavar="fitted|fixed", help="With --on: where states come from. Default: fitted to the slides."),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="The seed of everything.")] = 0,
    column: Columns = None,
    tile_px: TilePx = None,
    tile_mpp: TileMpp = None,
    tissue: Tissue = None,
    batch_size: Annotated[
        int | None, typer.Option(min=1, help="With --on: tiles per forward pass. Default: 64.")
    ] = None,
    workers: Workers = None,
    device: Device = None,
    devices: Annotated[
        int | None, typer.Option(min=1, help="For --kind encoder: devices of that kind to train on. Default: 1.")
    ] = None,
    tensorboard: Annotated[
        Path | None,
        typer.Option(help="For --kind encoder: a folder for TensorBoard, written while training goes on."),
    ] = None,
    on_error: OnError = "stop",
    overwrite: Overwrite = False,
    restart: Restart = False,
    allow_outside: AllowOutside = False,
    quiet: Quiet = False,
) -> None:
    """Learn an embedding that does not react to staining and scanning, from one source. No target data is used."""
    from ..compact.compactor import check_kind
    from ..compact.plan import CompactionPlan
    from ..encoders.folder import CONFIG, FORMAT
    from ..images import input_files
    from ..outputs import Mark, refuse_existing, refuse_inputs

    kind = kind or ("linear" if on else "encoder")
    check_kind(kind, on)
    frozen = {"--states": states, "--strength": strength, "--prior": prior, "--batch-size": batch_size}
    trained = {"--plan": plan, "--set": change, "--backbone": backbone, "--devices": devices}
    trained["--tensorboard"] = tensorboard
    for option, value in (trained if on else frozen).items():
        if value not in (None, []):
            raise OptionError(f"{option} is not for --kind {kind}", received=value, fix="leave it out")
    refuse_existing(out, overwrite=overwrite, mark=Mark(CONFIG, FORMAT, "format"))
    source = open_source(
        src, parse_columns(column), asked_cut(tile_px, tile_mpp, tissue), allow_outside=allow_outside, quiet=quiet
    )
    refuse_inputs(out, input_files(source))
    common: dict[str, Any] = {"workers": worker_count(workers), "on_error": on_error, "restart": restart}
    if on is not None:
        if Path(on).is_dir() and out.resolve().is_relative_to(Path(on).resolve()):
            raise OptionError(
                "the output lies in the encoder that it is put on", received=out, fix="choose another path"
            )
        given = {"states": states, "prior": prior, "strength": strength, "batch_size": batch_size}
        options = {key: value for key, value in given.items() if value is not None}
        _frozen(source, on, out, device, overwrite, quiet, {"kind": kind, **options, **common, "seed": seed})
    else:
        common["workers"] = training_workers(workers)
        given = {**common, "seed": seed, "device": device, "devices": devices or 1}
        wanted = CompactionPlan.read(plan or "demo").changed(**parse_changes(change or []))
        wanted = wanted.changed(backbone=backbone) if backbone else wanted
        train_encoder(source, wanted, out, tensorboard=tensorboard, overwrite=overwrite, quiet=quiet, options=given)


def _frozen(
    source: "TileSource",
    on: str,
    out: Path,
    device: str | None,
    overwrite: bool,
    quiet: bool,
    options: Mapping[str, Any],
) -> None:
    from ..compact.frozen import MAX_TILES, compact_frozen
    from ..compact.saving import save_compaction
    from ..encoders import encoder
    from ..encoders.mapped import runs_code
    from ..outputs import remove

    base = encoder(on, device=device)
    with progress_bar(f"embedding states with {base.card.name}", quiet=quiet) as progress:
        made = compact_frozen(source, base, on, out, progress=progress, **options)
    save_compaction(made.encoder, made.card, out, overwrite=overwrite)
    remove(out.with_name(out.name + ".partial"))
    before, after, kept = made.before, made.after, made.kept
    if options["kind"] == "linear":
        say(
            f"strength {after.strength:g}"
            + ("" if "strength" in options else f", chosen by leaving out each {made.by}")
        )
    if len(source.table) > MAX_TILES:
        say(f"fitted to {MAX_TILES:,} of {len(source.table):,} tiles, drawn by the seed")
    say(f"on {made.by}s that the map was not fitted to, under wider states:")
    say(f"  twin retrieval    {before.twin_top1:.3f} -> {after.twin_top1:.3f}")
    say(f"  compaction ratio  {before.ratio:.3f} -> {after.ratio:.3f}")
    say(f"  effective rank    {before.rank:.1f} -> {after.rank:.1f}")
    if kept is not None:
        say(f"label on the source, by probes of left-out {made.by}s: {kept.before:.3f} -> {kept.after:.3f}")
        say(f"  by the probe of before, not trained again: {kept.unchanged:.3f}")
    if options["kind"] == "linear" and after.strength == 0:
        say("twin retrieval has nothing to gain: the encoder is as it was")
    trust = "?trust_base=yes" if runs_code(on) else ""
    say(f"{out}: use it as --encoder {out}{trust}")


def train_encoder(
    source: "TileSource",
    plan: "CompactionPlan",
    out: Path,
    *,
    tensorboard: Path | None = None,
    overwrite: bool = False,
    quiet: bool = False,
    options: Mapping[str, Any],
) -> None:
    """Train, write the encoder's folder, say what became of it.

    One that is of no use is written to a folder named `.failed`, so that none that is in use goes; then it ends with 1.
    """
    from ..compact.guards import fatal
    from ..compact.logs import TensorBoardLog
    from ..compact.run import compact_encoder
    from ..compact.saving import save_compaction
    from ..outputs import remove
    from ..report.training import write_training

    work = out.with_name(out.name + ".training")
    first = os.environ.get("RANK", "0") == "0"  # torchrun numbers the processes that it starts
    with contextlib.ExitStack() as open_until_trained:
        told = [open_until_trained.enter_context(training_bars(plan.backbone, said_of_check, quiet=quiet or not first))]
        if tensorboard and first:
            told.append(open_until_trained.enter_context(TensorBoardLog(tensorboard)))

        def progress(*what: Any) -> None:
            for tell in told:
                tell(*what)

        made = compact_encoder(source, plan, work, progress=progress, **options)
    if not first:
        return

    useless = fatal(made.findings)
    place = out.with_name(out.name + ".failed") if useless else out
    save_compaction(
        made.encoder,
        made.card,
        place,
        overwrite=overwrite or useless,
        beside=lambda folder: write_training(made, folder),
    )
    remove(work)
    seen = [made.card["before"], made.card["trained"], *([made.card["after"]] if plan.has_last_map else [])]
    names = ("before training", "trained", "with its last map")
    say("under wider states, on held-out slides: " + ", ".join(names[: len(seen)]))
    say("  twin retrieval    " + " -> ".join(f"{each['twin_top1']:.3f}" for each in seen))
    say("  compaction ratio  " + " -> ".join(f"{each['ratio']:.3f}" for each in seen))
    say("  effective rank    " + " -> ".join(f"{each['rank']:.1f}" for each in seen))
    if useless:
        say(f"{place}: what was trained is of no use; {place / 'training.html'} shows how it went")
    else:
        say(f"{out}: use it as --encoder {out}; {out / 'training.html'} shows how it was trained")
    _tell(made.findings)
    if useless:
        raise typer.Exit(1)


def said_of_check(step: int, found: Mapping[str, float]) -> str:
    """Return the line for what a check of a compaction found."""
    return (
        f"step {step}: twin retrieval {found['twin_top1']:.3f}, compaction ratio {found['ratio']:.3f}, "
        f"effective rank {found['rank']:.1f}"
    )


def _tell(findings: "tuple[Finding, ...]") -> None:
    """Print what the guards say."""
    for finding in findings:
        style = "bold red" if finding.fatal else "yellow"
        error_console().print(f"[{style}]{finding.guard}[/{style}]: ", end="")
        error_console().print(finding.said, soft_wrap=True, markup=False)


def parse_changes(pairs: list[str]) -> dict[str, Any]:
    """Turn `training.steps=4000` into names and values, as TOML has them; a bare word is text."""
    import tomllib

    changes: dict[str, Any] = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        if not (name and equals and text):
            raise OptionError("a change of the plan is NAME=VALUE", received=pair, fix="--set training.steps=4000")
        try:
            changes[name] = tomllib.loads(f"value = {text}")["value"]
        except tomllib.TOMLDecodeError:
            changes[name] = text
    return changes
