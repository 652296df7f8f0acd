"""Take out of saved notebooks what only a running kernel can show: python notebooks/tidy.py FILE …

A saved widget has no model behind it, and JupyterLab writes "Error displaying widget" in its place. Without it the
sentence beside it stands there (minimagen/course/widgets.py). Text that a cell printed in pieces is joined. Figures
are stored in fewer bytes, pixel for pixel; in a notebook that would still be too large, in fewer colours.
"""

import base64
import io
import json
import sys
from pathlib import Path

import oxipng
from PIL import Image

WIDGET = "application/vnd.jupyter.widget-view+json"
LARGEST = 400_000  # bytes of a notebook
FEWER_COLOURS = (64, 48, 40, 32, 28, 24)  # of a figure; it is drawn in at most 128


def tidy(book: dict) -> dict:
    book["metadata"].pop("widgets", None)
    for cell in book["cells"]:
        if "outputs" in cell:
            cell["outputs"] = joined(cell["outputs"])
    for data in figures(book):
        data["image/png"] = packed("".join(data["image/png"]))
    drawn = [data["image/png"] for data in figures(book)]
    for colours in FEWER_COLOURS:
        if len(written(book).encode()) > LARGEST:
            for data, png in zip(figures(book), drawn, strict=True):
                data["image/png"] = packed(quantized(png, colours))
    return book


def joined(outputs: list[dict]) -> list[dict]:
    """The outputs, with neighbours of one stream as one: how often a kernel flushes differs from run to run."""
    kept: list[dict] = []
    for output in outputs:
        output.get("data", {}).pop(WIDGET, None)
        last = kept[-1] if kept else {}
        if output["output_type"] == "stream" and last.get("name") == output["name"]:
            text = "".join(last["text"]) + "".join(output["text"])
            last["text"] = text.splitlines(keepends=True)
        else:
            kept.append(output)
    return kept


def figures(book: dict) -> list[dict]:
    """The data of all outputs that have a PNG."""
    outputs = (o for cell in book["cells"] for o in cell.get("outputs", []))
    return [o["data"] for o in outputs if "image/png" in o.get("data", {})]


def quantized(png: str, colours: int) -> str:
    """The figure in so many colours, chosen so that small coloured things keep theirs."""
    small = io.BytesIO()
    with Image.open(io.BytesIO(base64.b64decode(png))) as figure:
        few = figure.convert("RGB").quantize(colours, Image.Quantize.MAXCOVERAGE, kmeans=3)
        few.save(small, format="png")
    return base64.b64encode(small.getvalue()).decode()


def written(book: dict) -> str:
    """The notebook as its file has it."""
    return json.dumps(book, indent=1, ensure_ascii=False) + "\n"


def packed(png: str) -> str:
    """The same pixels in the fewest bytes, base64 as it came."""
    return base64.b64encode(oxipng.optimize_from_memory(base64.b64decode(png), level=6)).decode()


if __name__ == "__main__":
    for path in map(Path, sys.argv[1:]):
        book = tidy(json.loads(path.read_text(encoding="utf-8")))
        path.write_text(written(book), encoding="utf-8")
