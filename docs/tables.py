"""Fill tables of the documentation from the registries, so that a page cannot say something else than the code.

MkDocs calls `on_page_markdown` for each page. A line `<!-- table: NAME -->` becomes the table NAME of `TABLES`.
"""

import json
import math
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "benchmarks" / "results"
MARK = re.compile(r"^<!-- table: ([a-z-]+) -->$", re.MULTILINE)


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Replace every mark of a page."""
    return MARK.sub(lambda found: TABLES[found[1]](), markdown)


def operations() -> str:
    """Return every perturbation with its levels."""
    from histolatent.perturb import OPERATIONS

    rows = [
        (
            f"`{operation.name}`",
            operation.family,
            operation.role,
            operation.parameter + (f", {operation.unit}" if operation.unit else ""),
            ", ".join(f"{level:g}" for level in operation.levels) if operation.graded else "five variants",
            operation.describes,
            operation.misleads,
        )
        for operation in OPERATIONS.values()
    ]
    return _table(("name", "family", "role", "parameter", "severity 1 to 5", "what it does", "when it misleads"), rows)


def cards() -> str:
    """Return a card for every perturbation that comes with histolatent, by family."""
    from histolatent.perturb import OPERATIONS

    parts: list[str] = []
    for family in dict.fromkeys(operation.family for operation in OPERATIONS.values()):
        parts.append(f"## {family.capitalize()}")
        parts += [_card(operation) for operation in OPERATIONS.values() if operation.family == family]
    return "\n\n".join(parts)


def _card(operation: Any) -> str:
    unit = f", {operation.unit}" if operation.unit and operation.graded else ""
    suites = [f"`{name}`" for name, names in _suites().items() if operation.name in names]
    facts = [
        ("Role", operation.role),
        ("Severity 1 to 5", ", ".join(f"{level:g}" for level in operation.levels)),
        ("Level", f"{operation.parameter}{unit}" if operation.graded else f"{operation.parameter}: five variants"),
    ]
    if operation.graded:
        facts.append(("Levels that you may set", f"{operation.limits[0]:g} to {operation.limits[1]:g}{unit}"))
    facts += [
        ("When it misleads", operation.misleads),
        ("Read it against", f"`{operation.control}`" if operation.control else ""),
        ("In suites", ", ".join(suites)),
        ("From", operation.reference),
    ]
    text = operation.describes[0].upper() + operation.describes[1:]
    return f"### `{operation.name}`\n\n{text}.\n\n" + _table(("", ""), [fact for fact in facts if fact[1]])


def _suites() -> Any:
    from histolatent.perturb import SUITES

    return SUITES


def scanners() -> str:
    """Return the named virtual scanners."""
    from histolatent.perturb import SCANNERS

    rows = [
        (
            f"`{name}`",
            f"{scanner.blur_um:g}",
            f"{max(abs(share) for i, row in enumerate(scanner.colours) for j, share in enumerate(row) if i != j):g}",
            " / ".join(f"{level:g}" for level in scanner.light),
            f"{scanner.noise_levels:g}",
            f"{scanner.gamma:g}",
            scanner.jpeg_quality,
        )
        for name, scanner in SCANNERS.items()
    ]
    head = (
        "scanner",
        "blur, um",
        "largest cross-talk",
        "light, R / G / B",
        "noise, levels",
        "gamma",
        "JPEG",
    )
    return _table(head, rows)


def suites() -> str:
    """Return every suite with its operations."""
    from histolatent.perturb import SUITES

    rows = [(f"`{name}`", ", ".join(f"`{item}`" for item in items)) for name, items in SUITES.items()]
    return _table(("suite", "operations"), rows)


DISPLACEMENT = ("displacement", "displacement_euclidean", "auroc_null", "twin_rank", "twin_top1", "cosine_distance")


def displacement() -> str:
    """Return the figures that are built on the distance of unrelated tiles."""
    return _metrics(DISPLACEMENT)


def metrics() -> str:
    """Return every figure of an audit with what a reader has to know."""
    from histolatent.audit import METRICS

    return _metrics(tuple(METRICS))


def figures() -> str:
    """Return a card for every figure of an audit."""
    from histolatent.audit import METRICS

    parts = []
    for metric in METRICS.values():
        facts = [
            ("Better", metric.better if metric.better != "neither" else "neither: it depends on what is read"),
            ("Range", f"{_bound(metric.range[0])} to {_bound(metric.range[1])}"),
            ("Chance", "" if metric.chance is None else f"{metric.chance:g}"),
            ("When it misleads", metric.misleads),
            ("From", metric.reference),
        ]
        text = metric.describes[0].upper() + metric.describes[1:]
        head = f"## `{metric.name}`\n\n{metric.title[0].upper()}{metric.title[1:]}. {text}.\n\n"
        parts.append(head + _table(("", ""), [fact for fact in facts if fact[1]]))
    return "\n\n".join(parts)


def calibration() -> str:
    """Return how often intervals exclude chance where nothing is true, from the benchmark of the audit."""
    found = _results("audit")["measured"]["calibration"]
    rows = [
        (item["what"], item["figure"], f"{item['share']:.1%}".replace("%", " %"), item["by"]) for item in found["cases"]
    ]
    return _table(("what is dealt by chance", "figure", "called different from chance", "by"), rows)


def _metrics(names: Sequence[str]) -> str:
    from histolatent.audit import METRICS

    rows = [
        (
            f"`{metric.name}`",
            metric.describes,
            metric.better,
            f"{_bound(metric.range[0])} to {_bound(metric.range[1])}",
            "" if metric.chance is None else f"{metric.chance:g}",
            metric.misleads,
        )
        for metric in (METRICS[name] for name in names)
    ]
    return _table(("name", "what it is", "better", "range", "chance", "when it misleads"), rows)


def encoders() -> str:
    """Return the catalogue of published encoders."""
    from histolatent.encoders import catalogue

    rows = [
        (
            f"`{entry.name}`",
            f"`{entry.string}`",
            entry.domain,
            entry.dim,
            entry.preprocessing.input_px,
            entry.pooling,
            entry.licence,
            "yes" if entry.gated else "no",
        )
        for entry in catalogue()
    ]
    return _table(("name", "the same as", "trained on", "dim", "input px", "pooling", "licence", "gated"), rows)


def toys() -> str:
    """Return the encoders without weights."""
    from histolatent.encoders import TOYS

    return _table(("name", "dim", "what it is"), [(f"`toy:{name}`", toy.dim, toy.notes) for name, toy in TOYS.items()])


def protocols() -> str:
    """Return the sites of the phantom."""
    from histolatent.images.phantom import protocols as sites

    rows = [
        (
            f"`{site.site}`",
            f"`{site.stain.name}`",
            f"`{site.scanner.name}`",
            f"{site.stain.hematoxylin_strength:g} / {site.stain.eosin_strength:g}",
            f"{site.scanner.blur_um:g}",
            site.scanner.jpeg_quality or "lossless",
        )
        for site in sites().values()
    ]
    return _table(("site", "stain", "scanner", "H / E strength", "blur, um", "JPEG quality"), rows)


def effects() -> str:
    """Return what the sites of the phantom do that no protocol state does."""
    from histolatent.images.phantom import protocols as sites

    rows = [
        (
            f"`{site.site}`",
            f"{site.stain.section_um:g}",
            f"{site.stain.chatter_um:g} / {site.stain.chatter_period_um:g}" if site.stain.chatter_um else "none",
            _limits(site.stain.hematoxylin_capacity, site.stain.eosin_capacity),
            _triple(site.scanner.focus_um),
            f"{site.scanner.astigmatism_um:g}" if site.scanner.astigmatism_um else "none",
            " / ".join(f"{math.hypot(*place):.2g}" for place in (site.scanner.red_um, site.scanner.blue_um)),
            f"{site.scanner.contrast:g}" if site.scanner.contrast != 1 else "none",
        )
        for site in sites().values()
    ]
    head = (
        "site",
        "section, um",
        "chatter: amplitude / period, um",
        "capacity for H / E",
        "defocus R / G / B, um",
        "astigmatism, um",
        "red / blue beside green, um",
        "slope of the S-curve",
    )
    return _table(head, rows)


def _limits(*capacities: float) -> str:
    return " / ".join(f"{capacity:g}" if math.isfinite(capacity) else "no limit" for capacity in capacities)


def _triple(values: Sequence[float]) -> str:
    return " / ".join(f"{value:g}" for value in values) if any(values) else "none"


def policy() -> str:
    """Return the fields of the policy with their defaults."""
    from histolatent.audit import Policy

    rows = [(f"`{name}`", _setting(field.default)) for name, field in Policy.model_fields.items()]
    return _table(("field", "default"), rows)


def _setting(value: Any) -> str:
    """Return a default as TOML has it."""
    if isinstance(value, str):
        return f'`"{value}"`'
    if isinstance(value, int | float):
        return f"{value:g}"
    if isinstance(value, dict | tuple):
        return "none"
    return ", ".join(f"`{name}` {bound:g}" for name, bound in value)


def stains() -> str:
    """Return the published stain vectors."""
    from histolatent.stain import MACENKO_REFERENCE, RUIFROK

    published = {"Ruifrok and Johnston 2001": RUIFROK, "Macenko's code lineage": MACENKO_REFERENCE}
    rows = [
        (f"`{stain}`", origin, *(f"{value:.4g}" for value in vector))
        for origin, vectors in published.items()
        for stain, vector in vectors.items()
    ]
    return _table(("stain", "from", "red", "green", "blue"), rows)


def reasons() -> str:
    """Return why a fit is not usable."""
    from histolatent.stain import REASONS

    return _table(("reason", "what it says"), [(f"`{name}`", text) for name, text in REASONS.items()])


def planted() -> str:
    """Return how far fitted vectors lie from planted ones, as the benchmark measured it."""
    found = _results("stain")["measured"]["planted_degrees"]
    slides = {
        "with pure pixels, noiseless": "pure pixels, no noise",
        "with pure pixels, lossless": "pure pixels, camera noise",
        "without pure pixels, lossless": "the phantom as it is, camera noise",
    }
    ways = {"vahadane": "vahadane", "macenko, beta 0": "macenko, `beta=0`", "macenko, beta 0.15": "macenko"}
    rows = [
        (
            what,
            way,
            *(f"{found[f'{slide}: {key}'][name]:.1f}" for name in ("median", "p95", "max")),
            f"{100 * found[f'{slide}: {key}']['within_2']:.1f} %",
        )
        for slide, what in slides.items()
        for key, way in ways.items()
    ]
    head = ("200 slides, I0 known", "method", "median, degrees", "95th percentile", "largest", "within 2 degrees")
    return _table(head, rows)


def compaction() -> str:
    """Return what compactions of a frozen encoder keep and gain, as the benchmark measured it."""
    found = _results("compact")
    where = ("label_lost_on_the_source", "label_gained_at_wider_states", "label_gained_at_virtual_sites")
    ways = ("linear", "adapter", "adapter, probe of before", "64 directions out", "whitened")
    rows = []
    for way in ways:
        key = way.replace(", ", "_").replace(" ", "_")
        said = (found["checks"][f"{key}_{name}"]["reason"].split(";")[0].removeprefix("95 % ") for name in where)
        rows.append((way, *said))
    return _table(("map", "lost on the source", "gained under wider states", "gained at virtual sites"), rows)


def lmc() -> str:
    """Return what training with states buys at unseen sites of the phantom, as the benchmark measured it."""
    return _variants(_results("lmc")["measured"]["phantom"]["table"])


def _variants(found: dict[str, dict[str, float]]) -> str:
    """Return variants of a plan, and how many seeds they have."""
    import pandas as pd

    from histolatent.benchmark.ablate import as_markdown

    table = pd.DataFrame.from_dict(found, orient="index").rename_axis("variant")
    return f"{as_markdown(table)}\nSeeds: {table['seeds'].max():.0f}."


def unseen() -> str:
    """Return what is read at unseen sites with and without compaction, by cohort. The README has it too."""
    rows = []
    for found in _there("lmc", "lmc_real"):
        for cohort, part in found["measured"].items():
            plain, ours = (part["table"][name] for name in ("no states", "as planned"))
            check = found["checks"][f"{cohort}: error_removed against no states"]
            shares = (f"{table[what]:.3f}" for what in ("source", "unseen") for table in (plain, ours))
            gone = check["reason"].removeprefix("95 % ")
            rows.append((cohort, f"{ours['seeds']:.0f}", *shares, gone, check["target"]))
    head = ("cohort", "seeds", "source, without", "source, with", "unseen, without", "unseen, with")
    return _table((*head, "error removed", "asked"), rows)


def targets() -> str:
    """Return every figure of training that a bound was set for beforehand, missed ones too."""
    rows = [
        (name.replace("_", " "), f"{check['value']:.3g}", check["target"], "yes" if check["ok"] else "**no**")
        for found in _there("lmc", "lmc_real", "compact", "speed")
        for name, check in found["checks"].items()
        if check["target"] is not None
    ]
    return _table(("figure", "measured", "asked", "met"), rows)


def state() -> str:
    """Return the table of what is there, from the README."""
    text = ROOT.joinpath("README.md").read_text(encoding="utf-8")
    section = text.partition("## What is there, what is planned\n\n")[2]
    return section.partition("\n\n")[0]


def axes() -> str:
    """Return the coordinates of the stain manifold."""
    from histolatent.stain.manifold import AXES

    rows = [
        (
            f"`{axis.name}`",
            axis.part,
            axis.unit,
            f"{axis.sd:g}",
            f"{axis.limits[0]:g} to {axis.limits[1]:g}",
            axis.describes,
        )
        for axis in AXES.values()
    ]
    return _table(("axis", "part", "unit", "sd of the fixed prior", "limits", "what it is"), rows)


def commands() -> str:
    """Return every verb of the command line with its arguments and options."""
    import typer

    from histolatent.cli.app import app

    parts = []
    for verb, command in _verbs(typer.main.get_command(app)):
        example = str(command.epilog or "").removeprefix("Example: ")
        rows = [_option(parameter) for parameter in command.params if parameter.name != "help"]
        parts += [f"## `{verb}`", str(command.help), f"```sh\n{example}\n```", _table(("", "what", "default"), rows)]
    return "\n\n".join(parts)


def _verbs(group: Any, before: str = "") -> Iterator[tuple[str, Any]]:
    """Yield every verb with its name, `stain fit` for one of a group."""
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from _verbs(command, f"{before}{name} ")
        else:
            yield before + name, command


def _option(parameter: Any) -> tuple[object, ...]:
    names = [*parameter.opts, *parameter.secondary_opts]
    shown = ", ".join(f"`{name}`" for name in sorted(names, key=lambda name: not name.startswith("--")))
    text = " ".join(
        part for part in (parameter.help or "", f"`{parameter.metavar}`" if parameter.metavar else "") if part
    )
    if parameter.required:
        return shown, text, "required"
    default = parameter.default
    if isinstance(default, bool):
        return shown, text, "on" if default else "off"
    return shown, text, "" if default is None or default == () else default


def _bound(value: float | None) -> str:
    return "unbounded" if value is None else f"{value:g}"


def _results(name: str) -> dict[str, Any]:
    """Return what a benchmark wrote."""
    return json.loads(RESULTS.joinpath(f"{name}.json").read_text(encoding="utf-8"))


def _there(*names: str) -> Iterator[dict[str, Any]]:
    """Yield what benchmarks wrote, of those that were run."""
    return (_results(name) for name in names if RESULTS.joinpath(f"{name}.json").exists())


def _table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    lines = ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
    lines += ["| " + " | ".join(str(cell).replace("|", "\\|") for cell in row) + " |" for row in rows]
    return "\n".join(lines)


ALL = (
    *(operations, cards, suites, scanners, metrics, figures, displacement, calibration, encoders, toys, protocols),
    *(effects, policy, stains, reasons, planted, compaction, lmc, unseen, targets, state, axes, commands),
)
TABLES: dict[str, Callable[[], str]] = {table.__name__: table for table in ALL}
