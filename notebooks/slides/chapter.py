"""What a chapter's complete edition holds for a talk: its parts, in the order of the chapter.

Nothing is chosen or drawn here: choose.py picks what fits into a talk, page.py makes slides of it.
"""

from __future__ import annotations

import ast
import base64
import json
import re
import textwrap
from dataclasses import dataclass, field
from pathlib import Path

BEFORE = re.compile(r"\*\*Before you[^*]*\*\*\s*")
DETAILS = re.compile(r"<details><summary>(.*?)</summary>\s*(.*?)\s*</details>", re.S)
MARKS = re.compile(r"^[ \t]*### (BEGIN|END) \w+.*\n?", re.M)
PICTURE = re.compile(r"!\[[^\]]*\]\[(?P<name>[\w-]+)@[0-9a-f]{8}\]")
DEFINITION = re.compile(r"^\[[\w-]+@[0-9a-f]{8}\]: data:\S+$", re.M)
RANGE = re.compile(r"\[a slider from (\S+) to (\S+): ")
TRUTH = re.compile(r"^You (?:made no guess\. It is|said .*, and it is) (≈ .+)$", re.M)


TEACHING = Path(__file__).resolve().parents[1] / "teaching"


@dataclass
class Figure:
    """A picture that a cell showed, and what it claims."""

    image: bytes  # PNG
    alt: str
    claims: list[str]
    live: str = ""  # HTML of a slider through pictures, where the figure is its still form


@dataclass
class Part:
    """One thing to show. kind: question, figure, equation, diagram or function."""

    kind: str
    cell: str  # id of its cell
    section: str
    notes: list[str]  # prose, as Markdown
    text: str = ""  # a question; TeX; the name of a diagram; the source of a function
    label: str = ""  # what a guess is about; what a function's text asks for
    low: str = ""
    high: str = ""
    truth: str = ""
    claims: list[str] = field(default_factory=list)  # of a question whose answer has no figure
    figures: list[Figure] = field(default_factory=list)
    answer_notes: list[str] = field(default_factory=list)


@dataclass
class Chapter:
    """A complete edition, taken apart."""

    number: str
    question: str
    promise: str
    facts: str  # the table at the head
    parts: list[Part] = field(default_factory=list)
    summary: list[str] = field(default_factory=list)
    quiz: list[tuple[str, str]] = field(default_factory=list)


def read(path: Path) -> Chapter:
    """Take a complete edition apart. Raises ValueError where it lacks a title, a promise, a summary or a quiz."""
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    head = "".join(cells[0]["source"])
    title = re.search(r"^# (\d\d) · (.+)$", head, re.M)
    promise = re.search(r"^\*\*The promise:\*\* (.+)$", head, re.M)
    if title is None or promise is None:
        raise ValueError(f"{path.name}: its first cell has no title or no promise")
    facts = "\n".join(re.findall(r"^\|.*\|$", head, re.M))
    chapter = Chapter(title[1], title[2].strip(), promise[1].strip(), facts)
    _Reader(chapter).read(cells[1:])
    ask_back(chapter, TEACHING / f"{title[1]}.md")
    if not chapter.summary or not chapter.quiz:
        raise ValueError(f"{path.name}: it has no five lines or no quiz")
    return chapter


def ask_back(chapter: Chapter, page: Path) -> None:
    """Add to the notes what the teacher's page says: likely guesses, what to ask then, a sentence to open with."""
    text = page.read_text(encoding="utf-8") if page.is_file() else ""
    if opening := re.search(r"^\*\*Open with\*\* .+$", text, re.M):
        chapter.facts = f"{opening[0]}\n\n{chapter.facts}"
    table = re.search(r"^## Ask before each reveal\n+((?:\|.*\n)+)", text, re.M)
    rows = [line.strip("|").split("|") for line in table[1].splitlines()[2:]] if table else []
    questions = [part for part in chapter.parts if part.kind == "question"]
    if len(rows) == len(questions):  # they stand in the chapter's order
        for part, (_, guesses, _, back) in zip(questions, rows, strict=True):
            part.notes.append(f"**Likely guesses:** {guesses.strip()}")
            part.answer_notes.insert(0, f"**Ask back:** {back.strip()}")


