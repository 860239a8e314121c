"""Results to a self-contained page, JSON and tables."""

from .page import MARK, read_result, render, to_json, write_report
from .training import write_training

__all__ = ["MARK", "read_result", "render", "to_json", "write_report", "write_training"]
