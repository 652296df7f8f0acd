"""Two editions from one source: python -m minimagen.course.editions, or make editions.

notebooks/solutions/NN_….ipynb, the complete edition, is the source. Where its metadata say
{"minimagen": {"edition": "complete"}}, notebooks/NN_….ipynb, the learner's, is made from it:

    ### BEGIN SOLUTION … ### END SOLUTION      in code: becomes `...` (nbgrader's marks)
    ### BEGIN ANSWER guess … ### END ANSWER    in code: becomes guess.reveal(); the lines go into answers/
    a text cell with the tag "answer"          goes away, and is shown by the reveal() before it
    a cell with the tag "complete"             goes away
    a cell with the tag "learner"              stands in the learner's edition alone: its code is commented out in
                                               the complete one, each line with "# "
    [work on it yourself](../NN_….ipynb)       becomes [the complete edition](solutions/NN_….ipynb)
    any other link to ../NN_….ipynb            becomes one to NN_….ipynb
    outputs                                    go away

Where notebooks/chinese has a translation, NN_….zh.ipynb is made from both (see chinese.py).

`python -m minimagen.course.editions stub q_sample` prints the cells of a core function, to be put into a chapter.
"""

from __future__ import annotations

import ast
import copy
import json
import re
import sys
from pathlib import Path

from .chinese import translated
from .core import CORE
from .folder import ROOT
from .guesses import ANSWERS
from .sources import source_of

Book = dict
SOLUTION = re.compile(
    r"^(?P<in>[ \t]*)### BEGIN SOLUTION[ \t]*\n.*?^[ \t]*### END SOLUTION[ \t]*$", re.M | re.S
)
ANSWER = re.compile(
    r"^### BEGIN ANSWER (?P<guess>\w+)[ \t]*\n(?P<code>.*?)^### END ANSWER[ \t]*$", re.M | re.S
)
LINK = re.compile(r"\[work on it yourself\]\(\.\./(?P<name>[^)]+)\)")
BESIDE = re.compile(
    r"\]\(\.\./(?P<name>[^/)]+\.ipynb)\)"
)  # a learner's notebook, seen from the solutions
NOTEBOOKS = ROOT / "notebooks"


def is_complete(book: Book) -> bool:
    """Has this chapter been switched over to two editions?"""
    return book["metadata"].get("minimagen", {}).get("edition") == "complete"


def text_of(cell: dict) -> str:
    return "".join(cell["source"])


def _tags(cell: dict) -> list[str]:
    return cell["metadata"].get("tags", [])


def split(book: Book, keep_solutions: bool = False) -> tuple[Book, dict[str, dict[str, str]]]:
    """The learner's edition of a complete one, and its answers: question → code and text.

    keep_solutions: leave the solutions and nbgrader's marks in, as the source that nbgrader makes assignments from.
    Raises ValueError, with a sentence, for a mark without its partner, or an answer without its question.
    """
    made = copy.deepcopy(book)
    answers: dict[str, dict[str, str]] = {}
    made["metadata"]["minimagen"] = {**book["metadata"].get("minimagen", {}), "edition": "learner"}
    cells: list[dict] = []
    asked: dict[str, str] = {}
    last = ""
    for cell in made["cells"]:
        tags, text = _tags(cell), text_of(cell)
        if "complete" in tags:
            continue
        if cell["cell_type"] == "markdown" and "answer" in tags:
            if not last:
                raise ValueError(
                    f"a text is tagged as an answer, and no answer stands before it: {text[:60]!r}"
                )
            answers[last]["text"] = f"{answers[last]['text']}\n\n{text}".strip()
            continue
        if cell["cell_type"] == "code":
            asked |= _questions(text)
            for found in ANSWER.finditer(text):
                if found["guess"] not in asked:
                    raise ValueError(f"{found['guess']} has an answer, and no predict() before it")
                last = asked[found["guess"]]
                if last in answers:
                    raise ValueError(
                        f"“{last}” has two answers: one BEGIN ANSWER for each predict()"
                    )
                answers[last] = {"code": found["code"].rstrip() + "\n", "text": ""}
            text = ANSWER.sub(r"\g<guess>.reveal()", text)
            if not keep_solutions:
                text = SOLUTION.sub(r"\g<in>...", text)
            if "learner" in tags:
                text = re.sub(r"^# ?", "", text, flags=re.M)
            if re.search("### (BEGIN|END) ANSWER", text) or (not keep_solutions and "### " in text):
                raise ValueError(f"a mark has no partner, or stands indented: {text[:60]!r}")
            cell |= {"outputs": [], "execution_count": None}
        else:
            text = LINK.sub(r"[the complete edition](solutions/\g<name>)", text)
            text = BESIDE.sub(r"](\g<name>)", text)
        cell["source"] = text.splitlines(keepends=True)
        cell["metadata"].pop("execution", None)
        cells.append(cell)
    made["cells"] = cells
    return made, answers


