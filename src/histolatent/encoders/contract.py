"""Does an encoder keep its contract? Found out by running it: what is wrong, how it shows, and how to mend it."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from .._types import Tile, Tiles, Vectors
from ..errors import EncoderError, InputError
from .batches import encode, forward_checked, prepare_many
from .card import IMAGENET_MEAN, IMAGENET_STD, EncoderCard, Preprocessing
from .folder import verify
from .network_input import NetworkInput, network_input
from .protocol import Encoder, HasPrecision

FEWEST_TILES = 4
MOST_TILES = 16
#: Differences are measured in the median distance between two of the tiles. Arithmetic stays below the first.
ROUNDING, LARGE = 1e-4, 1e-2
MEAN_TOLERANCE, STD_TOLERANCE = 0.02, 0.05
#: How far vectors may lie from those of a preprocessing that is said to have made them.
SAME = 0.05
Scaling = tuple[tuple[float, float, float], tuple[float, float, float]]
#: What networks are trained on, as mean and standard deviation per channel on the 0-1 scale.
SCALINGS: dict[str, Scaling] = {
    "ImageNet's mean and std": (IMAGENET_MEAN, IMAGENET_STD),
    "0.5 and 0.5 (-1 to 1)": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
    "CLIP's mean and std": ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)),
    "H-optimus's mean and std": ((0.707223, 0.578729, 0.703617), (0.211883, 0.230117, 0.177517)),
}
NO_SCALING: dict[str, Scaling] = {
    "levels 0 to 255, not scaled": ((0.0, 0.0, 0.0), (1 / 255, 1 / 255, 1 / 255)),
    "levels 0 to 1, without mean and std": ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
    "levels divided by 255 twice": ((0.0, 0.0, 0.0), (255.0, 255.0, 255.0)),
}


def _numbers_of(times: float, levels: str) -> dict[str, Scaling]:
    """Return numbers for levels of 0 to 1, taken of levels that are `times` smaller."""
    found: dict[str, Scaling] = {}
    for words, scaling in SCALINGS.items():
        mean, std = ((first * times, second * times, third * times) for first, second, third in scaling)
        found[f"{levels}, less {words} of levels 0 to 1"] = (mean, std)
    return found


UNDIVIDED = _numbers_of(1 / 255, "levels 0 to 255")
DIVIDED_TWICE = _numbers_of(255, "levels divided by 255 twice")
#: What goes wrong between a tile and a network.
SLIPS = {**NO_SCALING, **UNDIVIDED, **DIVIDED_TWICE}
COLOURS = ("red", "green", "blue")


@dataclass(frozen=True)
class ContractCheck:
    """One question to an encoder, with its answer in words and the way to mend what is wrong."""

    name: str
    status: Literal["PASS", "WARN", "FAIL", "UNDEFINED"]
    sentence: str
    fix: str | None = None

    def to_dict(self) -> dict[str, str | None]:
        """Return the fields."""
        return {"name": self.name, "status": self.status, "sentence": self.sentence, "fix": self.fix}


def check_contract(
    encoder: Encoder, tiles: Iterable[np.ndarray], *, reference: Encoder | None = None
) -> tuple[ContractCheck, ...]:
    """Run an encoder on a few tiles in several ways, and say what it does not keep.

    `tiles` are 4 to 16 uint8 RGB tiles with tissue, unlike each other. Asks whether the same tiles give the same
    vectors (random layers), whether a row depends on its batch-mates or on the size of its batch, whether rows come
    back in order, whether different tiles differ, what reaches the network (size, order of channels, scaling) and in
    what precision it computes (for torch networks, also inside a Python function), how far a lower precision moves
    vectors, and whether golden numbers are met. With `reference`, an encoder that should give the same vectors, it says
    which slip in preprocessing turns the one into the other.

    Misleads as a proof: an encoder that passes may still have the wrong weights. Without torch, golden numbers or a
    reference, a wrong scaling cannot be seen from outside, and the answer is UNDEFINED.

    Raises
    ------
    InputError
        If there are fewer than 4 tiles that come out at one size.
    """
    raw = [tile for _, tile in zip(range(MOST_TILES), tiles, strict=False)]
    raw, prepared = _largest_batch(raw, encoder.card.preprocessing)
    vectors = forward_checked(encoder, prepared)
    unit = _typical_distance(vectors)
    if unit == 0 and (prepared == prepared[0]).all():
        same = "the tiles that were looked at are copies of one: whether different tiles differ is not known"
        return (ContractCheck("tiles differ", "UNDEFINED", same, "audit tiles that are unlike each other"),)
    if unit == 0:
        constant = "different tiles have the same vector: the encoder does not look at them"
        return (ContractCheck("tiles differ", "FAIL", constant, "look at pooling and at the weights"),)
    repeated = _repeats(encoder, prepared, vectors, unit)
    checks = [ContractCheck("tiles differ", "PASS", "different tiles have different vectors"), repeated]
    if repeated.status != "FAIL":
        checks += [_order(encoder, prepared, vectors, unit), *_batches(encoder, prepared, vectors, unit)]
    found = network_input(encoder, prepared)
    checks += _precision(encoder, found, prepared, vectors, unit)
    checks.append(_input(encoder.card, found))
    suspect = checks[-1].status in ("WARN", "FAIL")
    checks += [_golden(encoder)] if encoder.card.golden else []
    checks += [_like(vectors, raw, reference, suspect)] if reference is not None else []
    return tuple(checks)


def _largest_batch(raw: Sequence[np.ndarray], rule: Preprocessing) -> tuple[list[np.ndarray], Tiles]:
    """Return the tiles of the size that most have when they are prepared, raw and prepared."""
    sizes: dict[tuple[int, ...], list[tuple[np.ndarray, Tile]]] = {}
    for tile, prepared in zip(raw, prepare_many(raw, rule), strict=True):
        sizes.setdefault(prepared.shape, []).append((tile, prepared))
    most = max(sizes.values(), key=len, default=[])
    if len(most) < FEWEST_TILES:
        raise InputError(
            "too few tiles of one size to check an encoder with", received=len(most), valid=f"at least {FEWEST_TILES}"
        )
    return [tile for tile, _ in most], np.stack([prepared for _, prepared in most])


def _typical_distance(vectors: Vectors) -> float:
    gaps = np.linalg.norm(vectors[:, None].astype(np.float64) - vectors[None], axis=2)
    return float(np.median(gaps[np.triu_indices(len(vectors), 1)]))


def _gap(first: Vectors, second: Vectors, unit: float) -> float:
    """Return the largest distance between rows, in typical distances between tiles."""
    return float(np.linalg.norm(first.astype(np.float64) - second, axis=1).max()) / unit


def _repeats(encoder: Encoder, prepared: Tiles, vectors: Vectors, unit: float) -> ContractCheck:
    gap = max(_gap(vectors, forward_checked(encoder, prepared), unit) for _ in range(2))
    if gap > LARGE:
        said = f"the same tiles give other vectors each time (by {gap:.2g} of the distance between tiles)"
        return ContractCheck("repeats", "FAIL", said, "dropout or another random layer is on: model.eval()")
    if gap > ROUNDING:
        return ContractCheck("repeats", "WARN", f"the same tiles give vectors {gap:.1g} apart: arithmetic is not fixed")
    return ContractCheck("repeats", "PASS", "the same tiles give the same vectors")


def _order(encoder: Encoder, prepared: Tiles, vectors: Vectors, unit: float) -> ContractCheck:
    """Compare rows of a reversed batch, each with that of its own tile, and with every other one's."""
    turned = forward_checked(encoder, np.ascontiguousarray(prepared[::-1]))[::-1].astype(np.float64)
    gaps = np.linalg.norm(turned[:, None] - vectors[None], axis=2) / unit
    if (np.diag(gaps) > gaps.min(axis=1) + LARGE).any():
        said = "rows do not come back in the order of the tiles"
        return ContractCheck("order", "FAIL", said, "keep the order: no sorting, no set, no unordered pool of workers")
    return ContractCheck("order", "PASS", "rows come back in order")


