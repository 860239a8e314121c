"""Cohorts that others have published: a catalogue, a download that can be trusted, and a manifest for each.

Names are loaded when they are first used.
"""

from typing import TYPE_CHECKING

from ..._lazy import lazy_names

if TYPE_CHECKING:
    from .arrange import arrange_cohort
    from .card import CohortCard, read_card
    from .catalogue import Cohort, PublishedFile, cohorts, cohorts_frame, find_cohort
    from .fetch import download_cohort, fetch_cohort
    from .lesions import Lesions, label_tiles, read_lesions, tumour_share
    from .verify import Verification, verify_cohort

__all__ = [
    "Cohort",
    "CohortCard",
    "Lesions",
    "PublishedFile",
    "Verification",
    "arrange_cohort",
    "cohorts",
    "cohorts_frame",
    "download_cohort",
    "fetch_cohort",
    "find_cohort",
    "label_tiles",
    "read_card",
    "read_lesions",
    "tumour_share",
    "verify_cohort",
]

__getattr__ = lazy_names(
    __name__,
    {
        "arrange": ("arrange_cohort",),
        "card": ("CohortCard", "read_card"),
        "catalogue": ("Cohort", "PublishedFile", "cohorts", "cohorts_frame", "find_cohort"),
        "fetch": ("download_cohort", "fetch_cohort"),
        "lesions": ("Lesions", "label_tiles", "read_lesions", "tumour_share"),
        "verify": ("Verification", "verify_cohort"),
    },
)
