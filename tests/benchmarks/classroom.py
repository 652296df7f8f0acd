"""One machine for a class: ten learners begin chapter 00 at once, each with a home of their own.

    .venv/bin/python tests/benchmarks/classroom.py --learners 10 --cores 2 --threads 1

The course is read-only. Each learner is a kernel in the folder that `make lab` makes for them. At one moment
all run the chapter's cells up to the first picture; then all write q_sample at one moment, each in other words,
and keep it. Printed are the seconds to each one's first picture, the processor's seconds, and the memory: PSS,
in which pages that several processes share count once in all. Fails where a learner's file holds another's
function, or where the course was written to. Linux.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LOWER = (
    "-dac_override,-dac_read_search"  # without these, the files of others are closed to root too
)

SAVE = """
from minimagen.course.yours import yours
from minimagen.diffusion import alpha_sigma, append_dims

@yours
def q_sample(x_0, log_snr, eps):
    alpha, sigma = alpha_sigma(append_dims(log_snr, x_0))  # written by {name}
    return alpha * x_0 + sigma * eps
"""
WHERE = "from minimagen.course.folder import work; print(work())"


def read_only_course(folder: Path) -> Path:
    """A clone of the course in which nobody can write."""
    course = folder / "course"
    tracked = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    for name in filter(None, tracked.split("\0")):
        target = course / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / name).is_file():
            shutil.copy(ROOT / name, target)
    for path in [*course.rglob("*"), course]:
        path.chmod(0o555 if path.is_dir() else 0o444)
    return course


def unlocked(course: Path) -> None:
    """So that it can be deleted."""
    for path in [course, *course.rglob("*")]:
        path.chmod(0o755 if path.is_dir() else 0o644)


def as_a_user() -> list[str]:
    """What a command begins with, so that root is held by permissions as everybody is."""
    if os.geteuid() != 0:
        return []
    return ["setpriv", f"--inh-caps={LOWER}", f"--bounding-set={LOWER}"]


def surroundings(home: Path, course: Path, threads: int) -> dict[str, str]:
    dropped = ("MINIMAGEN_", "PYTEST_", "OMP_", "XDG_", "JUPYTER_")
    kept = {k: v for k, v in os.environ.items() if not k.startswith(dropped)}
    more = {"OMP_NUM_THREADS": str(threads)} if threads else {}
    return kept | more | {
        "HOME": str(home), "PYTHONPATH": str(course), "HF_HUB_OFFLINE": "1",
        "TRANSFORMERS_OFFLINE": "1", "MINIMAGEN_BUDGET": "laptop", "PYTHONDONTWRITEBYTECODE": "1",
    }  # fmt: skip


class Learner:
    """A kernel in its own folder."""

    def __init__(self, name: str, home: Path, course: Path, threads: int) -> None:
        self.name, self.home, self.course = name, home, course
        self.env = surroundings(home, course, threads)
        home.mkdir()
        done = subprocess.run(
            [*as_a_user(), sys.executable, "-m", "minimagen.course.start", "--copy-only"],
            env=self.env, cwd=home, capture_output=True, text=True,
        )  # fmt: skip
        if done.returncode:
            sys.exit(f"{name} has no folder: {done.stderr}")
        self.folder = Path(done.stdout.splitlines()[-1])

    def start(self) -> None:
        from jupyter_client import KernelManager
        from jupyter_client.kernelspec import KernelSpec

        self.began = time.monotonic()
        self.manager = KernelManager()
        self.manager._kernel_spec = KernelSpec(
            argv=[
                *as_a_user(),
                sys.executable,
                "-m",
                "ipykernel_launcher",
                "-f",
                "{connection_file}",
            ],
            language="python",
        )
        self.manager.start_kernel(env=self.env, cwd=str(self.folder))
        self.client = self.manager.blocking_client()
        self.client.start_channels()
        self.client.wait_for_ready(timeout=600)

    def run(self, code: str) -> str:
        """Run a cell, return what it printed. Exits with its traceback where it fails."""
        printed: list[str] = []

        def note(message: dict) -> None:
            content = message["content"]
            printed.append(content.get("text", "") if message["msg_type"] == "stream" else "")
            if message["msg_type"] in ("display_data", "execute_result"):
                self.pictures += "image/" in str(list(content["data"]))

        self.pictures = getattr(self, "pictures", 0)
        reply = self.client.execute_interactive(code, timeout=1200, output_hook=note)
        if reply["content"]["status"] != "ok":
            raise RuntimeError(f"{self.name}: {reply['content'].get('traceback')}")
        return "".join(printed)

    def first_picture(self) -> None:
        self.start()
        for cell in cells_to_the_first_picture(self.folder):
            self.run(cell)
        self.seconds = time.monotonic() - self.began

    def memory(self) -> float:
        """PSS in MiB."""
        text = Path(f"/proc/{self.manager.provisioner.pid}/smaps_rollup").read_text()
        return next(int(r.split()[1]) for r in text.splitlines() if r.startswith("Pss:")) / 1024

    def processor(self) -> float:
        """Seconds."""
        fields = (
            Path(f"/proc/{self.manager.provisioner.pid}/stat")
            .read_text()
            .rpartition(")")[2]
            .split()
        )
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def end(self) -> None:
        if hasattr(self, "manager"):
            self.client.stop_channels()
            self.manager.shutdown_kernel(now=True)


def cells_to_the_first_picture(folder: Path) -> list[str]:
    """The code of chapter 00, up to the cell that draws."""
    book = json.loads((folder / "00_start_here.ipynb").read_text(encoding="utf-8"))
    code = ["".join(c["source"]) for c in book["cells"] if c["cell_type"] == "code"]
    last = next(i for i, text in enumerate(code) if "imagen.generate(" in text)
    return code[: last + 1]


def at_once(tasks: list) -> None:
    """Run all, each in its thread; the first failure ends the program."""
    failed: list[BaseException] = []

    def guarded(task: object) -> None:
        try:
            task()  # type: ignore[operator]
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=guarded, args=(task,)) for task in tasks]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failed:
        sys.exit(str(failed[0]))


def own_functions(learners: list[Learner]) -> None:
    """Fails where a file is missing or holds another's function."""
    for learner in learners:
        text = (learner.folder / "my_imagen.py").read_text(encoding="utf-8")
        others = [o.name for o in learners if o is not learner and f"by {o.name}\n" in text]
        if f"by {learner.name}\n" not in text or others:
            sys.exit(f"{learner.name}'s file is not theirs alone: {others}")


