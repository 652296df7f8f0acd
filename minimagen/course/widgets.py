"""Controls that talk to Python (ipywidgets 7.7.1 and 8 alike), and what stands in a file in their place."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any


def can_show() -> bool:
    """Is this a notebook, and is ipywidgets there?"""
    if find_spec("IPython") is None or find_spec("ipywidgets") is None:
        return False
    from IPython import get_ipython

    return get_ipython() is not None


def show(widget: Any, instead: str, still: str = "") -> None:
    """Show a widget; where it can't live (GitHub, a notebook not run yet), the sentence `instead` stands.

    still: a PNG in base64 that stands there in place of the sentence, which is then its alt text.
    By itself, a widget leaves its Python code there: "FloatSlider(value=…".
    """
    from IPython.display import display

    view = {"version_major": 2, "version_minor": 0, "model_id": widget.model_id}
    data = {"application/vnd.jupyter.widget-view+json": view, "text/plain": instead}
    if not still:
        display(data, raw=True)
        return
    about = {"image/png": {"alt": instead.strip("[]")}}
    display({**data, "image/png": still}, metadata=about, raw=True)
