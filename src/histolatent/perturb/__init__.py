"""Graded perturbations in physical units. Uses stain, knows no encoder."""

from . import appearance, geometric, tissue
from .operation import ASSUMED_MPP, OPERATIONS, SEVERITIES, Operation, climb, perturb, register
from .suites import SUITES, Ladder, suite

__all__ = [
    "ASSUMED_MPP",
    "OPERATIONS",
    "SEVERITIES",
    "SUITES",
    "Ladder",
    "Operation",
    "appearance",
    "climb",
    "geometric",
    "perturb",
    "register",
    "suite",
    "tissue",
]
