"""The plans of the teacher's guide, walked with a clock: what each row of each plan computes, in seconds.

    .venv/bin/python tests/benchmarks/walk.py measure            # a quiet machine, two cores, about an hour
    .venv/bin/python tests/benchmarks/walk.py measure 03 --budget quick --out /tmp/walk.json
    .venv/bin/python tests/benchmarks/walk.py plans              # from walk.json; --rows: each row

`measure` runs the complete editions and keeps the seconds of each cell. A row of a plan runs the cells
that it names and all that were skipped above them; what is not done at a row's end runs on under the next one.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
NOTEBOOKS = ROOT / "notebooks"
GUIDE = NOTEBOOKS / "TEACHING.md"


def read(path: Path) -> dict:
    return json.loads(path.read_text(encoding="utf-8"))


def edition(number: str) -> Path:
    (path,) = (NOTEBOOKS / "solutions").glob(f"{number}_*.ipynb")
    return path


# --- the clock ----------------------------------------------------------------------------------


def measure(number: str) -> dict[str, float]:
    """Seconds of each code cell of a complete edition, by its name; what took less than 0.05 is left out."""
    import nbformat
    from nbclient import NotebookClient

    path = edition(number)
    book = nbformat.read(path, as_version=4)
    with tempfile.TemporaryDirectory() as work:
        os.environ["MINIMAGEN_WORK"] = work  # nothing is kept from an earlier run
        where = {"metadata": {"path": str(path.parent)}}
        NotebookClient(book, timeout=None, record_timing=True, resources=where).execute()
    took = {c["id"]: seconds(c) for c in book.cells if c.cell_type == "code"}
    return {name: round(s, 1) for name, s in took.items() if s >= 0.05}


def seconds(cell: dict) -> float:
    told = cell["metadata"].get("execution", {})
    if not {"iopub.execute_input", "shell.execute_reply"} <= set(told):
        return 0.0
    begin, end = (
        datetime.fromisoformat(told[name].replace("Z", "+00:00"))
        for name in ("iopub.execute_input", "shell.execute_reply")
    )
    return (end - begin).total_seconds()


# --- the plans ----------------------------------------------------------------------------------


@dataclass
class Row:
    """A row of a plan: minutes, what is done, and the cells that it names."""

    minutes: int
    what: str
    cells: str


def rows(text: str, title: str) -> list[Row]:
    """The plan under a heading that begins with `title`."""
    found = re.search(rf"^## {re.escape(title)}.*?$(.*?)(?=^## |\Z)", text, re.M | re.S)
    assert found, title
    table = []
    for line in found[1].splitlines():
        begins = re.match(r"\| (?:(\d+):)?(\d+)–(?:(\d+):)?(\d+) \|", line)
        if begins:
            clock = [60 * int(begins[i] or 0) + int(begins[i + 1]) for i in (1, 3)]
            _, what, cells, *_ = (part.strip() for part in line.strip("|").split("|"))
            table.append(Row(clock[1] - clock[0], what, cells))
    return table


class Chapter:
    """A chapter in one session: how far it has been run."""

    def __init__(self, cells: list[dict], took: dict[str, float]) -> None:
        self.cells, self.took = cells, took
        self.text = ["".join(cell["source"]) for cell in cells]
        self.done = 0  # cells before this one have been run

    def run(self, row: Row) -> float:
        """Seconds that a row computes: what it names, and what stands above and was not run."""
        named = names(row.cells)
        if "saved figure" in row.what:  # of the complete edition
            named = []
        elif "on paper" in row.what:  # an exercise in words; what stands in a heading is run
            named = [name for name in named if name[0] != "#"]
        end = max(map(self.end, named), default=0)
        begin, self.done = self.done, max(self.done, end)
        return sum(self.took.get(cell["id"], 0.0) for cell in self.cells[begin : self.done])

    def end(self, name: str) -> int:
        """The cell after those of a heading, a function or an exercise; 0 where it has none to run."""
        kind, name = name[0], name[1:]
        if kind == "`":
            written = rf"^(?:def|class) {re.escape(name)}\b"
            return next(i for i, text in enumerate(self.text) if re.search(written, text, re.M)) + 1
        if kind == "“":
            begins = rf"^##+ {re.escape(name)}$"
        else:
            begins = rf"\*\*{name} · "
        first = next(
            i
            for i, text in enumerate(self.text)
            if self.cells[i]["cell_type"] == "markdown" and re.search(begins, text, re.M)
        )
        last = first
        for number in range(first + 1, len(self.cells)):
            if self.cells[number]["cell_type"] == "code":
                last = number
            elif re.search(r"^##+ |\*\*\d · ", self.text[number], re.M):
                break
        return last + 1 if last > first else 0


def names(cells: str) -> list[str]:
    """“a heading → “a heading, `function` → `function, exercise 2 → #2."""
    found = re.findall(r"“([^”]+)”|`([^`]+)`|exercise (\d)", cells)
    return [f"“{h}" if h else f"`{f}" if f else f"#{e}" for h, f, e in found]


@dataclass
class Step:
    """One row on the clock: the seconds that it computes, and those that are left when it ends."""

    row: Row
    seconds: float
    left: float


def walk(plan: list[tuple[Row, float]]) -> list[Step]:
    steps, left = [], 0.0
    for row, computed in plan:
        left = max(0.0, left + computed - 60 * row.minutes)
        steps.append(Step(row, computed, left))
    return steps


def page(number: str, length: int, took: dict) -> list[tuple[Row, float]]:
    """The plan of 50 or 90 minutes of a chapter's page."""
    chapter = Chapter(read(edition(number))["cells"], took[number])
    text = (NOTEBOOKS / "teaching" / f"{number}.md").read_text(encoding="utf-8")
    return [(row, chapter.run(row)) for row in rows(text, f"{length} minutes")]


def short_course(title: str, took: dict) -> list[tuple[Row, float]]:
    """The taster or the workshop, in the guide itself: whole pages, or cells of chapters that stay open."""
    open_chapters: dict[str, Chapter] = {}
    plan = []
    for row in rows(GUIDE.read_text(encoding="utf-8"), title):
        computed = 0.0
        for number, named in re.findall(r"\[(\d\d)\]\(\S+\)([^\[]*)", row.cells):
            chapter = open_chapters.setdefault(
                number, Chapter(read(edition(number))["cells"], took[number])
            )
            if ", 50 minutes" in named:
                text = (NOTEBOOKS / "teaching" / f"{number}.md").read_text(encoding="utf-8")
                computed += sum(map(chapter.run, rows(text, "50 minutes")))
            else:
                computed += chapter.run(Row(row.minutes, row.what, named))
        plan.append((row, computed))
    return plan


def sessions(took: dict) -> Iterator[tuple[str, int, float]]:
    """The twelve sessions: what each holds, the minutes that the guide tells, the seconds that were measured.

    A part of a chapter that is no plan of its page counts as the whole chapter.
    """
    text = GUIDE.read_text(encoding="utf-8").split("## Twelve sessions")[1]
    for parts, said in re.findall(r"^\| \d+ \| (.+?) \| (\d+) \|", text, re.M):
        computed = 0.0
        for number, plan in re.findall(r"\[(\d\d)\]\(\S+\)([^;]*)", parts):
            length = re.fullmatch(r", (50|90) minutes", plan.strip(" ") or "")
            if length:
                computed += sum(s for _, s in page(number, int(length[1]), took))
            else:
                computed += sum(took[number].values())
        yield re.sub(r"\[(\d\d)\]\(\S+?\)", r"\1", parts), int(said), computed


def lines_of(name: str, plan: list[tuple[Row, float]], each: bool) -> list[str]:
    """A line of the table of plans, and with `each` the rows below it."""
    steps = walk(plan)
    over = [step for step in steps if step.seconds > 60 * step.row.minutes]
    lines = [
        f"| {name} | {sum(s.row.minutes for s in steps)} | {sum(s.seconds for s in steps) / 60:.1f} "
        f"| {max(s.seconds for s in steps):.0f} | {len(over)} | {steps[-1].left:.0f} |"
    ]
    for step in steps if each else []:
        lines.append(
            f"|   {step.row.what[:60]} | {step.row.minutes} | {step.seconds / 60:.1f} "
            f"| {step.seconds:.0f} | {'over' if step in over else ''} | {step.left:.0f} |"
        )
    return lines


def tables(kept: dict, each: bool = False) -> str:
    took = kept["chapters"]
    machine = f"{kept['machine']}, {kept['threads']} threads, budget {kept['budget']}"
    head = (
        "| plan | minutes | computing, minutes | longest row, seconds | rows that compute longer than they last "
        "| seconds left at the end |\n| --- | --- | --- | --- | --- | --- |"
    )
    lines = [f"Measured on {machine}.\n", head]
    for number in sorted(took):
        for length in (50, 90):
            lines += lines_of(f"{number}, {length} minutes", page(number, length, took), each)
    if len(took) == 16:
        lines += lines_of("taster", short_course("One hour", took), each)
        lines += lines_of("workshop", short_course("One day", took), each)
        lines += ["\n| session | the guide says, minutes | measured |\n| --- | --- | --- |"]
        lines += [f"| {n} | {said} | {s / 60:.1f} |" for n, said, s in sessions(took)]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("do", choices=("measure", "plans"))
    parser.add_argument("chapters", nargs="*", help="00, 03 …; none: all")
    parser.add_argument("--budget", default="laptop", choices=("quick", "laptop"))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rows", action="store_true", help="each row of each plan")
    parser.add_argument("--out", type=Path, default=HERE / "walk.json")
    chosen = parser.parse_args()
    kept = read(chosen.out) if chosen.out.exists() else {}
    if chosen.do == "measure":
        facts = {"budget": chosen.budget, "threads": chosen.threads, "machine": machine()}
        if any(kept.get(name) != value for name, value in facts.items()):
            kept = {**facts, "chapters": {}}  # numbers of two machines do not mix
        os.environ.update(MINIMAGEN_BUDGET=chosen.budget, OMP_NUM_THREADS=str(chosen.threads))
        os.environ.update(CUDA_VISIBLE_DEVICES="", PYTHONPATH=str(ROOT))
        known = sorted(p.name[:2] for p in (NOTEBOOKS / "solutions").glob("[0-9]*.ipynb"))
        for number in chosen.chapters or known:
            kept["chapters"][number] = measure(number)
            chosen.out.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
            print(f"{number}: {sum(kept['chapters'][number].values()):.0f} seconds", flush=True)
    elif not kept:
        raise SystemExit(f"{chosen.out} is not there: measure first")
    print(tables(kept, chosen.rows))


def machine() -> str:
    """The processor's name, where Linux tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(x.partition(": ")[2] for x in lines if x.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


if __name__ == "__main__":
    main()
