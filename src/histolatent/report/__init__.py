"""Results to a self-contained page, JSON and tables."""

from .page import read_result, render, to_json, write_report

__all__ = ["read_result", "render", "to_json", "write_report"]
