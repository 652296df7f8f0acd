"""Assignments out, submissions in, marks: nbgrader's three commands in one, and a table for the class.

    python -m minimagen.course.grading assignments --to grades
    python -m minimagen.course.grading grade FOLDER --to grades

The folder is nbgrader's: source/, release/, submitted/, autograded/, feedback/, gradebook.db, so that all of its
other tools work there too. results/STUDENT/result.json and class.csv are written beside them.
"""

from __future__ import annotations

import contextlib
import csv
import json
import queue
import re
import shutil
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..editions import NOTEBOOKS, Book, is_complete, written
from ..editions import read as read_book
from ..kept import write_whole
from .assignment import graded, source
from .submission import Unreadable, fit, read
from .worker import Worker

SECONDS = 600  # for one submission in all; a cell has 30
CONFIG = """# Made by minimagen.course.grading, and made again at each run.
from nbgrader.preprocessors import (
    AssignLatePenalties, CheckCellMetadata, DeduplicateIds, LimitOutput,
    OverwriteCells, OverwriteKernelspec, SaveAutoGrades,
)

from minimagen.course.grading.execute import Quick

c = get_config()  # noqa: F821
c.CourseDirectory.course_id = "minimagen"
c.ClearSolutions.code_stub = {"python": "..."}
# no ClearOutput: cells that are not run again keep what the student saw
c.Autograde.sanitize_preprocessors = [
    DeduplicateIds, OverwriteKernelspec, OverwriteCells, CheckCellMetadata,
]
c.Autograde.autograde_preprocessors = [
    Quick, LimitOutput, SaveAutoGrades, AssignLatePenalties, CheckCellMetadata,
]
c.Quick.timeout = 30  # seconds for one cell
"""


class CannotGrade(Exception):
    """A sentence for whoever typed the command."""


@dataclass
class Row:
    """One chapter of one student."""

    student: str
    chapter: str
    cells: dict[str, dict[str, Any]] = field(default_factory=dict)
    said: str = ""  # about the whole submission

    @property
    def points(self) -> float:
        return sum(c["points"] or 0 for c in self.cells.values())

    @property
    def of(self) -> float:
        """What can be reached so far: an answer that waits for its teacher does not count yet."""
        return sum(c["of"] for c in self.cells.values() if c["points"] is not None)

    @property
    def open(self) -> int:
        return sum(c["points"] is None for c in self.cells.values())


# Assignments


def chapters(wanted: Iterable[str] = ()) -> dict[str, Path]:
    """Stem → complete edition; `wanted` are numbers such as 01, or stems. Raises CannotGrade for an unknown one."""
    found = {
        path.stem: path
        for path in sorted((NOTEBOOKS / "solutions").glob("[0-9]*.ipynb"))
        if is_complete(book := read_book(path)) and graded(book)
    }
    wanted = list(wanted)
    for name in wanted:
        if not any(stem == name or stem.startswith(f"{name}_") for stem in found):
            raise CannotGrade(f"there is no chapter {name}: there are {', '.join(found)}")
    return {
        stem: path
        for stem, path in found.items()
        if not wanted or stem in wanted or stem[:2] in wanted
    }


def assignments(
    to: Path, wanted: Iterable[str] = (), worker: Worker | None = None
) -> dict[str, Book]:
    """Sources and released notebooks, where they are not up to date. Returns stem → complete edition."""
    if worker is None:
        with Worker(to) as worker:
            return assignments(to, wanted, worker)
    to.mkdir(parents=True, exist_ok=True)
    write_whole(to / "nbgrader_config.py", CONFIG)
    return {stem: _assignment(stem, path, to, worker) for stem, path in chapters(wanted).items()}


def _assignment(stem: str, path: Path, to: Path, worker: Worker) -> Book:
    book = read_book(path)
    text, own = written(source(book)), to / "source" / stem / path.name
    made = own.is_file() and own.read_text(encoding="utf-8") == text
    if not made or not (to / "release" / stem / path.name).is_file():
        own.parent.mkdir(parents=True, exist_ok=True)
        write_whole(own, text)
        if failed := worker.ask("generate_assignment", stem):
            own.unlink()
            raise CannotGrade(f"nbgrader could not make the assignment {stem}: {failed}")
    return book


# Submissions


