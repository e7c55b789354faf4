"""The table of a run's curves, which is there whole or not at all."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.utilities import rank_zero_only
from torch import Tensor

from zoomkern.images.files import write_whole


class WholeCSVLogger(CSVLogger):
    """Writes ``metrics.csv`` anew with each row; Lightning's own cuts the file short where a column is new.

    Args:
        save_dir: folder of the run.
        name: of the folder in it.
    """

    def __init__(self, save_dir: Path, name: str) -> None:
        super().__init__(save_dir, name)
        self._rows: list[dict[str, Any]] = []

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, Any], step: int | None = None) -> None:
        """Keep a row."""
        plain = {name: value.item() if isinstance(value, Tensor) else value for name, value in metrics.items()}
        self._rows.append({**plain, "step": step})

    @rank_zero_only
    def save(self) -> None:
        """Write all rows, whole or not at all.

        Raises:
            OSError: the file cannot be written; the message names it.
        """
        if self._rows:
            text = io.StringIO()
            table = csv.DictWriter(text, sorted(set().union(*self._rows)), lineterminator="\n")
            table.writeheader()
            table.writerows(self._rows)
            write_whole(Path(self.log_dir) / "metrics.csv", text.getvalue())

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """Write what is left."""
        self.save()