def _batches(encoder: Encoder, prepared: Tiles, vectors: Vectors, unit: float) -> list[ContractCheck]:
    """Compare rows beside other tiles (the same size of batch), and rows of tiles alone."""
    mates = prepared.copy()
    mates[1:] = 255 - mates[1:]
    gap = _gap(vectors[:1], forward_checked(encoder, mates)[:1], unit)
    if gap > LARGE:
        said = f"a row depends on the other tiles of its batch (by {gap:.2g} of the distance between tiles)"
        fix = "batch normalisation is in training mode, or statistics are taken over the batch: model.eval()"
        return [ContractCheck("batch-mates", "FAIL", said, fix)]
    checks = [ContractCheck("batch-mates", "PASS", "a row depends on its own tile only")]
    alone = np.concatenate([forward_checked(encoder, prepared[i : i + 1]) for i in range(len(prepared))])
    gap = _gap(vectors, alone, unit)
    if gap > LARGE:
        said = f"a tile alone has another vector than in a batch (by {gap:.2g} of the distance between tiles)"
        checks.append(ContractCheck("batch size", "FAIL", said, "load it with precision=fp32, or fix the batch size"))
    elif gap > ROUNDING:
        said = f"a tile alone lies {gap:.1g} of the distance between tiles from itself in a batch, in "
        checks.append(ContractCheck("batch size", "WARN", f"{said}{encoder.card.precision}", "precision=fp32"))
    else:
        checks.append(ContractCheck("batch size", "PASS", "the size of the batch makes no difference"))
    return checks


