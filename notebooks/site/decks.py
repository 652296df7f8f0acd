"""The talks that `make slides` has made, on the site: each chapter leads to its talk, and the talk back."""

from __future__ import annotations

import shutil
from pathlib import Path

# on the first slide only, and not on paper
BACK = """<style>
.back { position: fixed; left: 22px; bottom: 14px; z-index: 40; font: 18px sans-serif; color: #545e6e; }
body:not(:has(.slides > section:first-of-type.present)) .back { display: none; }
@media print { .back { display: none; } }
</style>
<a class="back" href="../{page}.html">← Chapter {number}</a>
"""


def add(made: Path, folder: Path, pages: list[str]) -> set[str]:
    """Put the talks of these pages, as far as `made` has them, into `folder`; those that are there are told."""
    shutil.rmtree(folder, ignore_errors=True)
    found = {page for page in pages if (made / f"{page}.html").is_file()}
    for page in sorted(found):
        folder.mkdir(parents=True, exist_ok=True)
        before, end, after = (made / f"{page}.html").read_text("utf-8").rpartition("</body>")
        back = BACK.replace("{page}", page).replace("{number}", page[:2])
        (folder / f"{page}.html").write_text(before + back + end + after, "utf-8")
    return found