def collect(folder: Path, stems: Iterable[str]) -> dict[str, dict[str, Path]]:
    """Student → chapter → file. A student's folder holds notebooks at any depth; a file that lies in the open
    names its student before the chapter: lee_01_forward_diffusion.ipynb. Of two files the newer counts.
    """
    if not folder.is_dir():
        raise CannotGrade(
            f"{folder} is no folder: make grade FROM=the folder with what was handed in"
        )
    found: dict[str, dict[str, Path]] = {}
    for path in sorted(folder.iterdir()):
        if path.is_dir() and not path.name.startswith("."):
            found.setdefault(_id(path.name), {})
    for path in sorted(folder.rglob("*.ipynb"), key=lambda p: p.stat().st_mtime):
        parts = path.relative_to(folder).parts
        chapter = next((stem for stem in stems if stem in path.name), None)
        if chapter is None or path.name.endswith(".new.ipynb"):
            continue
        if any(part.startswith(".") or part == "solutions" for part in parts):
            continue
        before = path.name.partition(chapter)[0].strip(" _-.")
        student = _id(parts[0] if len(parts) > 1 else before or "nobody named")
        found.setdefault(student, {})[chapter] = path
    if not any(found.values()):
        raise CannotGrade(
            f"no chapter was found in {folder}: a folder for each student, with notebooks such as "
            "01_forward_diffusion.ipynb in it"
        )
    return found


def _id(name: str) -> str:
    return re.sub(r"[^\w.@+-]+", "_", name.strip()) or "nobody"


def grade(
    folder: Path, to: Path, wanted: Iterable[str] = (), jobs: int = 1, feedback: bool = True
) -> list[Row]:
    """Mark everything that was handed in. One student's notebook never stops another's."""
    known = chapters(wanted)
    handed_in = collect(folder, known)
    stems = [stem for stem in known if any(stem in own for own in handed_in.values())]
    waiting: queue.SimpleQueue[tuple[str, str]] = queue.SimpleQueue()
    for stem in stems:
        for student in sorted(handed_in):
            waiting.put((student, stem))
    rows: list[Row] = []

    def work(worker: Worker) -> None:
        while not waiting.empty():
            with contextlib.suppress(queue.Empty):
                student, stem = waiting.get_nowait()
                rows.append(_row(student, stem, handed_in[student].get(stem), books[stem], worker))

    with contextlib.ExitStack() as stack:
        workers = [stack.enter_context(Worker(to)) for _ in range(max(1, jobs))]
        books = assignments(to, stems, workers[0])
        with ThreadPoolExecutor(max_workers=len(workers)) as pool:
            list(pool.map(work, workers))
        if feedback:
            _feedback(stems, workers[0])
    rows.sort(key=lambda row: (row.chapter, row.student))
    _results(rows, to)
    return rows


def _feedback(stems: list[str], worker: Worker) -> None:
    for stem in stems:
        if any((worker.to / "autograded").glob(f"*/{stem}/*.ipynb")) and (
            failed := worker.ask("generate_feedback", stem)
        ):
            print(f"feedback of {stem}: {failed}")


def _row(student: str, stem: str, path: Path | None, complete: Book, worker: Worker) -> Row:
    row = Row(student, stem)
    try:
        _one(row, path, complete, worker)
    except Exception as error:
        row.said = f"it could not be marked ({type(error).__name__}: {error})"[:300]
        row.cells = _nothing(complete, "not marked")
    _say(row)
    return row


def _one(row: Row, path: Path | None, complete: Book, worker: Worker) -> None:
    to = worker.to
    own = to / "submitted" / row.student / row.chapter
    for stale in (own, to / "autograded" / row.student / row.chapter):
        if stale.is_dir():
            _remove(stale)
    if path is None:
        row.said = "not handed in"
        row.cells = _nothing(complete, row.said)
        return
    try:
        book, missing = fit(read(path.read_text(encoding="utf-8", errors="replace")), complete)
    except (Unreadable, OSError) as error:
        row.said = str(error)
        row.cells = _nothing(complete, "not read")
        return
    if missing:
        row.said = f"not found: {', '.join(missing)}"
    own.mkdir(parents=True)
    write_whole(own / f"{row.chapter}.ipynb", written(book))
    if failed := worker.ask("autograde", row.chapter, row.student, SECONDS):
        row.said = "; ".join(filter(None, (row.said, failed)))
        row.cells = _nothing(complete, "not marked")
        return
    row.cells = _marks(row, complete, to)


def _remove(folder: Path) -> None:
    """nbgrader leaves its files read-only."""
    for path in folder.rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)
    shutil.rmtree(folder)


def _nothing(complete: Book, said: str) -> dict[str, dict[str, Any]]:
    return {m.grade_id: {"points": 0, "of": m.points, "said": said} for m in graded(complete)}