def _precision(
    encoder: Encoder, found: NetworkInput | None, prepared: Tiles, vectors: Vectors, unit: float
) -> list[ContractCheck]:
    """Compare the precision of a network with that of its card, and a lower one with fp32."""
    name, said = "precision", encoder.card.precision
    if found is not None and found.precision != said:
        wrong = f"the network computes in {found.precision}, its card says {said}"
        return [ContractCheck(name, "FAIL", wrong, f"load it with precision={said}, or correct its card")]
    full = encoder.at_precision("fp32") if said != "fp32" and isinstance(encoder, HasPrecision) else None
    if full is None:
        return []
    gap = _gap(forward_checked(full, prepared), vectors, unit)
    drift = f"{said} moves vectors by up to {gap:.2g} of the distance between tiles, against fp32"
    status = "PASS" if gap <= LARGE else "WARN" if gap <= SAME else "FAIL"
    return [ContractCheck(name, status, drift, None if status == "PASS" else "load it with precision=fp32")]


def _input(card: EncoderCard, found: NetworkInput | None) -> ContractCheck:
    """Judge what reached the network, against the card where it says, else against what is usual."""
    name = "preprocessing"
    if found is None:
        said = "no torch network was seen, so its input cannot be looked at"
        return ContractCheck(name, "UNDEFINED", said, "compare with an encoder that is known to be right: --reference")
    if not found.is_known:
        said = f"what reaches the network is no scaling of the tiles ({found.explained:.0%} explained)"
        return ContractCheck(name, "WARN", said, "compare with an encoder that is known to be right: --reference")
    if found.order != (0, 1, 2):
        channels = ", ".join(COLOURS[channel] for channel in found.order)
        said = f"the channels reach the network as {channels}"
        return ContractCheck(name, "FAIL", said, "pass RGB: leave out the conversion, or tile[..., ::-1]")
    rule = card.preprocessing
    if rule.input_px is not None and found.size != (rule.input_px, rule.input_px):
        said = f"the network sees {found.size[1]} x {found.size[0]} px, its card says {rule.input_px}"
        return ContractCheck(name, "FAIL", said, "take out the second resize, or correct input_px in the card")
    return _scaling(rule, found)


def _scaling(rule: Preprocessing, found: NetworkInput) -> ContractCheck:
    name = "preprocessing"
    usual = next((words for words, scaling in SCALINGS.items() if _close(found, scaling)), None)
    raw = next((words for words, scaling in SLIPS.items() if _close(found, scaling)), None)
    numbers = f"mean {_shown(found.mean)}, std {_shown(found.std)} on the 0-1 scale"
    what = usual or raw or numbers
    if rule.mean is not None and rule.std is not None:
        if _close(found, (rule.mean, rule.std)):
            return ContractCheck(name, "PASS", f"the network gets RGB at {_px(found)}, scaled as its card says")
        said = f"the network gets {what}; its card says mean {_shown(rule.mean)}, std {_shown(rule.std)}"
        return ContractCheck(name, "FAIL", said, "scale once, to 0-1, then subtract the mean and divide by the std")
    if usual is not None:
        return ContractCheck(name, "PASS", f"the network gets RGB at {_px(found)}, scaled by {usual}")
    for slips, when in ((UNDIVIDED, "first"), (DIVIDED_TWICE, "once")):
        if raw in slips:
            return ContractCheck(name, "FAIL", f"the network gets {raw}", f"divide the levels by 255 {when}")
    said = f"the network gets {what}, and its card does not say what it was trained with"
    fix = "put mean and std of its training into the preprocessing of its card, and apply them"
    return ContractCheck(name, "WARN", said, fix)


def _close(found: NetworkInput, scaling: Scaling) -> bool:
    mean, std = np.array(scaling)
    means = np.abs(np.array(found.mean) - mean) <= MEAN_TOLERANCE * np.maximum(1, std)
    return bool(means.all() and (np.abs(np.array(found.std) / std - 1) <= STD_TOLERANCE).all())


def _shown(values: Sequence[float]) -> str:
    return " / ".join(f"{value:.3g}" for value in values)


def _px(found: NetworkInput) -> str:
    return f"{found.size[1]} x {found.size[0]} px"


