"""Who exists: sites, patients, slides and tiles, with the biology that was drawn for each of them."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import pandas as pd

from ...provenance import stream
from .protocols import protocols
from .spec import PhantomSpec

STROMA, MUCOSA, LYMPHOID, ADENOCARCINOMA, SOLID = "stroma", "mucosa", "lymphoid", "adenocarcinoma", "solid carcinoma"
LABELS = (STROMA, MUCOSA, LYMPHOID, ADENOCARCINOMA, SOLID)
TUMOURS = (ADENOCARCINOMA, SOLID)
#: Patients take turns, so that diagnosis and grade are crossed within every six patients.
GRADE_LOGITS = {1: -1.1, 2: 0.0, 3: 1.1}
GRADE_CUTS = (1 / 3, 2 / 3)
TILES_PER_ROW = 20


@dataclass(frozen=True)
class Biology:
    """What was drawn for one tile. The pixels follow it, up to the chances of drawing single nuclei."""

    label: str
    #: How far the tumour has left its tissue of origin, 0 to 1; 0 where there is no tumour.
    anaplasia: float
    #: Mean diameter of epithelial or tumour nuclei.
    nuclear_diameter_um: float
    #: Coefficient of variation of the nuclear diameter.
    pleomorphism: float
    #: Mean long axis over short axis.
    elongation: float
    #: 0 fine and even, 1 clumped and vesicular.
    chromatin: float
    #: Share of the tumour or epithelium that forms glands with a lumen.
    gland_formation: float
    #: Lymphocytes per potential site in the stroma and among tumour cells.
    lymphocytes: float
    #: Chance of a tumour nucleus to be in mitosis.
    mitotic_rate: float
    #: Distance between neighbouring epithelial or tumour nuclei, in nuclear diameters.
    spacing: float
    #: 1 cells touch, 0 they lie apart with clefts between them.
    cohesion: float
    #: Shares of the tile's area, 0 to 1.
    adipose: float
    necrosis: float
    #: Amounts, 0 to 1.
    mucin: float
    vessels: float
    fibrosis: float
    #: Radians.
    fibre_angle: float
    #: Cytoplasm's affinity to hematoxylin and to eosin: what hides the class from the mean colour.
    basophilia: float
    eosinophilia: float


@dataclass(frozen=True)
class _Patient:
    diagnosis: str
    grade: int
    effects: Mapping[str, float]


PATIENT_EFFECTS = ("anaplasia", "size", "pleomorphism", "elongation", "chromatin", "gland", "lymphocytes", "fibrosis")


@lru_cache(maxsize=4096)
def _patient(seed: int, patient: str) -> _Patient:
    ordinal = int(patient.rpartition("/p")[2]) - 1
    draws = stream(seed, patient, "biology").standard_normal(len(PATIENT_EFFECTS))
    effects: dict[str, float] = dict(zip(PATIENT_EFFECTS, draws.tolist(), strict=True))
    return _Patient(TUMOURS[ordinal % 2], ordinal % 3 + 1, effects)


def diagnosis(spec: PhantomSpec, patient: str) -> tuple[str, int]:
    """Return the carcinoma that dominates a patient's slides, and its grade (1-3)."""
    found = _patient(spec.seed, patient)
    return found.diagnosis, found.grade


@lru_cache(maxsize=4096)
def label_block(seed: int, patient: int, slide: int, block: int) -> tuple[str, ...]:
    """Return ten labels in random order: two of each class, but three of the patient's carcinoma and one of the other.

    The order depends on ordinals, not on the site: every site has the same labels, so site and label are independent.
    """
    main = TUMOURS[patient % 2]
    other = TUMOURS[1 - patient % 2]
    labels = [STROMA, MUCOSA, LYMPHOID] * 2 + [main] * 3 + [other]
    return tuple(labels[i] for i in stream(seed, "labels", patient, slide, block).permutation(len(labels)))


