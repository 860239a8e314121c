"""The command line: thin verbs. Heavy imports happen inside the commands."""

from .app import main

__all__ = ["main"]