def measure(count: int, threads: int) -> dict[str, object]:
    """Run the class; seconds, processor's seconds and MiB of each."""
    with tempfile.TemporaryDirectory(prefix="minimagen-class-") as name:
        folder = Path(name)
        course = read_only_course(folder)
        before = {p: p.stat().st_mtime_ns for p in course.rglob("*")}
        learners: list[Learner] = []
        try:
            for i in range(count):
                learners.append(Learner(f"learner{i}", folder / f"home{i}", course, threads))
            if inside := [x.name for x in learners if course in x.folder.parents]:
                sys.exit(f"the course was written to by {inside}")
            load, quiet = os.getloadavg()[0], time.monotonic()
            at_once([learner.first_picture for learner in learners])
            wall = time.monotonic() - quiet
            memory = [learner.memory() for learner in learners]
            processor = [learner.processor() for learner in learners]
            saved = time.monotonic()
            at_once([lambda x=x: x.run(SAVE.format(name=x.name)) for x in learners])
            saved = time.monotonic() - saved
            own_functions(learners)
            if {p: p.stat().st_mtime_ns for p in course.rglob("*")} != before:
                sys.exit("the course was written to")
            return {
                "learners": count, "threads": threads, "load_before": round(load, 1),
                "pictures": [x.pictures for x in learners],
                "seconds": sorted(round(x.seconds, 1) for x in learners), "wall": round(wall, 1),
                "processor_seconds": sorted(round(p, 1) for p in processor),
                "pss_mib": sorted(round(m) for m in memory), "saving_seconds": round(saved, 1),
            }  # fmt: skip
        finally:
            for learner in learners:
                learner.end()
            unlocked(course)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--learners", type=int, default=10)
    parser.add_argument("--cores", type=int, help="take only the first so many")
    parser.add_argument("--threads", type=int, default=0, help="OMP_NUM_THREADS of each (0: unset)")
    args = parser.parse_args()
    if args.cores:
        os.sched_setaffinity(0, range(args.cores))
    found = measure(args.learners, args.threads)
    print(json.dumps(found))
    first, last = found["seconds"][0], found["seconds"][-1]  # type: ignore[index]
    memory = found["pss_mib"]
    print(
        f"{args.learners} learners: first pictures after {first} to {last} s; "
        f"{sum(memory) / args.learners:.0f} MiB each, {sum(memory) / 1024:.1f} GiB in all"  # type: ignore[arg-type]
    )


if __name__ == "__main__":
    main()
