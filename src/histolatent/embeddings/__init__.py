"""The embedding table: AnnData in memory, Zarr on disk, with its provenance card."""

from .partial import PartialTable
from .store import FORMS, check_form, read_table, refuse_table, write_table
from .table import card_of, check_vectors, make_table, obs_of, tidy_obs

__all__ = [
    "FORMS",
    "PartialTable",
    "card_of",
    "check_form",
    "check_vectors",
    "make_table",
    "obs_of",
    "read_table",
    "refuse_table",
    "tidy_obs",
    "write_table",
]
