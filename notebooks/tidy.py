"""Take out of saved notebooks what only a running kernel can show: python notebooks/tidy.py FILE …

A saved widget has no model behind it, and JupyterLab writes "Error displaying widget" in its place. Without it the
sentence beside it stands there (minimagen/course/widgets.py).
"""

import json
import sys
from pathlib import Path

WIDGET = "application/vnd.jupyter.widget-view+json"


def tidy(book: dict) -> dict:
    book["metadata"].pop("widgets", None)
    for cell in book["cells"]:
        for output in cell.get("outputs", []):
            output.get("data", {}).pop(WIDGET, None)
    return book


if __name__ == "__main__":
    for path in map(Path, sys.argv[1:]):
        book = tidy(json.loads(path.read_text(encoding="utf-8")))
        text = json.dumps(book, indent=1, ensure_ascii=False) + "\n"
        path.write_text(text, encoding="utf-8")
