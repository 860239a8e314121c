"""The embedding table: AnnData in memory, Zarr on disk, with its provenance card."""

from .partial import PartialTable
from .store import FORMS, read_table, write_table
from .table import card_of, check_vectors, make_table, obs_of

__all__ = ["FORMS", "PartialTable", "card_of", "check_vectors", "make_table", "obs_of", "read_table", "write_table"]
