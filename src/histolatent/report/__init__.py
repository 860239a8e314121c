"""Results to a self-contained page, JSON and tables."""

from .page import MARK, read_result, render, to_json, write_report

__all__ = ["MARK", "read_result", "render", "to_json", "write_report"]
