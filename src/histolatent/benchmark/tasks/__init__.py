"""Tasks: what is read of a cohort under every method, the same way."""

from .heads import Read, read_classes, read_slides
from .objects import PlaceView, find_objects, read_objects
from .task import TASKS, Task, check_task, parse_task

__all__ = [
    "TASKS",
    "PlaceView",
    "Read",
    "Task",
    "check_task",
    "find_objects",
    "parse_task",
    "read_classes",
    "read_objects",
    "read_slides",
]
