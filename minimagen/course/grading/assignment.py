"""A chapter as nbgrader's source: its solutions in their marks, and a graded cell behind each of them."""

from __future__ import annotations

import ast
import hashlib
import re
from dataclasses import dataclass

from ..core import CORE
from ..editions import Book, split, text_of

FUNCTION, EXERCISE = 2, 1  # points
HEAD = "# graded: "  # a cell that gives points begins with this
_CHECK = re.compile(r"^(?:try:\n)?[ \t]+(check\.(\w+)\((.*)\))$", re.M)

# Experiments of minutes: they are not run again, and a teacher marks what was handed in.
BY_HAND = {"copies", "which_target", "the_word_moves"}

# Checks that need what the notebook made in minutes: here is something small in its place.
SMALL = {
    "eye_and_judge": (
        "assert my_counts is not None, 'count with your own eyes first'\n"
        "assert len(my_counts) == 4 and all(0 <= n <= 3 for n in my_counts), 'four numbers, each from 0 to 3'"
    ),
    "mirrored_too": (
        "import torch\n"
        "from minimagen.course import check\n"
        "mark = torch.randn(3, 8, 8)\n"
        "score = lambda pictures: (pictures * mark).mean((1, 2, 3))\n"
        "clean = 0.1 * torch.randn(4, 3, 8, 8)\n"
        "check.mirrored_too(score_both, score, clean, clean + mark, 0.5)"
    ),
}


@dataclass(frozen=True)
class Marked:
    """A cell that is marked: what gives the points, and which names it must make."""

    grade_id: str
    points: int
    names: tuple[str, ...]  # what the student's cell defines
    test: str  # code that raises where there are no points; "" where a teacher marks by hand

    @property
    def by_hand(self) -> bool:
        return not self.test


def marked(cell: dict) -> Marked | None:
    """What a cell of a complete edition is marked for, or None."""
    text = text_of(cell)
    if cell["cell_type"] != "code" or "### BEGIN SOLUTION" not in text:
        return None
    tree = ast.parse(text)
    made = _defined(tree)
    core = [name for name in made if name in CORE]
    if core and "@yours" in text:
        test = f'from minimagen.course.yours import points\n\npoints("{core[0]}")'
        return Marked(core[0], FUNCTION, (core[0],), test)
    called = [found for found in _CHECK.finditer(text) if found.start() > text.find("### END")]
    if not called:
        return Marked(made[0], EXERCISE, (made[0],), "")
    call, name, arguments = called[-1].groups()
    asked = [a.strip() for a in arguments.split(",")]
    names = tuple(a for a in asked if a in made) or (made[0],)
    if name in BY_HAND:
        return Marked(name, EXERCISE, names, "")
    grade_id = name if name != "discharged" else f"{name}_{names[0]}"
    return Marked(
        grade_id,
        EXERCISE,
        names,
        SMALL.get(name, f"from minimagen.course import check\n\n{call}"),
    )


def _defined(tree: ast.Module) -> list[str]:
    """Names that a cell makes at its top level, in their order."""
    found: list[str] = []
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found.append(node.name)
        elif isinstance(node, ast.Assign):
            found += [n.id for t in node.targets for n in ast.walk(t) if isinstance(n, ast.Name)]
    return list(dict.fromkeys(found))


def grader(found: Marked, hidden: bool = True) -> dict:
    """The locked cell that gives the points. Its test is hidden until nbgrader marks."""
    test = f"### BEGIN HIDDEN TESTS\n{found.test}\n### END HIDDEN TESTS" if hidden else ""
    points = f"{found.points} point{'s' if found.points > 1 else ''}"
    source = f"{HEAD}{found.grade_id}, {points}\n{test}".rstrip("\n")
    return {
        "cell_type": "code",
        "id": "graded-" + hashlib.sha256(found.grade_id.encode()).hexdigest()[:8],
        "metadata": {
            "nbgrader": _metadata(
                f"{found.grade_id}-points", grade=True, locked=True, points=found.points
            )
        },
        "source": source.splitlines(keepends=True),
        "outputs": [],
        "execution_count": None,
    }


def _metadata(grade_id: str, **given: object) -> dict:
    return {
        "grade_id": grade_id,
        "schema_version": 3,
        "cell_type": "code",
        "grade": False,
        "solution": False,
        "locked": False,
        "task": False,
    } | given


def answer_metadata(found: Marked) -> dict:
    """nbgrader's metadata of the cell in which the student answers."""
    if found.by_hand:
        return _metadata(found.grade_id, solution=True, grade=True, points=found.points)
    return _metadata(found.grade_id, solution=True)


def source(book: Book) -> Book:
    """The complete edition of a chapter → nbgrader's source. Raises ValueError for two cells with one name."""
    made, _ = split(book, keep_solutions=True)
    cells: list[dict] = []
    for cell in made["cells"]:
        cells.append(cell)
        if found := marked(cell):
            cell["metadata"]["nbgrader"] = answer_metadata(found)
            if not found.by_hand:
                cells.append(grader(found))
    made["cells"] = cells
    names = [m.grade_id for m in graded(book)]
    if len(names) != len(set(names)):
        raise ValueError(f"two cells are marked under one name: {', '.join(sorted(names))}")
    return made


def graded(book: Book) -> list[Marked]:
    """What is marked in a chapter, in its order."""
    return [m for m in map(marked, book["cells"]) if m is not None]
