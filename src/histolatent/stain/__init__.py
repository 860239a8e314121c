"""Optical density, stain separation, normalisation and the stain manifold. Arrays in, arrays out; no torch here.

The torch path, `histolatent.stain.tensors`, is imported by name.
"""

from .augment import (
    HED_STRENGTHS,
    RandStainNAModel,
    concentration_jitter,
    fit_randstainna,
    hed_jitter,
    randstainna_change,
)
from .density import add_stain, concentrations, optical_density, stain_matrix, to_tile, white_level
from .fit import Sample, fit_colour, fit_colour_samples, fit_samples, fit_stains, fit_tile, sample_pixels
from .manifold import AXES, Prior, ProtocolState, StainManifold, fit_prior, fixed_prior
from .model import NORMALIZERS, REASONS, ColourModel, Fit, StainBook, StainModel, read_book
from .normalize import (
    PerTileWarning,
    colour_change,
    normalize,
    normalize_tile,
    reference_names,
    shipped_reference,
    tile_change,
)
from .nuclei import hematoxylin, label_nuclei, tissue_mask
from .recolour import ColourChange, DensityChange, NoChange, SpaceChange, SparseChange, recolour
from .separate import separate, stain_image
from .vectors import MACENKO_REFERENCE, RUIFROK, STAIN_SETS, canonical_vectors

__all__ = [
    "AXES",
    "HED_STRENGTHS",
    "MACENKO_REFERENCE",
    "NORMALIZERS",
    "REASONS",
    "RUIFROK",
    "STAIN_SETS",
    "ColourChange",
    "ColourModel",
    "DensityChange",
    "Fit",
    "NoChange",
    "PerTileWarning",
    "Prior",
    "ProtocolState",
    "RandStainNAModel",
    "Sample",
    "SpaceChange",
    "SparseChange",
    "StainBook",
    "StainManifold",
    "StainModel",
    "add_stain",
    "canonical_vectors",
    "colour_change",
    "concentration_jitter",
    "concentrations",
    "fit_colour",
    "fit_colour_samples",
    "fit_prior",
    "fit_randstainna",
    "fit_samples",
    "fit_stains",
    "fit_tile",
    "fixed_prior",
    "hed_jitter",
    "hematoxylin",
    "label_nuclei",
    "normalize",
    "normalize_tile",
    "optical_density",
    "randstainna_change",
    "read_book",
    "recolour",
    "reference_names",
    "sample_pixels",
    "separate",
    "shipped_reference",
    "stain_image",
    "stain_matrix",
    "tile_change",
    "tissue_mask",
    "to_tile",
    "white_level",
]
