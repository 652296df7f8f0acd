"""A progress bar for a notebook that leaves one line behind: no widget, nothing on stderr, nothing to clear up."""

from __future__ import annotations

import sys
import time
from html import escape
from typing import Any

from tqdm import tqdm


class Bar:
    """Counts up to `total`; `close(line)` leaves the line in its place. Outside of a notebook: tqdm."""

    def __init__(self, total: int, name: str) -> None:
        self.total, self.name, self.begun, self.told = total, name, time.monotonic(), 0.0
        self.first: int | None = None  # the first step that was shown
        self.handle: Any = None
        self.terminal: Any = None
        if "IPython" in sys.modules and sys.modules["IPython"].get_ipython() is not None:
            from IPython.display import display

            self.handle = display({"text/plain": ""}, raw=True, display_id=True)
        else:
            self.terminal = tqdm(total=total, desc=name, file=sys.stderr, leave=False, disable=None)

    def at(self, step: int, more: str = "") -> None:
        """Show that `step` steps are done; twice a second at most."""
        if self.terminal is not None:
            self.terminal.update(step - self.terminal.n)
        now = time.monotonic()
        if self.handle is None or now - self.told < 0.5:
            return
        self.told = now
        if self.first is None:  # of a run that goes on it is not 0
            self.first, self.begun = step, now
        left = (now - self.begun) * (self.total - step) / max(1, step - self.first)
        words = f"{self.name}: {step} of {self.total}, {left / 60:.1f} minutes left {more}"
        bar = f'<progress value="{step}" max="{self.total}" style="width:300px"></progress>'
        self.handle.update({"text/html": f"{bar} {escape(words)}", "text/plain": words}, raw=True)

    def close(self, line: str) -> None:
        """Take the bar away and print a line."""
        if self.terminal is not None:
            self.terminal.close()
        else:
            self.handle.update({"text/plain": ""}, raw=True)
        print(line)
