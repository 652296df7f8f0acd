"""What a student hands in, fitted to the assignment: the learner's own notebook, or the one that nbgrader released.

Cells may have lost their ids, been copied, moved or deleted: each answer is found by nbgrader's name, by the
function or the variable that it makes, or by the cell's id. What can't be found gets 0 points, and a sentence.
"""

from __future__ import annotations

import copy
import json
import re
import warnings

from ..editions import SOLUTION, Book, text_of
from .assignment import Marked, answer_metadata, graded, grader, marked

LARGEST = 30_000_000  # bytes: a notebook with more in it is not opened


class Unreadable(Exception):
    """It can't be marked at all; the sentence says why."""


def read(text: str) -> Book:
    """A notebook that was handed in. Raises Unreadable."""
    if len(text) > LARGEST:
        raise Unreadable(
            f"the file has {len(text) / 1e6:.0f} MB: hand it in with its outputs cleared"
        )
    if not text.strip():
        raise Unreadable("the file is empty")
    try:
        import nbformat

        with warnings.catch_warnings():  # about ids: each cell gets a new one
            warnings.simplefilter("ignore")
            book = json.loads(json.dumps(nbformat.reads(text, as_version=4)))
    except Exception as error:
        raise Unreadable(f"it is no notebook ({type(error).__name__})") from error
    cells = [c for c in book.get("cells", []) if isinstance(c, dict) and "source" in c]
    book["cells"] = [c for c in cells if c.get("cell_type") in ("code", "markdown", "raw")]
    if not any(c["cell_type"] == "code" for c in cells):
        raise Unreadable("there is no code in it")
    return book


def fit(handed_in: Book, complete: Book) -> tuple[Book, list[str]]:
    """The notebook for nbgrader, and which answers were not found. `complete`: the chapter's complete edition."""
    book = copy.deepcopy(handed_in)
    for cell in book["cells"]:
        cell["metadata"]["nbgrader_was"] = cell["metadata"].pop("nbgrader", {})
    book["cells"] = [c for c in book["cells"] if not _is_grader(c)]
    ids = {m.grade_id: c.get("id", "") for c in complete["cells"] if (m := marked(c)) is not None}
    missing, at_the_end = [], []
    behind: dict[int, dict] = {}
    taken: set[int] = set()
    for found in graded(complete):
        place = _place(book["cells"], found, ids[found.grade_id], taken)
        if place is None:
            missing.append(found.grade_id)
            at_the_end += [_stub(complete, found)] if found.by_hand else [grader(found, False)]
            continue
        taken.add(place)
        book["cells"][place]["metadata"]["nbgrader"] = answer_metadata(found)
        if not found.by_hand:
            behind[place] = grader(found, False)
    cells: list[dict] = []
    for i, cell in enumerate(book["cells"]):
        cells += [cell] + ([behind[i]] if i in behind else [])
    book["cells"] = _clean(cells + at_the_end)
    book["metadata"] = {
        "kernelspec": complete["metadata"]["kernelspec"],
        "language_info": complete["metadata"].get("language_info", {"name": "python"}),
    }
    return book | {"nbformat": 4, "nbformat_minor": 5}, missing


def _is_grader(cell: dict) -> bool:
    was = cell["metadata"]["nbgrader_was"]
    return isinstance(was, dict) and bool(was.get("grade")) and not was.get("solution")


def _place(cells: list[dict], found: Marked, cell_id: str, taken: set[int]) -> int | None:
    """The cell with the answer: the last that makes what is asked for; else the one with its name or id."""
    code = [i for i, c in enumerate(cells) if c["cell_type"] == "code" and i not in taken]
    made = [
        i
        for i in code
        if all(re.search(_makes(name), text_of(cells[i]), re.M) for name in found.names)
    ]
    named = [i for i in code if _named(cells[i]) == found.grade_id or cells[i].get("id") == cell_id]
    both = [i for i in made if i in named]
    with_yours = [i for i in made if "@yours" in text_of(cells[i])]
    written = [i for i in with_yours or made if not _is_untouched(text_of(cells[i]))]
    for candidates in (
        [i for i in both if i in written],
        written if with_yours else [],
        both,
        made,
        named,
    ):
        if candidates:
            return candidates[-1]
    return None


def _makes(name: str) -> str:
    return rf"^(?:async def|def|class) {name}\b|^(?:[\w, ]*, *)?{name}\b *(?:,[\w, ]*)?(?::[^=\n]*)?=(?!=)"


def _is_untouched(text: str) -> bool:
    """Does the body of `...` still stand there?"""
    return re.search(r"^[ \t]*\.\.\.[ \t]*$", text, re.M) is not None


def _named(cell: dict) -> str:
    was = cell["metadata"]["nbgrader_was"]
    return str(was.get("grade_id", "")) if isinstance(was, dict) else ""


def _stub(complete: Book, found: Marked) -> dict:
    """The cell as it was given out: nbgrader sees that nobody wrote in it."""
    cell = next(c for c in complete["cells"] if marked(c) == found)
    text = SOLUTION.sub(r"\g<in>...", text_of(cell))
    return {
        "cell_type": "code",
        "metadata": {"nbgrader": answer_metadata(found)},
        "source": text.splitlines(keepends=True),
        "outputs": [],
        "execution_count": None,
    }


def _clean(cells: list[dict]) -> list[dict]:
    """Every cell has an id of its own, and no metadata that a marker could stumble over."""
    for i, cell in enumerate(cells):
        cell["id"] = f"cell-{i}"
        kept = {k: v for k, v in cell["metadata"].items() if k == "nbgrader"}
        cell["metadata"] = kept
        if cell["cell_type"] == "code":
            cell["outputs"] = [o for o in cell.get("outputs", []) if isinstance(o, dict)]
            cell["execution_count"] = None
            for output in cell["outputs"]:
                if output.get("output_type") == "execute_result":
                    output["execution_count"] = None
        cell.pop("attachments", None) if cell["cell_type"] == "code" else None
    return cells
