"""Results to a self-contained page, JSON and tables."""

from .page import read_result, refuse_folder, render, to_json, write_report

__all__ = ["read_result", "refuse_folder", "render", "to_json", "write_report"]
