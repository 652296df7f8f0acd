"""The log of a run: log.jsonl, one JSON object a line, for pandas.read_json(path, lines=True) and the like."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

Row = dict[str, Any]


def read_log(path: Path) -> list[Row]:
    """The rows of a log; none where there is no log. A line that a killed process left unfinished is skipped."""
    rows: list[Row] = []
    if not path.is_file():
        return rows
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            row = json.loads(line)
        except json.JSONDecodeError:
            continue
        if isinstance(row, dict):
            rows.append(row)
    return rows


class RunLog:
    """Appends rows to a log; rows after last_step, from before a run was resumed, are removed first."""

    def __init__(self, path: Path, last_step: int = 0) -> None:
        self.path, self.last_step = path, last_step
        self.begun = False

    def append(self, row: Row) -> None:
        """One line: step, loss (raw), lr_factor, lr, grad_norm, images_per_second, progress, seconds."""
        if not self.begun:
            kept = [row for row in read_log(self.path) if row.get("step", 0) <= self.last_step]
            self.path.write_text("".join(json.dumps(row) + "\n" for row in kept), encoding="utf-8")
            self.begun = True
        with open(self.path, "a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
