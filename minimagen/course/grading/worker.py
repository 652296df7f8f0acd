"""A process that runs nbgrader's commands: started once for many, replaced where one hangs."""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

from ..folder import ROOT

QUIET = {
    "MINIMAGEN_GRADE": "1",
    "MINIMAGEN_BUDGET": "quick",
    "CUDA_VISIBLE_DEVICES": "",
    "OMP_NUM_THREADS": "1",
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
}


class Worker:
    """One such process for nbgrader's folder `to`. A context: it ends with it."""

    def __init__(self, to: Path) -> None:
        self.to = to
        self.process: subprocess.Popen | None = None
        self.own = tempfile.TemporaryDirectory(prefix="minimagen-grading-")

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()
        self.own.cleanup()

    def ask(self, command: str, chapter: str, student: str = "", seconds: float = 600) -> str:
        """Run generate_assignment, autograde or generate_feedback. Returns nothing, or what went wrong."""
        if self.process is None:
            self._start()
        assert self.process is not None and self.process.stdin is not None
        task = {"command": command, "chapter": chapter, "student": student}
        try:
            self.process.stdin.write(json.dumps(task) + "\n")
            self.process.stdin.flush()
            answer = self.answers.get(timeout=seconds)
        except queue.Empty:
            self.end()
            return f"it took more than {seconds:.0f} seconds and was stopped"
        except OSError:
            answer = None
        if answer is None:
            self.end()
            return "nbgrader ended without a word"
        return json.loads(answer)

    def _start(self) -> None:
        # nbgrader calls alembic by its bare name, and kernels write into this folder, not into the teacher's
        path = [str(Path(sys.executable).parent), os.environ.get("PATH", "")]
        code = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
        self.process = subprocess.Popen(
            [sys.executable, "-m", __name__],
            cwd=self.to,
            env=os.environ
            | QUIET
            | {
                "PATH": os.pathsep.join(path),
                "PYTHONPATH": os.pathsep.join(code),
                "MINIMAGEN_WORK": self.own.name,
                "MINIMAGEN_RESULT": str(Path(self.own.name) / "result.json"),
            },
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            encoding="utf-8",
            start_new_session=os.name == "posix",
        )
        self.answers: queue.Queue[str | None] = queue.Queue()
        threading.Thread(
            target=self._listen, args=(self.process, self.answers), daemon=True
        ).start()

    @staticmethod
    def _listen(process: subprocess.Popen, answers: queue.Queue) -> None:
        assert process.stdout is not None
        for line in process.stdout:
            answers.put(line)
        answers.put(None)

    def end(self) -> None:
        """Kernels end by themselves when the process that started them is gone."""
        if self.process is None:
            return
        if os.name == "posix":
            os.killpg(self.process.pid, signal.SIGKILL)
        else:
            self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                pipe.close()
        self.process = None


def main() -> None:
    """Tasks come in on stdin, a line each; for each goes out nothing ("") or a sentence."""
    from nbgrader.apps import NbGraderAPI
    from traitlets.config.loader import PyFileConfigLoader

    said, sys.stdout = sys.stdout, sys.stderr
    nbgrader = NbGraderAPI(config=PyFileConfigLoader("nbgrader_config.py").load_config())
    for line in sys.stdin:
        task = json.loads(line)
        os.environ["MINIMAGEN_STUDENT"] = task["student"]
        command, given = getattr(nbgrader, task["command"]), {"force": True}
        names = [task["chapter"], *([task["student"]] if task["command"] == "autograde" else [])]
        result = command(*names, **given)
        said.write(json.dumps("" if result["success"] else _reason(result)) + "\n")
        said.flush()


def _reason(result: dict) -> str:
    """The last line of the log that names an exception."""
    lines = [" ".join(line.split()) for line in result.get("log", "").splitlines()]
    named = [line for line in lines if "Error" in line.split(":")[0] and not line.startswith("[")]
    return (named or [result.get("error") or "nbgrader gave no reason"])[-1][:300]


if __name__ == "__main__":
    main()
