"""Graded perturbations in physical units. Uses stain, knows no encoder."""

from . import acquisition, artefacts, geometric, photometric, staining, tissue
from .calibration import Calibration, fit_scanner
from .donors import Donor
from .operation import ASSUMED_MPP, OPERATIONS, SEVERITIES, Operation, climb, perturb, register
from .scanner import SCANNERS, Scanner, scan
from .sites import VirtualSite, virtual_sites
from .suites import SUITES, Ladder, read_suite, suite

__all__ = [
    "ASSUMED_MPP",
    "OPERATIONS",
    "SCANNERS",
    "SEVERITIES",
    "SUITES",
    "Calibration",
    "Donor",
    "Ladder",
    "Operation",
    "Scanner",
    "VirtualSite",
    "acquisition",
    "artefacts",
    "climb",
    "fit_scanner",
    "geometric",
    "perturb",
    "photometric",
    "read_suite",
    "register",
    "scan",
    "staining",
    "suite",
    "tissue",
    "virtual_sites",
]