class _Reader:
    def __init__(self, chapter: Chapter) -> None:
        self.chapter = chapter
        self.top = self.section = ""
        self.prose: list[str] = []
        self.last = ""  # the latest text, wherever it is shown
        self.asked: Part | None = None  # a question whose answer has not come yet

    def read(self, cells: list[dict]) -> None:
        for cell in cells:
            text = "".join(cell["source"])
            if cell["cell_type"] == "markdown":
                self.read_text(cell, DEFINITION.sub("", text).strip())
            elif self.top not in ("The first cell", "Exercises"):
                self.read_code(cell, text)

    def read_text(self, cell: dict, text: str) -> None:
        if "answer" in cell["metadata"].get("tags", []):
            answered = [p for p in self.chapter.parts if p.kind in ("question", "figure")]
            if answered:
                answered[-1].answer_notes.append(text)
            return
        for block in re.split(r"^(?=##+ )", text, flags=re.M):
            if heading := re.match(r"(##+) (.+)\n*", block):
                self.section, self.prose = heading[2].strip(), []
                self.top = self.section if heading[1] == "##" else self.top
                block = block[heading.end() :]
            if self.top == "In five lines":
                self.chapter.summary = re.findall(r"^\d\. (.+)$", block, re.M)
            elif self.top == "Quiz":
                self.chapter.quiz = DETAILS.findall(block)
            elif self.top not in ("The first cell", "Exercises", "What stands where", "Words"):
                self.read_prose(cell["id"], block.strip())

    def read_prose(self, cell: str, text: str) -> None:
        shown = []
        for tex in re.findall(r"\$\$(.+?)\$\$", text, re.S):
            lead = text.partition(f"$${tex}$$")[0].strip().rpartition("\n\n")[2]
            shown.append(Part("equation", cell, self.section, [text], tex.strip(), lead))
        if any("boxed" in part.text for part in shown):
            shown = [part for part in shown if "boxed" in part.text]
        for picture in PICTURE.finditer(text):
            shown.append(Part("diagram", cell, self.section, [text], picture["name"]))
        self.chapter.parts += shown
        self.last = text or self.last
        if text and not shown:
            self.prose.append(text)

    def read_code(self, cell: dict, text: str) -> None:
        outputs = cell.get("outputs", [])
        printed = "".join("".join(o["text"]) for o in outputs if o["output_type"] == "stream")
        if "@yours" in text:
            self.add(Part("function", cell["id"], self.section, [], MARKS.sub("", text)))
        elif asked := re.search(r"^Your prediction: (.+)$", printed, re.M):
            plain = ["".join(o.get("data", {}).get("text/plain", "")) for o in outputs]
            span = RANGE.search("\n".join(plain))
            part = Part("question", cell["id"], self.section, [], label=asked[1].strip())
            part.low, part.high = span.groups() if span else ("", "")
            paragraphs = [p for p in self.last.split("\n\n") if BEFORE.search(p)]
            part.text = BEFORE.split(paragraphs[-1])[-1] if paragraphs else ""
            self.add(part)
            self.asked = part
        elif figures := seen(outputs):
            truth = TRUTH.search(printed)
            claims = [c for f in figures for c in f.claims]
            figures = [f for f in figures if f.image]
            if truth and self.asked:
                self.asked.truth, self.asked.claims = truth[1], claims
                self.asked.figures, self.asked = figures, None
            elif figures:
                self.add(Part("figure", cell["id"], self.section, [], figures=figures))

    def add(self, part: Part) -> None:
        part.notes, self.prose = self.prose, []
        self.chapter.parts.append(part)


def seen(outputs: list[dict]) -> list[Figure]:
    """The figures of a cell's outputs, each with the claims that are printed with it."""
    found, loose, live = [], [], ""
    for output in outputs:
        data = output.get("data", {})
        if output["output_type"] == "stream":
            lines = re.findall(r"^✓ (.+)$", "".join(output["text"]), re.M)
            (found[-1].claims if found else loose).extend(lines)
        elif "image/png" in data:
            alt = output["metadata"].get("image/png", {}).get("alt", "")
            image = base64.b64decode("".join(data["image/png"]))
            found.append(Figure(image, alt, loose, live))
            loose, live = [], ""
        elif "minimagen-frames" in "".join(data.get("text/html", "")):
            live = "".join(data["text/html"])
    return found or ([Figure(b"", "", loose)] if loose else [])


def signature(source: str) -> tuple[str, str]:
    """A core function as two pieces of code: the signature with the first line of its text; all but the text."""
    node = next(n for n in ast.parse(source).body if isinstance(n, ast.FunctionDef | ast.ClassDef))
    lines = source.rstrip().split("\n")
    text = node.body[0]
    first = (ast.get_docstring(node) or "").split("\n")[0]
    told = textwrap.wrap(f'"""{first}"""', 64, initial_indent=4 * " ", subsequent_indent=4 * " ")
    head = lines[node.lineno - 1 : text.lineno - 1]
    body = [*head, *lines[text.end_lineno or 0 :]]
    return "\n".join([*head, *told, "    ..."]), "\n".join(body)
