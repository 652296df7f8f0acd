"""Cells of a complete edition as the site shows them: diagrams are files, marks are gone, guesses work."""

from __future__ import annotations

import re
from html import escape
from typing import Any

from pictures import DIAGRAM, Pictures

HELD = re.compile(
    r"^\[[\w-]+@\w+\]: data:\S+\n?", re.M
)  # a diagram that stands in the notebook itself
ONE_LINE = re.compile(r"^<details><summary>(.*?)</summary>(.+?)</details>$", re.M)
MARK = re.compile(r"^ *### (?:BEGIN|END) (?:SOLUTION|ANSWER).*\n?", re.M)
CLAIM = re.compile(r"^✓", re.M)
ASKED = re.compile(r"(\w+) = predict\(")
SLIDER = re.compile(r"^\[a slider from (\S+) to (\S+): run this cell to move it\]$")
TOLD = re.compile(r"^(?:You made no guess\. It is|你没有猜。答案是) (≈ \S+)$", re.M)
UNTOLD = {"en": "It is", "zh": "答案是"}

GUESSED = {  # the button, and what it says; the script fills in the guess
    "en": ("That is my guess", "You said {{guess}}, and it is {truth}."),
    "zh": ("这是我的猜测", "你猜的是 {{guess}}，答案是 {truth}。"),
}


def markdown_cell(text: str, pictures: Pictures) -> str:
    """Diagrams become files, a quiz's answers Markdown like the rest of the text."""

    def diagram(found: re.Match[str]) -> str:
        path = pictures.diagram(found[1])
        if not path.exists():
            return found[0]
        return pictures.figure(path, found[0][2:].partition("][")[0])

    drawn = DIAGRAM.sub(diagram, text)
    drawn = HELD.sub("", drawn) if not DIAGRAM.search(drawn) else drawn
    return ONE_LINE.sub(r"<details><summary>\1</summary>\n\n\2\n\n</details>\n", drawn)


def code_cell(cell: dict[str, Any], pictures: Pictures, later: list[dict], language: str) -> None:
    """Changes a cell: the set-up is folded, marks are gone, figures are files, a guess is a slider that works.

    later: the cells that follow, in which a guess is answered.
    """
    tags = cell["metadata"].setdefault("tags", [])
    if cell["metadata"].get("jupyter", {}).get("source_hidden"):
        tags.append("hide-input")
    elif cell["source"].startswith("@yours"):
        tags.append("yours")
    elif "### BEGIN SOLUTION" in cell["source"]:
        tags.append("solution")
    cell["source"] = MARK.sub("", cell["source"]).rstrip("\n")
    shown: list[dict] = []
    for number, output in enumerate(cell["outputs"]):
        data = output.get("data", {})
        if "image/png" in data:
            metadata = output["metadata"].get("image/png", {})
            png = "".join(data["image/png"])
            _set(output, pictures.output(f"{cell['id']}-{number}", png, metadata))
        elif found := SLIDER.match(_plain(data)):
            shown.pop()  # the question, which was printed before the slider
            asked = "".join(cell["outputs"][number - 1]["text"]).strip()
            _set(output, _guess(cell["source"], asked, found, later, language))
        elif set(data) == {"text/plain"} and re.fullmatch(r"\[.*run this cell.*\]", _plain(data)):
            _set(output, f'<p class="kernel">{escape(_plain(data)[1:-1])}</p>')
        elif output["output_type"] == "stream":
            said = TOLD.sub(rf"{UNTOLD[language]} \1", "".join(output["text"]))
            output = {"output_type": "display_data"}
            _set(output, f'<pre class="said">{CLAIM.sub(r"<b>✓</b>", escape(said.rstrip()))}</pre>')
        shown.append(output)
    cell["outputs"] = shown


def say_in_chinese(output: dict[str, Any], words: dict[str, str]) -> None:
    """Changes what an output says, in print or as the words for a figure; the figure itself stays."""
    told = dict(sorted(words.items(), key=lambda pair: -len(pair[0])))  # the longest first

    def said(text: str) -> str:
        for english, chinese in told.items():
            text = text.replace(english, chinese) if len(english) > 3 else text
        return text

    if "text" in output:
        output["text"] = said("".join(output["text"]))
    for facts in output.get("metadata", {}).values():
        if isinstance(facts, dict) and "alt" in facts:
            facts["alt"] = said(facts["alt"])


def _plain(data: dict[str, Any]) -> str:
    return "".join(data.get("text/plain", ""))


def _set(output: dict[str, Any], html: str) -> None:
    output["data"], output["metadata"] = {"text/html": html}, {}


def _guess(
    source: str, question: str, range_: re.Match[str], later: list[dict], language: str
) -> str:
    """A slider for a guess; what the cell that reveals it has printed stands in the page, for the script."""
    low, high = float(range_[1]), float(range_[2])
    asked = ASKED.search(source)
    truth = _truth(asked[1] if asked else "guess", later)
    if not truth:
        return f'<p class="kernel">{escape(question)}</p>'
    button, told = GUESSED[language]
    step = 1 if high - low >= 10 else (high - low) / 100
    start = low + step * round((high - low) / 2 / step)
    return (
        f'<form class="guess" data-told="{escape(told.format(truth=truth))}"><label><span>{escape(question)}</span>'
        f'<input type="range" min="{low:g}" max="{high:g}" step="{step:g}" value="{start:g}"></label>'
        f'<output>–</output><button disabled>{button}</button><p aria-live="polite"></p></form>'
    )


def _truth(name: str, later: list[dict]) -> str:
    """The number that the first cell after the guess has printed for it, as printed; nothing if there is none."""
    for cell in later:
        if cell["cell_type"] == "code" and f"{name}.reveal(" in "".join(cell["source"]):
            for output in cell["outputs"]:
                if found := TOLD.search("".join(output.get("text", ""))):
                    return found[1]
    return ""