def draw_biology(spec: PhantomSpec, tile: str, label: str) -> Biology:
    """Draw the factors of one tile: class mean + patient effect + slide effect + tile effect.

    Each factor has its own variance, so that no factor is a function of the grade or of the label.
    """
    slide = tile.rpartition("/")[0]
    patient = slide.rpartition("/")[0]
    person = _patient(spec.seed, patient)
    p = person.effects
    rng = stream(spec.seed, tile, "biology")
    z = dict(zip(PATIENT_EFFECTS, rng.standard_normal(len(PATIENT_EFFECTS)).tolist(), strict=True))
    on_slide = float(stream(spec.seed, slide, "biology").standard_normal())
    tumour = label in TUMOURS
    logit = GRADE_LOGITS[person.grade] + 0.25 * p["anaplasia"] + 0.2 * on_slide + 0.9 * z["anaplasia"]
    a = 1.0 / (1.0 + float(np.exp(-logit))) if tumour else 0.0
    gland = {ADENOCARCINOMA: 1.0 - 0.75 * a, SOLID: 0.08, MUCOSA: 0.95}.get(label, 0.0)
    spread = 0.12 if label in (ADENOCARCINOMA, MUCOSA) else 0.05
    uniform: list[float] = rng.random(12).tolist()
    infiltrate = {STROMA: 0.10, MUCOSA: 0.30, LYMPHOID: 1.0}.get(label, 0.12)
    return Biology(
        label=label,
        anaplasia=a,
        nuclear_diameter_um=_clip(
            (6.6 if not tumour else 7.2 + 3.4 * a) + 0.25 * p["size"] + 0.45 * z["size"], 5.8, 12.5
        ),
        pleomorphism=_clip((0.07 + 0.22 * a) * np.exp(0.15 * p["pleomorphism"] + 0.25 * z["pleomorphism"]), 0.04, 0.42),
        elongation=_clip(
            {MUCOSA: 1.75, ADENOCARCINOMA: 1.65 - 0.25 * a}.get(label, 1.22)
            * np.exp(0.06 * p["elongation"] + 0.09 * z["elongation"]),
            1.05,
            2.2,
        ),
        chromatin=_clip(0.2 + 0.55 * a + 0.06 * p["chromatin"] + 0.15 * z["chromatin"], 0.0, 1.0),
        gland_formation=_clip(gland + spread * (0.5 * p["gland"] + z["gland"]), 0.0, 1.0) if gland else 0.0,
        lymphocytes=_clip(infiltrate * np.exp(0.4 * p["lymphocytes"] + 0.7 * z["lymphocytes"]), 0.0, 1.0),
        mitotic_rate=_clip((0.018 + 0.10 * a**1.5) * np.exp(0.4 * (2 * uniform[0] - 1)), 0.0, 0.15) if tumour else 0.0,
        spacing=_clip(1.38 - 0.12 * a + 0.14 * (2 * uniform[1] - 1), 1.15, 1.6),
        cohesion=_clip(1.1 - 0.7 * a + 0.35 * (2 * uniform[2] - 1), 0.0, 1.0),
        adipose=max(0.0, uniform[3] * 1.5 - 0.85) if label in (STROMA, LYMPHOID) else 0.0,
        necrosis=max(0.0, uniform[4] * (0.6 + 0.5 * a) - 0.55) if tumour else 0.0,
        mucin=uniform[5] ** 2 * (0.9 if label in (MUCOSA, ADENOCARCINOMA) else 0.0),
        vessels=uniform[6],
        fibrosis=_clip(0.55 + 0.12 * p["fibrosis"] + 0.22 * z["fibrosis"], 0.05, 1.0),
        fibre_angle=float(np.pi * uniform[7]),
        basophilia=float(np.exp(0.35 * (2 * uniform[8] - 1))),
        eosinophilia=float(np.exp(0.35 * (2 * uniform[9] - 1))),
    )


def _clip(value: float, low: float, high: float) -> float:
    return float(min(max(value, low), high))


def grade_of(biology: Biology) -> int:
    """Return 1, 2 or 3 from the anaplasia of a tumour tile; 0 where there is no tumour."""
    if biology.label not in TUMOURS:
        return 0
    return 1 + sum(biology.anaplasia > cut for cut in GRADE_CUTS)


def list_tiles(spec: PhantomSpec) -> pd.DataFrame:
    """Return one row per tile, indexed by ids like `source/p01/s1/t003`. Nothing is rendered."""
    rows: list[dict[str, object]] = []
    known = protocols()
    n_slides = spec.patients * spec.slides
    for site in spec.site_names:
        for k in range(n_slides):
            # Neighbouring slide ordinals are different patients, so that a small cohort still has every patient.
            slide_ordinal, patient_ordinal = divmod(k, spec.patients)
            patient = f"{site}/p{patient_ordinal + 1:02d}"
            slide = f"{patient}/s{slide_ordinal + 1}"
            count = spec.tiles_per_site // n_slides + (k < spec.tiles_per_site % n_slides)
            main, patient_grade = diagnosis(spec, patient)
            for t in range(count):
                tile = f"{slide}/t{t:03d}"
                label = label_block(spec.seed, patient_ordinal, slide_ordinal, t // 10)[t % 10]
                rows.append(
                    {
                        "tile": tile,
                        "label": label,
                        "site": site,
                        "scanner": known[site].scanner.name,
                        "stain": known[site].stain.name,
                        "slide": slide,
                        "patient": patient,
                        "mpp": spec.mpp,
                        "x": t % TILES_PER_ROW * spec.tile_px,
                        "y": t // TILES_PER_ROW * spec.tile_px,
                        "tumour": label in TUMOURS,
                        "grade": grade_of(draw_biology(spec, tile, label)),
                        "diagnosis": main,
                        "diagnosis_grade": patient_grade,
                    }
                )
    return pd.DataFrame(rows).set_index("tile")
