"""What a training came to, epoch by epoch, as a table that other programs read."""

import csv
import io
import math
from pathlib import Path
from typing import Any

from coulex.dataset.files import write_bytes

METRICS = "metrics.csv"


class History:
    """One row for each epoch.

    Attributes
    ----------
    rows : list of dict
        `epoch`, `step`, `lr`, `train_loss`, `val_loss`, the parts of the validation loss by
        name, and `seconds` since the start.
    """

    def __init__(self):
        self.rows: list[dict[str, Any]] = []

    def best_loss(self) -> float:
        """Return the smallest validation loss, infinity before the first epoch."""
        return min((row["val_loss"] for row in self.rows), default=math.inf)

    def best_epoch(self) -> int:
        """Return the epoch of the smallest validation loss, -1 before the first."""
        return min(self.rows, key=lambda row: row["val_loss"])["epoch"] if self.rows else -1

    def epochs_since_best(self) -> int:
        """Return how many epochs have passed without a better one."""
        return len(self.rows) - 1 - self.best_epoch() if self.rows else 0

    def write(self, folder: Path) -> None:
        """Write `metrics.csv`."""
        if not self.rows:
            return
        text = io.StringIO()
        table = csv.DictWriter(text, list(self.rows[0]), lineterminator="\n")
        table.writeheader()
        table.writerows(self.rows)
        write_bytes(folder / METRICS, text.getvalue().encode())