def _questions(code: str) -> dict[str, str]:
    """Name of a guess → its question, for every `name = predict("question", …)`."""
    found = {}
    for node in ast.walk(ast.parse(re.sub(r"^([%!])", r"# \1", code, flags=re.M))):
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call):
            call, target = node.value, node.targets[0]
            if getattr(call.func, "id", "") == "predict" and isinstance(target, ast.Name):
                found[target.id] = ast.literal_eval(call.args[0])
    return found


def read(path: Path) -> Book:
    return json.loads(path.read_text(encoding="utf-8"))


def written(book: Book | dict) -> str:
    return json.dumps(book, indent=1, ensure_ascii=False) + "\n"


def make(path: Path, notebooks: Path = NOTEBOOKS, answers: Path = ANSWERS) -> bool:
    """The learner's edition and the answers of one complete edition. False where it is not switched over yet."""
    book = read(path)
    if not is_complete(book):
        return False
    answers.mkdir(exist_ok=True)
    _write(book, notebooks / path.name, answers / f"{path.stem}.json")
    chinese = NOTEBOOKS / "chinese" / f"{path.stem}.json"
    if chinese.is_file():
        book = translated(book, json.loads(chinese.read_text(encoding="utf-8")))
        _write(book, notebooks / f"{path.stem}.zh.ipynb", answers / f"{path.stem}.zh.json")
    return True


def _write(book: Book, own: Path, answers: Path) -> None:
    made, told = split(book)
    if own.is_file():
        _keep_badges(made, read(own))
    own.write_text(written(made), encoding="utf-8")
    answers.write_text(written(told), encoding="utf-8")


def _keep_badges(made: Book, before: Book) -> None:
    """What `make badges` put under the title of the learner's edition stays there."""
    badges = [line for line in before["cells"][0]["source"] if line.startswith("Open in [")]
    if badges:
        title, *rest = made["cells"][0]["source"]
        made["cells"][0]["source"] = [title.rstrip("\n") + "\n", "\n", badges[0], *rest]


def stub(name: str) -> tuple[str, str]:
    """The text with the two hints, and the code with the solution in its marks, for a core function."""
    core = CORE[name]
    hints = "\n\n".join(
        f"<details><summary>{title}</summary>\n\n{hint}\n\n</details>"
        for title, hint in zip(("Hint", "Half the answer"), core.hints, strict=True)
    )
    return hints, "@yours\n" + _marked(source_of(core.reference))


def _marked(source: str) -> str:
    """The source with marks around all that follows its docstring."""
    node = ast.parse(source).body[0]
    assert isinstance(node, ast.FunctionDef | ast.ClassDef)
    lines, end = source.rstrip().split("\n"), node.body[0].end_lineno or 0
    body = lines[end + 1 :] if not lines[end].strip() else lines[end:]
    return "\n".join([*lines[:end], "    ### BEGIN SOLUTION", *body, "    ### END SOLUTION"]) + "\n"


def main(arguments: list[str]) -> None:
    if arguments[:1] == ["stub"]:
        print("\n".join(f"{a}\n\n{b}" for a, b in map(stub, arguments[1:])))
        return
    paths = [Path(a) for a in arguments] or sorted((NOTEBOOKS / "solutions").glob("[0-9]*.ipynb"))
    made = [path.stem for path in paths if make(path)]
    print(f"learner's editions: {', '.join(made) or 'none, as no chapter is switched over'}")


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except ValueError as error:
        sys.exit(str(error))
