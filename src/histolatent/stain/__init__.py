"""Optical density and stain separation. Arrays in, arrays out."""

from .density import RUIFROK, add_stain, concentrations, optical_density, stain_matrix, to_tile, white_level
from .nuclei import hematoxylin, label_nuclei, tissue_mask

__all__ = [
    "RUIFROK",
    "add_stain",
    "concentrations",
    "hematoxylin",
    "label_nuclei",
    "optical_density",
    "stain_matrix",
    "tissue_mask",
    "to_tile",
    "white_level",
]
