"""Slides of each chapter: python -m notebooks.slides [NN …] [--out FOLDER], or make slides."""

import sys
from importlib.util import find_spec

if missing := [
    n for n in ("mistune", "pygments", "sphinx_revealjs", "ziamath") if not find_spec(n)
]:
    sys.exit(f"{', '.join(missing)} missing: pip install -e '.[slides]', or run make slides")

from .deck import main

main()
