"""Figures on machines that are set up oddly: no display, another backend, a home folder that can't be written."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DRAWS = """
import torch
from minimagen.course.show import curves, strip
curves([1, 2], {"a": [1, 2]}, "x", "y", "a line")
strip([torch.zeros(3, 8, 8)], ["a"], "a square")
"""


@pytest.mark.parametrize(
    "env",
    [
        {},
        {"MPLBACKEND": "TkAgg"},
        {"MPLBACKEND": "module://matplotlib_inline.backend_inline"},
        {"HOME": "/proc/nobody", "MPLCONFIGDIR": ""},  # nothing can be made there, by root neither
    ],
    ids=["no display", "a window", "as in a kernel", "no home"],
)
def test_figures_are_drawn_and_nothing_else_is_said(env, tmp_path):
    hidden = ("DISPLAY", "WAYLAND_DISPLAY", "MPLBACKEND", "XDG_CONFIG_HOME", "XDG_CACHE_HOME")
    outer = {k: v for k, v in os.environ.items() if k not in hidden}
    done = subprocess.run(
        [sys.executable, "-c", DRAWS],
        cwd=tmp_path, env={**outer, "PYTHONPATH": str(ROOT), **env}, capture_output=True, text=True,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert "[figure: a line]" in done.stdout and "[figure: a square]" in done.stdout
