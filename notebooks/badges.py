"""Put the links that open each notebook online under its title: make badges REPO=owner/name.

One place for every address: the notebooks' links, the address that cell 1 clones, and the README.
"""

import json
import re
import sys
from pathlib import Path

LINKS = {
    "Colab": "https://colab.research.google.com/github/{repo}/blob/main/{file}",
    "Kaggle": "https://kaggle.com/kernels/welcome?src=https://github.com/{repo}/blob/main/{file}",
    "Binder": "https://mybinder.org/v2/gh/{repo}/main?labpath={file}",
    "Codespaces": "https://codespaces.new/{repo}",
}
CLONED = re.compile(r'env\.get\("MINIMAGEN_REPO", "[^"]*"\)')  # cell 1 asks for it, or takes this


def line(repo: str, file: str) -> str:
    links = (f"[{name}]({url.format(repo=repo, file=file)})" for name, url in LINKS.items())
    return "Open in " + " · ".join(links) + "\n"


def badge(lines: list[str], repo: str, file: str) -> list[str]:
    """The lines of a text with its badge line below the first heading, in place of an older one."""
    kept = [x for x in lines if not x.startswith("Open in [")]
    if kept[1:3] == ["\n", "\n"]:  # the older one stood between two blank lines
        del kept[1]
    return [kept[0].rstrip("\n") + "\n", "\n", line(repo, file), *kept[1:]]


def main(root: Path, repo: str) -> None:
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", repo):
        sys.exit("Say which repository on GitHub: make badges REPO=owner/name")
    for path in sorted((root / "notebooks").glob("**/[0-9]*.ipynb")):
        book = json.loads(path.read_text(encoding="utf-8"))
        head = book["cells"][0]
        if path.parent.name != "solutions":
            head["source"] = badge(head["source"], repo, path.relative_to(root).as_posix())
        first = next(cell for cell in book["cells"] if cell["cell_type"] == "code")
        first["source"] = [
            CLONED.sub(f'env.get("MINIMAGEN_REPO", "https://github.com/{repo}")', text)
            for text in first["source"]
        ]
        text = json.dumps(book, indent=1, ensure_ascii=False) + "\n"
        path.write_text(text, encoding="utf-8")
    readme = root / "README.md"
    lines = readme.read_text(encoding="utf-8").splitlines(keepends=True)
    readme.write_text("".join(badge(lines, repo, "notebooks/00_start_here.ipynb")), "utf-8")


if __name__ == "__main__":
    main(Path(__file__).resolve().parent.parent, sys.argv[1] if len(sys.argv) > 1 else "")
