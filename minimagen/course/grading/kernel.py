"""What stands in the kernel while nbgrader marks: a mistake costs once, and no answer waits for another.

Cells of a student run statement by statement: one that fails says so, and the next still runs. Where a core
function is missing or wrong, the other answers are marked with the course's own in its place: its points are
lost, theirs are not.
"""

from __future__ import annotations

import ast
import sys
import warnings
from typing import Any

from ..core import CORE
from .assignment import HEAD


class _Each(ast.NodeTransformer):
    """Wraps every statement of a cell, those of a graded cell left out."""

    on = True

    def visit_Module(self, node: ast.Module) -> ast.Module:
        if not self.on:
            return node
        node.body = [self._wrapped(s) for s in node.body]
        return ast.fix_missing_locations(node)

    def _wrapped(self, statement: ast.stmt) -> ast.stmt:
        if isinstance(statement, ast.ImportFrom) and statement.module == "__future__":
            return statement
        caught = ast.parse(
            "try: pass\nexcept BaseException as _error: "
            "__import__('minimagen.course.grading.kernel', fromlist=['x']).skip(_error)"
        ).body[0]
        assert isinstance(caught, ast.Try)
        caught.body = [statement]
        return caught


def skip(error: BaseException) -> None:
    """A statement failed: one line, and the next one runs."""
    words = " ".join(str(error).split())[:200]
    print(f"skipped: {type(error).__name__}: {words}")


def begin() -> None:
    """Before the first cell: the seed, the names of the set-up cell, and what stands in for what is wrong."""
    from IPython import get_ipython

    from .. import check, yours

    shell = get_ipython()
    warnings.simplefilter("ignore")
    sys.stderr = (
        sys.stdout
    )  # nbgrader takes a line on stderr for a failure, and a progress bar is none
    yours.skipping = False
    device, budget = check.start()
    shell.user_ns.update(device=device, budget=budget, check=check)
    each = _Each()
    shell.ast_transformers.append(each)

    def before(info: Any) -> None:
        each.on = not info.raw_cell.startswith(HEAD)
        if each.on and "@yours" in info.raw_cell:
            return
        stand_in(shell.user_ns)

    shell.events.register("pre_run_cell", before)


def stand_in(names: dict[str, Any]) -> None:
    """Put the course's own where a core function is missing or wrong; one that nobody has judged yet stays."""
    from ..yours import verdicts

    for name, core in CORE.items():
        if name not in names or verdicts.get(name) is not None:
            names[name] = core.reference
