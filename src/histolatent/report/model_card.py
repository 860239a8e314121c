"""A model card in Markdown: what each encoder is, its verdict and main figures, its limits, how it was measured."""

from collections.abc import Iterable, Sequence

from ..audit.findings import answer
from ..audit.result import AuditResult, EncoderResult, show
from ..audit.words import counted
from .methods import limits_of, methods_of
from .sections import family_cells, family_names, judged_severity


def model_card(result: AuditResult) -> str:
    """Return the card of all encoders of an audit as Markdown."""
    found, methods = answer(result), methods_of(result)
    parts = [
        f"# Model card: {counted(len(result.encoders), 'encoder')} on {_text(result.tiles['name'])}",
        "Research use. Not a medical device.",
        f"Written by histolatent {result.histolatent}, {result.created}.",
        "## In short",
        _bullets([*found.which, *found.why]),
        *(["What to do next:", _bullets(found.next)] if found.next else []),
        *[_encoder(result, encoder) for encoder in result.encoders],
        "## How it was measured",
        *map(_text, methods.paragraphs),
        "\n".join(f"{number}. {_text(reference)}" for number, reference in enumerate(methods.references, 1)),
        "## Limits",
        _bullets(limits_of(result)),
    ]
    return "\n\n".join(parts) + "\n"


def _encoder(result: AuditResult, encoder: EncoderResult) -> str:
    title = _text(encoder.name) + (" (baseline)" if encoder.baseline else "")
    parts = [f"## {title}", "### What it is", _table(("", ""), _facts(encoder)), f"### Verdict: {encoder.verdict}"]
    names = [family for family in family_names(result) if any(f.family == family for f in encoder.families)]
    cells = family_cells(encoder, names)
    rows = [
        (cell.result.family, cell.result.status, show(cell.figure) if cell.figure else "", cell.result.sentence)
        for cell in cells
        if cell is not None
    ]
    parts.append(_table(("family", "answer", "figure", "why"), rows))
    figures = list(_figures(result, encoder))
    if figures:
        parts += ["### Main figures", _table(("figure", "value and 95 % interval", "chance"), figures)]
    return "\n\n".join(parts)


def _facts(encoder: EncoderResult) -> list[tuple[str, str]]:
    card = encoder.card
    facts = [
        ("source", card.get("source")),
        ("kind", card.get("kind")),
        ("dimensions", card.get("dim")),
        ("revision", card.get("revision")),
        ("weights, sha256", card.get("weights_sha256")),
        ("untrained weights", "yes" if card.get("random_weights") else None),
        ("trained on", card.get("domain")),
        ("pooling, precision", f"{card.get('pooling')}, {card.get('precision')}"),
        ("licence", card.get("licence")),
        ("access", "gated" if card.get("gated") else None),
        ("identity", encoder.identity),
        ("notes", card.get("notes")),
    ]
    return [(name, str(value)) for name, value in facts if value not in (None, "")]


def _figures(result: AuditResult, encoder: EncoderResult) -> Iterable[tuple[str, str, str]]:
    for probe in encoder.probes:
        if not probe.reason:
            chance = "" if probe.chance is None else f"{probe.chance:.2f}"
            kind = "kept" if probe.kind == "signal" else "leaked"
            yield f"{probe.title} read by a fresh probe ({kind})", show(probe.balanced_accuracy), chance
    leak = encoder.worst_leak
    if leak is not None and encoder.leak is not None:
        yield f"skill of the worst leak ({leak.title}) less that of the label", show(encoder.leak), ""
    for left in encoder.transfer:
        if not left.reason:
            yield f"label at {left.left_out} unseen, less seen", show(left.gap), ""
    if encoder.selectivity is not None:
        yield "selectivity: destroyed biology moves a tile further than a nuisance", show(encoder.selectivity), "0.50"
    if not encoder.null.defined:
        return
    for operation in result.operations:
        severity = judged_severity(result, operation)
        for dose in encoder.doses:
            if (dose.operation, dose.severity) == (operation.name, severity):
                said = f"displacement by {operation.name} ({operation.caption(severity)}; {operation.role})"
                yield said, show(dose.metrics["displacement"]), "1.00"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
    lines += ["| " + " | ".join(map(_text, row)) + " |" for row in rows]
    return "\n".join(lines)


def _bullets(sentences: Iterable[str]) -> str:
    return "\n".join(f"- {_text(sentence)}" for sentence in sentences)


def _text(words: object) -> str:
    """Return words that Markdown takes for words: a name can hold anything."""
    text = " ".join(str(words).split())
    for sign in "\\`*_{}<>|#":
        text = text.replace(sign, f"\\{sign}")
    return text