def _golden(encoder: Encoder) -> ContractCheck:
    try:
        verify(encoder)
    except EncoderError as error:
        return ContractCheck("golden numbers", "FAIL", error.what, error.fix)
    return ContractCheck("golden numbers", "PASS", "the numbers of its card are met")


def _like(vectors: Vectors, tiles: Sequence[np.ndarray], reference: Encoder, suspect: bool) -> ContractCheck:
    """Compare with an encoder that should be the same, and look for the slip that turns one into the other.

    `suspect` says that the preprocessing is to be mended first.
    """
    name = f"as {reference.card.name}"
    if vectors.shape[1] != reference.card.dim:
        said = f"gives vectors of {vectors.shape[1]} numbers, {reference.card.name} of {reference.card.dim}"
        return ContractCheck(name, "FAIL", said, "compare with the same model, layer and pooling")
    slip, gap = explain_vectors(vectors, tiles, reference)
    if slip == AS_IT_IS and gap <= LARGE:
        return ContractCheck(name, "PASS", f"gives the vectors of {reference.card.name}")
    if slip == AS_IT_IS:
        said = f"gives the vectors of {reference.card.name} to within {gap:.2g} of the distance between tiles only"
        return ContractCheck(name, "WARN", said, "compare precision (fp32, fp16, bf16) and versions of libraries")
    if slip is None:
        said = f"does not give the vectors of {reference.card.name}, and no single slip in preprocessing explains it "
        said += f"(what comes nearest leaves {gap:.2g} of the distance between tiles)"
        fix = "compare weights, pooling and layer"
        if reference.card.preprocessing.mean is None:
            said += "; its scaling is its own affair, so that other scalings could not be tried"
            fix = "compare scaling, weights, pooling and layer"
        return ContractCheck(name, "FAIL", said, "mend the preprocessing first, see above" if suspect else fix)
    said = f"gives the vectors of {reference.card.name} with a slip: {slip}"
    return ContractCheck(name, "FAIL", said, "mend that step, then run this check again")


AS_IT_IS = "as it is"


def explain_vectors(vectors: Vectors, tiles: Sequence[np.ndarray], reference: Encoder) -> tuple[str | None, float]:
    """Return which slip in a reference's preprocessing gives these vectors of the same tiles, and the distance left.

    Tries the reference as it is, swapped channels, missing, doubled and other scalings, and other ways to bring tiles
    to size. The distance is the median over tiles, in typical distances between tiles; above 0.05 nothing explains the
    vectors, and the slip is None.

    Raises
    ------
    InputError
        If the number of vectors is not that of the tiles, or they have another dimension than the reference's.
    """
    if vectors.shape != (len(tiles), reference.card.dim):
        raise InputError(
            f"these vectors cannot be those of {reference.card.name}",
            received=vectors.shape,
            valid=(len(tiles), reference.card.dim),
        )
    unit, best, left = None, None, np.inf
    for slip, variant, shown in _slips(reference, tiles):
        made = encode(variant, shown)
        unit = unit or max(_typical_distance(made), 1e-12)
        gap = float(np.median(np.linalg.norm(vectors.astype(np.float64) - made, axis=1))) / unit
        if gap < left:
            best, left = slip, gap
    return (best if left <= SAME else None), left


def _slips(reference: Encoder, tiles: Sequence[np.ndarray]) -> Iterable[tuple[str, Encoder, Sequence[np.ndarray]]]:
    """Yield the reference, and with one thing wrong at a time."""
    rule = reference.card.preprocessing
    yield AS_IT_IS, reference, tiles
    yield "red and blue swapped (BGR)", reference, [np.ascontiguousarray(tile[..., ::-1]) for tile in tiles]
    if rule.mean is not None and rule.std is not None:
        for words, (mean, std) in {**SLIPS, **SCALINGS}.items():
            if (mean, std) != (rule.mean, rule.std):
                yield words, _with(reference, mean=mean, std=std), tiles
    if rule.resize == "shorter-side-crop":
        yield "squashed to size, not cut", _with(reference, resize="squash", resize_px=None), tiles
        yield "no margin cut off", _with(reference, resize_px=rule.input_px), tiles
    for other in ("nearest", "bilinear", "bicubic"):
        if rule.resize != "none" and other != rule.interpolation:
            yield f"resized by {other}", _with(reference, interpolation=other), tiles


def _with(encoder: Encoder, **changed: object) -> Encoder:
    """Return the encoder with other preprocessing; encoders are frozen dataclasses with a card."""
    rule = Preprocessing.model_validate({**encoder.card.preprocessing.model_dump(), **changed})
    return replace(encoder, card=encoder.card.model_copy(update={"preprocessing": rule}))  # pyright: ignore[reportArgumentType, reportReturnType]