def _marks(row: Row, complete: Book, to: Path) -> dict[str, dict[str, Any]]:
    """Points from the gradebook (with what a teacher gave by hand), sentences from the marked notebook."""
    from nbgrader.api import Gradebook

    path = to / "autograded" / row.student / row.chapter / f"{row.chapter}.ipynb"
    said = {
        cell["metadata"]["nbgrader"]["grade_id"]: _sentence(cell)
        for cell in read_book(path)["cells"]
        if cell["metadata"].get("nbgrader", {}).get("grade_id")
    }
    with Gradebook(f"sqlite:///{to / 'gradebook.db'}") as gradebook:
        grades = {
            g.name: g
            for g in gradebook.find_submission_notebook(
                row.chapter, row.chapter, row.student
            ).grades
        }
        cells = {}
        for m in graded(complete):
            found = grades.get(m.grade_id if m.by_hand else f"{m.grade_id}-points")
            waits = found is not None and found.needs_manual_grade and found.manual_score is None
            points = None if waits else _number(found.score if found is not None else 0)
            sentence = "" if m.by_hand else said.get(f"{m.grade_id}-points", "")
            if waits:
                sentence = "to be marked by hand"
            elif m.by_hand:
                sentence = "marked by hand" if points else "no answer"
            elif "did not run" in sentence or "NameError" in sentence:
                sentence = said.get(m.grade_id) or sentence
            cells[m.grade_id] = {"points": points, "of": m.points, "said": sentence or "right"}
    return cells


def _number(points: float) -> float:
    return int(points) if float(points).is_integer() else float(points)


def _sentence(cell: dict) -> str:
    """What a marked cell says: its error in one line, nothing where there is none."""
    for output in cell.get("outputs", []):
        if output["output_type"] == "error":
            words = " ".join(output["evalue"].split())
            if output["ename"] in ("CellTimeoutError", "KeyboardInterrupt"):
                return "it does not come to an end: it was stopped"
            return (
                words
                if output["ename"] in ("AssertionError", "Stopped")
                else f"{output['ename']}: {words}"
            )[:300]
    return ""


def _say(row: Row) -> None:
    said = f"  ({row.said})" if row.said else ""
    print(f"{row.chapter}  {row.student}: {row.points:g} of {row.of:g}{said}", flush=True)


# Results


def _results(rows: list[Row], to: Path) -> None:
    for student in dict.fromkeys(row.student for row in rows):
        own = [row for row in rows if row.student == student]
        result = {
            "student": student,
            "points": sum(row.points for row in own),
            "of": sum(row.of for row in own),
            "by_hand": sum(row.open for row in own),
            "chapters": {
                row.chapter: {
                    "points": row.points,
                    "of": row.of,
                    "by_hand": row.open,
                    "said": row.said,
                    "cells": row.cells,
                }
                for row in own
            },
        }
        path = to / "results" / student / "result.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, json.dumps(result, indent=1, ensure_ascii=False) + "\n")
    head, lines = table(rows)
    with (to / "class.csv").open("w", newline="", encoding="utf-8-sig") as file:
        csv.writer(file).writerows([head, *lines])


def table(rows: list[Row]) -> tuple[list[str], list[list[str]]]:
    """The class: a line for each student, a column for each chapter."""
    stems = list(dict.fromkeys(row.chapter for row in rows))
    head = ["student", *stems, "points", "of", "by hand", "remarks"]
    lines = []
    for student in sorted({row.student for row in rows}):
        own = {row.chapter: row for row in rows if row.student == student}
        remarks = [f"{stem[:2]}: {own[stem].said}" for stem in stems if own[stem].said]
        remarks += [
            f"{stem[:2]} {name}: {cell['said']}"
            for stem in stems
            for name, cell in own[stem].cells.items()
            if cell["points"] == 0
            and cell["said"] not in ("not handed in", "not read", "not marked")
        ]
        lines.append(
            [
                student,
                *(f"{own[stem].points:g}" for stem in stems),
                f"{sum(row.points for row in own.values()):g}",
                f"{sum(row.of for row in own.values()):g}",
                str(sum(row.open for row in own.values())),
                "; ".join(remarks),
            ]
        )
    return head, lines


def show(rows: list[Row]) -> None:
    """Print the table, and what most of the class missed."""
    head, lines = table(rows)
    short = [h[:2] if re.match(r"\d\d_", h) else h for h in head[:-1]]
    widths = [max(len(line[i]) for line in [short, *lines]) for i in range(len(short))]
    for line in [short, *lines]:
        print("  ".join(text.ljust(w) if i == 0 else text.rjust(w)
                        for i, (text, w) in enumerate(zip(line, widths, strict=False))))  # fmt: skip
    missed: dict[str, int] = {}
    for row in rows:
        for name, cell in row.cells.items():
            if cell["points"] == 0:
                missed[f"{row.chapter[:2]} {name}"] = missed.get(f"{row.chapter[:2]} {name}", 0) + 1
    students = len({row.student for row in rows})
    for name, count in sorted(missed.items(), key=lambda pair: -pair[1])[:5]:
        print(f"missed by {count} of {students}: {name}")
