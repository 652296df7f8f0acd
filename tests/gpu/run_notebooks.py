"""Run the notebooks under nbval in the gpu budget, some at a time, and record what they needed.

    python tests/gpu/run_notebooks.py [07 09 …] [--jobs 4] [--limit 900] [--deadline 3600]

The record, report.json, is written anew after every notebook, so that a run that is cut off keeps what it has;
a notebook that was not run now keeps its old entry. What a notebook printed stands in the log beside it.
Exits with 1 where one of them failed, was too long, or put nothing on the GPU.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
FACTS = ("device", "minutes", "peak_mib", "versions", "date")  # what a notebook tells of itself


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("chapters", nargs="*", help="00, 07 …, in this order; none: all")
    parser.add_argument("--folder", type=Path, default=ROOT / "notebooks")
    parser.add_argument("--report", type=Path, default=HERE / "report.json")
    parser.add_argument("--log", type=Path, help="beside the report, if not given")
    parser.add_argument("--jobs", type=int, default=4, help="notebooks at a time")
    parser.add_argument("--limit", type=float, default=900, help="seconds for one notebook")
    parser.add_argument("--deadline", type=float, default=3600, help="seconds for all")
    parser.add_argument("--without-gpu", action="store_true", help="a rehearsal on a CPU")
    return parser.parse_args()


def read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def write(path: Path, text: str) -> None:
    """All of it or nothing: a reader never finds half a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(path.name + ".tmp")
    beside.write_text(text, encoding="utf-8")
    beside.replace(path)


def commit() -> str:
    if given := os.environ.get("MINIMAGEN_COMMIT"):
        return given
    asked = ["git", "-C", str(ROOT), "rev-parse", "--short=12", "HEAD"]
    try:
        return subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


@dataclass
class Run:
    """One notebook in a process of its own."""

    book: Path
    folder: Path  # of its own facts and its output
    threads: int
    begun: float = field(default_factory=time.monotonic)
    late: bool = False
    stopped: float = 0.0

    def __post_init__(self) -> None:
        self.output = self.folder / f"{self.book.stem}.log"
        self.facts = self.folder / f"{self.book.stem}.json"
        command = [
            *(sys.executable, "-m", "pytest", "--nbval", "--nbval-current-env"),
            *("--nbval-sanitize-with", str(HERE.parent / "course" / "nbval_sanitize.cfg")),
            *("--nbval-kernel-startup-timeout", "180", "--durations", "10", "--durations-min", "1"),
            *("-q", "-p", "no:cacheprovider", "-W", "ignore", "-c", os.devnull),
            *("--rootdir", str(ROOT), str(self.book)),
        ]
        env = {
            **{"MINIMAGEN_BUDGET": "gpu", "OMP_NUM_THREADS": str(self.threads), **os.environ},
            **{"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"},
            "MINIMAGEN_REPORT": str(self.facts),
        }
        with self.output.open("w") as out:
            self.process = subprocess.Popen(
                command, stdout=out, stderr=subprocess.STDOUT, env=env, cwd=ROOT
            )

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.begun

    def stop(self) -> None:
        """As Ctrl-C does, so that its kernel ends with it; and by force where that takes long."""
        if not self.late:
            self.late, self.stopped = True, time.monotonic()
            self.process.send_signal(signal.SIGINT)
        elif time.monotonic() - self.stopped > 10:
            self.process.kill()

    def result(self, without_gpu: bool) -> dict[str, Any]:
        facts = read(self.facts)
        on_gpu = without_gpu or facts.get("peak_mib", 0) > 0
        entry = {name: facts.get(name) for name in FACTS} | {"commit": commit()}
        return entry | {"passed": self.process.returncode == 0 and not self.late and on_gpu}


def chosen(options: argparse.Namespace, known: dict[str, Any]) -> list[Path]:
    """The notebooks, in the order that was asked for; or the longest first, as far as that is known."""
    books = sorted(options.folder.glob("[0-9][0-9]_*.ipynb"))
    if options.chapters:
        by_number = {book.name[:2]: book for book in books}
        if unknown := [c for c in options.chapters if c not in by_number]:
            raise SystemExit(f"there is no chapter {', '.join(unknown)} in {options.folder}")
        return [by_number[c] for c in options.chapters]
    return sorted(books, key=lambda book: -(known.get(book.stem, {}).get("minutes") or 99))


def main() -> int:
    options, begun = arguments(), time.monotonic()
    log = options.log or options.report.with_suffix(".log")
    record = read(options.report).get("notebooks", {})
    waiting, running = chosen(options, record), list[Run]()
    total, failed, told = len(waiting), list[str](), list[str]()
    threads = max(1, (os.cpu_count() or 1) // options.jobs)
    with tempfile.TemporaryDirectory() as folder:
        while waiting or running:
            over = time.monotonic() - begun > options.deadline
            while waiting and not over and len(running) < options.jobs:
                running.append(Run(waiting.pop(0), Path(folder), threads))
            for run in list(running):
                if run.process.poll() is None and (over or run.seconds > options.limit):
                    run.stop()
                if run.process.poll() is None:
                    continue
                running.remove(run)
                entry = record[run.book.stem] = run.result(options.without_gpu)
                state = "passed" if entry["passed"] else "too long" if run.late else "FAILED"
                line = f"{run.book.stem}: {state}, {run.seconds:.0f} s, {entry['peak_mib']} MiB"
                print(f"[{time.monotonic() - begun:4.0f}] {line}", flush=True)
                failed += [] if entry["passed"] else [run.book.stem]
                told.append(f"===== {line}\n{run.output.read_text(errors='replace')[-8000:]}\n")
                write(
                    options.report,
                    json.dumps({"notebooks": record}, indent=1, sort_keys=True) + "\n",
                )
                write(log, "\n".join(told))
            if over and not running:
                break
            time.sleep(0.2)
    failed += [book.stem for book in waiting]
    print(f"{total - len(failed)} of {total} passed" + "".join(f"; not {name}" for name in failed))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
