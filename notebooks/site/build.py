"""The complete editions as a web page that needs no network: make site → build/site/index.html.

gather.py lays the pages ready in build/site-source, Sphinx makes the site of them. Nothing is executed.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import time
from pathlib import Path

from gather import Site

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]


def build(site: Site, out: Path, strict: bool) -> None:
    """out becomes the site; what is laid ready for it stands beside it, in `OUT-source`."""
    source = out.with_name(out.name + "-source")
    site.write(source)
    logo = source / "extra" / "pictures" / "logo.png"
    options = ["-W", "--keep-going"] if strict else []
    command = [
        *(sys.executable, "-m", "sphinx", "-b", "html", "-q", "-j", "auto", *options),
        *("-c", str(HERE), "-d", str(source / ".doctrees")),
        *("-D", f"html_extra_path={source / 'extra'}"),
        *("-D", f"html_logo={logo}", "-D", f"html_favicon={logo}", str(source), str(out)),
    ]
    done = subprocess.run(command, check=False).returncode
    if done:
        sys.exit(done)
    for leftover in ("objects.inv", ".buildinfo"):
        (out / leftover).unlink(missing_ok=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "site")
    parser.add_argument("--chapters", nargs="*", default=[], help="only these, by number: 00 03")
    parser.add_argument("--slides", type=Path, default=ROOT / "slides", help="talks, if there")
    parser.add_argument("--strict", action="store_true", help="a warning is an error")
    parser.add_argument("--fresh", action="store_true", help="keep nothing of the last time")
    chosen = parser.parse_args()
    start, out = time.monotonic(), chosen.out.resolve()
    if chosen.fresh:
        for folder in (out, out.with_name(out.name + "-source")):
            shutil.rmtree(folder, ignore_errors=True)
    build(Site(ROOT, chosen.chapters, chosen.slides), out, chosen.strict)
    size = sum(file.stat().st_size for file in out.rglob("*") if file.is_file())
    print(f"{out / 'index.html'}: {size / 2**20:.0f} MiB, {time.monotonic() - start:.0f} seconds")


if __name__ == "__main__":
    main()
