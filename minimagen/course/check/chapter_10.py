"""Exercises of chapter 10: a file in which one function is wrong."""

from __future__ import annotations

import tempfile
from pathlib import Path

from ..core import CORE

__all__ = ["suspicious_file", "which_function"]

_RIGHT, _WRONG = "return h, emb + unet.noise_level(low_res_log_snr)", "return h, emb"


def suspicious_file() -> Path:
    """Exercise 10.1: a finished my_imagen.py in which one function is subtly wrong."""
    from ..my_imagen import assemble

    text = assemble({})
    assert text.count(_RIGHT) == 1
    path = Path(tempfile.mkdtemp(prefix="minimagen-")) / "my_imagen.py"
    path.write_text(text.replace(_RIGHT, _WRONG), encoding="utf-8")
    return path


def which_function(culprit: str | None) -> None:
    """Exercise 10.1: the function that is wrong."""
    title = "which function"
    if culprit is None:
        raise AssertionError(f"{title}: name one first")
    if culprit not in CORE:
        raise AssertionError(f"{title}: {culprit!r} is no core function of the course")
    if culprit == "augment":
        raise AssertionError(
            f"{title}: it comes in at the right stage; call it beside your own, it gives the same"
        )
    if culprit != "sr_first_layer":
        raise AssertionError(
            f"{title}: {culprit} is used by the base too, or not in drawing: are its pictures wrong?"
        )
    print(f"✓ {title}")
