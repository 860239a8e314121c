"""What training tells, written where other tools read it."""

import os
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType

from ..errors import OptionError, require


class TensorBoardLog:
    """Writes losses and checks for TensorBoard, while training goes on: give it as `progress`.

    >>> with TensorBoardLog(getfixture("tmp_path") / "runs") as log:
    ...     log("training", 1, 10, {"compaction": 0.5})

    Raises
    ------
    OptionError
        If a file is where the folder is to be.
    MissingExtraError
        If tensorboardX is not installed.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        writer = require("tensorboardX", "compact").SummaryWriter
        if Path(folder).exists() and not Path(folder).is_dir():
            raise OptionError("logs are written to a folder, and a file is there", received=folder)
        self._writer = writer(os.fspath(folder))

    def __call__(self, what: str, done: int, total: int, values: Mapping[str, float]) -> None:
        """Write the values of a step; a check is written whole at once, so that it can be seen."""
        for name, value in values.items():
            if name != "step":
                self._writer.add_scalar(f"{what}/{name}", value, done)
        if what == "checked":
            self._writer.flush()

    def close(self) -> None:
        """Write what is left."""
        self._writer.close()

    def __enter__(self) -> "TensorBoardLog":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
