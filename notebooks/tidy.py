"""Take out of saved notebooks what only a running kernel can show: python notebooks/tidy.py FILE …

A saved widget has no model behind it, and JupyterLab writes "Error displaying widget" in its place. Without it the
sentence beside it stands there (minimagen/course/widgets.py). Figures are stored in fewer bytes, pixel for pixel.
"""

import base64
import json
import sys
from pathlib import Path

import oxipng

WIDGET = "application/vnd.jupyter.widget-view+json"


def tidy(book: dict) -> dict:
    book["metadata"].pop("widgets", None)
    for cell in book["cells"]:
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            data.pop(WIDGET, None)
            if "image/png" in data:
                data["image/png"] = packed("".join(data["image/png"]))
    return book


def packed(png: str) -> str:
    """The same pixels in the fewest bytes, base64 as it came."""
    return base64.b64encode(oxipng.optimize_from_memory(base64.b64decode(png), level=6)).decode()


if __name__ == "__main__":
    for path in map(Path, sys.argv[1:]):
        book = tidy(json.loads(path.read_text(encoding="utf-8")))
        text = json.dumps(book, indent=1, ensure_ascii=False) + "\n"
        path.write_text(text, encoding="utf-8")
