"""nbgrader's Execute for the chapters: only what marks need is run, and one cell can't take the others' points."""

from __future__ import annotations

from typing import Any

import nbformat
from nbclient.exceptions import CellTimeoutError, DeadKernelError
from nbgrader.preprocessors import Execute
from nbgrader.preprocessors.execute import UnresponsiveKernelError
from traitlets import Integer

from .slice import needed

BEGIN = "from minimagen.course.grading.kernel import begin\nbegin()"


class Quick(Execute):
    """Runs answers, what they lean on, and graded cells; all other cells keep the outputs that were handed in.

    A cell that ends its kernel, or can't be interrupted, is left out, and the rest begins again without it.
    """

    timeout = Integer(30, help="seconds that one cell may take").tag(config=True)
    iopub_timeout = Integer(15, help="seconds to wait for the last output").tag(config=True)
    attempts = Integer(
        6, help="how many cells may end their kernel before the rest is given up"
    ).tag(config=True)

    def preprocess(self, nb: Any, resources: Any, km: Any = None) -> tuple[Any, Any]:
        """Run a notebook: nb, resources as nbconvert has them."""
        self.plan = plan(nb)
        self.blocked: dict[int, str] = {}
        for _ in range(self.attempts):
            self.begun, self.at = False, -1
            try:
                done: tuple[Any, Any] = super().preprocess(nb, resources, km)
                return done
            except (DeadKernelError, CellTimeoutError, UnresponsiveKernelError) as error:
                late = not isinstance(error, DeadKernelError)
                self.blocked[self.at] = (
                    f"this cell does not come to an end: after {self.timeout} seconds it was stopped"
                    if late
                    else "this cell ended its kernel (a crash, exit(), or too much memory)"
                )
                if self.at < 0:
                    raise
        for index, code in enumerate(self.plan):
            if code is not None and index not in self.blocked and index >= self.at:
                self.blocked[index] = f"not run: {self.attempts} cells before it ended their kernel"
        for index, sentence in self.blocked.items():
            nb.cells[index].outputs = [_error(sentence)]
        return nb, resources

    def preprocess_cell(self, cell: Any, resources: Any, index: int) -> tuple[Any, Any]:
        """Run one cell, or the part of it that is needed; its text stays as the student wrote it."""
        code = self.plan[index]
        if cell.cell_type != "code" or code is None:
            return cell, resources
        if index in self.blocked:
            cell.outputs = [_error(self.blocked[index])]
            return cell, resources
        if not self.begun:
            self._begin(index)
            self.nb.cells[index] = cell
        text, self.at = cell.source, index
        cell.source = code
        try:
            super().preprocess_cell(cell, resources, index)
        finally:
            cell.source = text
        return cell, resources

    def _begin(self, index: int) -> None:
        """Once in each kernel; its imports have all the time that a busy machine needs."""
        limit, self.timeout = self.timeout, 600
        try:
            self.execute_cell(nbformat.v4.new_code_cell(BEGIN), index, store_history=False)
        finally:
            self.timeout = limit
        self.begun = True


def _error(sentence: str) -> Any:
    return nbformat.v4.new_output(
        "error", ename="Stopped", evalue=sentence, traceback=[f"Stopped: {sentence}"]
    )


def plan(nb: Any) -> list[str | None]:
    """What of each cell is run: None for nothing."""
    kinds = [_kind(cell) for cell in nb.cells]
    answers = [c.source for c, kind in zip(nb.cells, kinds, strict=True) if kind == "answer"]
    others = [c.source if kind == "other" else "" for c, kind in zip(nb.cells, kinds, strict=True)]
    parts = needed(answers, others)
    return [
        cell.source if kind in ("answer", "graded") else (part or None)
        for cell, kind, part in zip(nb.cells, kinds, parts, strict=True)
    ]


def _kind(cell: Any) -> str:
    about = cell.metadata.get("nbgrader", {})
    if cell.cell_type != "code":
        return "text"
    if about.get("grade") and about.get("solution"):
        return "by hand"
    if about.get("grade"):
        return "graded"
    return "answer" if about.get("solution") else "other"
