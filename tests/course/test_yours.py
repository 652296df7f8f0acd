# ruff: noqa: F811  (a learner writes the same function again and again)
"""@yours: a learner's function is checked, kept, lent for, and graded; the notebook always runs on."""

import functools
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from minimagen.course import folder
from minimagen.course import yours as module
from minimagen.course.core import CORE
from minimagen.course.kept import FILE, OLD_TOOLS, TOOLS, kept
from minimagen.course.yours import NotLent, lent, mine, points, yours
from minimagen.diffusion import alpha_sigma

FACTOR = 1.0
TABLE = torch.ones(3)


@pytest.fixture(autouse=True)
def work(tmp_path, monkeypatch):
    monkeypatch.setenv("MINIMAGEN_WORK", str(tmp_path))
    monkeypatch.delenv("MINIMAGEN_GRADE", raising=False)
    module.verdicts.clear()
    return tmp_path


def right(betas):
    return (1 - betas).cumprod(dim=0)


def test_not_written_is_said_in_one_line_and_the_courses_own_stands_in(capsys, work):
    @yours
    def alpha_bar(betas):
        """Only this."""
        ...

    assert capsys.readouterr().out == "alpha_bar is not written yet. The course's own stands in.\n"
    assert alpha_bar is CORE["alpha_bar"].reference and not list(work.iterdir())

    @yours
    def alpha_bar(betas):
        raise NotImplementedError

    @yours
    def alpha_bar(betas):
        pass

    @yours
    class ResBlock(nn.Module):
        """Only this."""

        ...

    @yours
    class ResBlock(nn.Module):
        def __init__(self, c_in, c_out, embedding=None): ...

        def forward(self, x, emb):
            ### BEGIN SOLUTION
            ...
            ### END SOLUTION

    assert capsys.readouterr().out.count("is not written yet.") == 4


def test_wrong_names_the_mistake_and_lends(capsys, work):
    @yours
    def alpha_bar(betas):
        return 1 - betas.cumsum(0)

    said = capsys.readouterr().out
    assert said.count("\n") == 1 and "you added the betas up" in said and "stands in" in said
    assert alpha_bar is CORE["alpha_bar"].reference and not list(work.iterdir())


def test_right_is_kept_and_survives_a_restart(capsys, work):
    @yours
    def alpha_bar(betas):
        """With a comment."""
        # shares multiply
        return torch.cumprod(1 - betas, 0)

    said = capsys.readouterr().out
    assert "✓ alpha_bar is right" in said and f"1 of {len(CORE)} are yours" in said
    assert alpha_bar.__module__ == __name__
    text = (work / FILE).read_text()
    assert (
        "# shares multiply" in text
        and "@yours" not in text
        and "# yours: alpha_bar (chapter 01)" in text
    )
    # another kernel
    done = subprocess.run(
        [sys.executable, "-c", "from minimagen.course.yours import mine, lent; import torch; "
         "f, g = mine('alpha_bar', 'q_sample'); lent(); "
         "print(f.__doc__, f(torch.tensor([.5, .5])).tolist(), g.__module__)"],
        capture_output=True, text=True, check=True, env={**os.environ, "PYTHONPATH": str(folder.ROOT)},
    )  # fmt: skip
    assert "With a comment. [0.5, 0.25] minimagen.course.core.chapter_01" in done.stdout
    system = sum(core.chapter <= 10 for core in CORE.values())
    assert f"1 of {system} functions are yours" in done.stdout

    @yours
    def alpha_bar(betas):  # later it breaks: the last right one stays
        return betas

    assert "# shares multiply" in (work / FILE).read_text()

    @yours
    def alpha_bar(betas):
        # shares left multiply
        return (1 - betas).cumprod(0)

    text = (work / FILE).read_text()
    assert "# shares left multiply" in text and "# shares multiply" not in text, "the newest"


def test_the_names_and_order_of_arguments_must_stay(capsys, work):
    @yours
    def q_sample(x_0, eps, log_snr):
        alpha, sigma = alpha_sigma(log_snr[:, None, None, None])
        return alpha * x_0 + sigma * eps

    said = capsys.readouterr().out
    assert "its arguments must stay as they were: q_sample(x_0, log_snr, eps)" in said
    assert q_sample is CORE["q_sample"].reference and not list(work.iterdir())


def test_a_function_by_hand_in_the_file_is_checked_again(capsys, work):
    @yours
    def alpha_bar(betas):
        return torch.cumprod(1 - betas, 0)

    path = work / FILE
    path.write_text(
        path.read_text().replace("torch.cumprod(1 - betas, 0)", "torch.cumprod(betas, 0)")
    )
    capsys.readouterr()
    assert mine("alpha_bar") is CORE["alpha_bar"].reference
    assert "multiply what each step leaves" in capsys.readouterr().out
    # and one that was lent and then written into the file is the learner's
    text = path.read_text().replace(
        "return alpha * x_0 + sigma * eps\n", "return sigma * eps + alpha * x_0\n", 1
    )
    path.write_text(text)
    assert "q_sample" in kept() and mine("q_sample").__module__ == "my_imagen"


def scaled(x, factor):
    return FACTOR * factor * x


def doubled(function):
    @functools.wraps(function)
    def wrapper(*arguments):
        return function(*arguments)

    return wrapper


def test_helpers_constants_hints_and_decorators_come_along(capsys, work):
    @yours
    @torch.no_grad()
    def q_sample(x_0: torch.Tensor, log_snr: "Anything", eps: torch.Tensor) -> torch.Tensor:  # noqa: F821
        from math import sqrt

        def axes(z):
            return z[:, None, None, None]

        alpha, sigma = alpha_sigma(axes(log_snr))
        assert sqrt(4) == 2
        return scaled(x_0, alpha) + scaled(eps, sigma)

    assert "✓ q_sample is right" in capsys.readouterr().out
    text = (work / FILE).read_text()
    assert "def _q_sample_scaled(x, factor):" in text and "_q_sample_FACTOR = 1.0" in text
    assert "_q_sample_scaled(eps, sigma)" in text and "@torch.no_grad()" in text
    # kept again, a helper is not renamed twice
    before = kept()["q_sample"]

    @yours
    @doubled
    def alpha_bar(betas):
        return (1 - betas).cumprod(0)

    assert kept()["q_sample"] == before and "alpha_bar" in kept()


def test_a_class_is_kept(capsys, work):
    norm = nn.GroupNorm  # shadowed on purpose: what the learner calls norm is another thing here

    @yours
    class ResBlock(nn.Module):
        def __init__(self, c_in, c_out, embedding=None):
            super().__init__()
            groups = [16 if c % 16 == 0 else 8 if c % 8 == 0 else 4 for c in (c_in, c_out)]
            self.norm1, self.norm2 = (
                norm(g, c) for g, c in zip(groups, (c_in, c_out), strict=True)
            )
            self.conv1 = nn.Conv2d(c_in, c_out, 3, padding=1)
            self.conv2 = nn.Conv2d(c_out, c_out, 3, padding=1)
            nn.init.zeros_(self.conv2.weight), nn.init.zeros_(self.conv2.bias)
            self.modulate = None if embedding is None else nn.Linear(embedding, 2 * c_out)
            self.skip = nn.Identity() if c_in == c_out else nn.Conv2d(c_in, c_out, 1)

        def forward(self, x, emb):
            h = self.norm2(self.conv1(F.silu(self.norm1(x))))
            if self.modulate is not None:
                scale, shift = self.modulate(emb)[..., None, None].chunk(2, 1)
                h = h + h * scale + shift
            return (self.skip(x) + self.conv2(F.silu(h))) * 0.5**0.5

    assert "✓ ResBlock is right" in capsys.readouterr().out and ResBlock.__module__ == __name__
    assert "from torch.nn import GroupNorm as norm" in (work / FILE).read_text()


def test_what_cannot_stand_alone_is_named(capsys):
    @yours
    def alpha_bar(betas):
        return (1 - betas).cumprod(0) * TABLE[0]

    @yours
    def alpha_bar(betas):
        import numpy

        return torch.from_numpy(numpy.cumprod(1 - betas.numpy()))

    @yours
    def q_sample(x_0, log_snr, eps):
        from minimagen.diffusion import q_sample

        return q_sample(x_0, log_snr, eps)

    @yours
    def q_sample(x, log_snr, eps):
        return x

    @yours
    def alpha_baa(betas):
        return betas

    said = capsys.readouterr().out
    for words in (
        "leans on TABLE",
        "needs numpy",
        "calls minimagen itself",
        "q_sample(x_0, log_snr, eps)",
        "Did you mean alpha_bar?",
    ):
        assert words in said


def test_an_endless_loop_is_stopped(capsys, monkeypatch):
    assert 5 <= module.SECONDS <= 30
    monkeypatch.setattr(module, "SECONDS", 0.5)
    begun = time.monotonic()

    @yours
    def alpha_bar(betas):
        while True:
            try:
                betas = betas * 1
            except Exception:
                pass

    assert "does not come to an end" in capsys.readouterr().out and time.monotonic() - begun < 5


def test_a_folder_that_cannot_be_written_costs_no_notebook(capsys, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("MINIMAGEN_WORK", str(tmp_path / "file" / "folder"))
    own = yours(named(right))
    assert own is not None and "could not be kept" in capsys.readouterr().out


def named(function):
    """The same function under the core function's name, with a source that can be found."""

    def alpha_bar(betas):
        return (1 - betas).cumprod(0)

    return alpha_bar


def test_a_file_that_breaks_off_while_it_is_written_is_the_old_one(capsys, monkeypatch, work):
    yours(named(right))
    before = (work / FILE).read_text()

    def full(*_):
        raise OSError("no space left")

    monkeypatch.setattr(os, "replace", full)

    @yours
    def q_sample(x_0, log_snr, eps):
        alpha, sigma = alpha_sigma(log_snr[:, None, None, None])
        return alpha * x_0 + sigma * eps

    assert "no space left" in capsys.readouterr().out
    assert (work / FILE).read_text() == before and os.listdir(work) == [FILE]


def test_the_learners_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("MINIMAGEN_WORK", str(tmp_path / "a" / "b"))
    assert folder.work() == tmp_path / "a" / "b" and folder.work().is_dir()
    monkeypatch.delenv("MINIMAGEN_WORK")
    with monkeypatch.context() as outside:  # a test that names none gets one that nobody keeps
        assert folder.ROOT not in folder.work().parents
        outside.delenv("MINIMAGEN_WORK")
        outside.delenv("PYTEST_CURRENT_TEST")
        outside.setattr(folder, "ROOT", tmp_path / "clone")
        (tmp_path / "clone").mkdir()
        assert folder.work() == tmp_path / "clone" / "work"
        outside.setattr(folder, "ROOT", tmp_path / "missing")  # can't be written
        outside.setenv("HOME", str(tmp_path))
        assert folder.work() == tmp_path / "minimagen-work"


def test_the_gans_losses_stay_out_of_the_system(work):
    @yours
    def generator_loss(generated_logits):
        return torch.log1p(torch.exp(-generated_logits)).mean()

    assert list(kept()) == ["generator_loss"] and not (work / FILE).exists()
    assert "def generator_loss" in (work / TOOLS).read_text()


def test_what_was_kept_under_the_old_name_is_still_the_learners(work):
    @yours
    def generator_loss(generated_logits):
        return torch.log1p(torch.exp(-generated_logits)).mean()

    (work / TOOLS).rename(work / OLD_TOOLS)
    assert list(kept()) == ["generator_loss"]

    @yours
    def effective_number(counts):
        p = counts[counts > 0] / counts.sum()
        return (-(p * p.log()).sum()).exp()

    assert list(kept()) == ["generator_loss", "effective_number"]
    assert "def generator_loss" in (work / TOOLS).read_text()  # both stand in the new file now


def test_what_is_still_lent(capsys, work):
    yours(named(right))
    capsys.readouterr()
    system = [
        name for name, core in CORE.items() if core.chapter <= 10
    ]  # not what 11 to 15 have written
    assert lent() == [name for name in system if name != "alpha_bar"]
    assert "✓ alpha_bar" in capsys.readouterr().out


def test_grading_lends_nothing(capsys, monkeypatch, work):
    monkeypatch.setenv("MINIMAGEN_GRADE", "1")

    @yours
    def markov_step(x, beta, eps): ...

    @yours
    def alpha_bar(betas):
        return betas

    @yours
    def q_sample(x_0, log_snr, eps):  # it may use others, and gets the course's in the check
        alpha, sigma = alpha_sigma(log_snr[:, None, None, None])
        return alpha * x_0 + sigma * eps

    result = json.loads((work / "result.json").read_text())
    assert [result[n]["score"] for n in ("markov_step", "alpha_bar", "q_sample")] == [0, 0, 1]
    points("q_sample")
    for call in (markov_step, alpha_bar):
        with pytest.raises(NotLent, match="nothing is lent"):
            call(1, 2, 3)
    with pytest.raises(AssertionError, match="0 points"):
        points("alpha_bar")
    with pytest.raises(AssertionError, match="did not run"):
        points("guided")
    assert not (work / FILE).exists()


CELLS = """
from minimagen.course.yours import yours, points
@yours
def alpha_bar(betas): ...
---
import torch
left = alpha_bar(torch.rand(3))
---
print(left.shape)
---
@yours
def markov_step(x, beta, eps):
    return (1 - beta) ** 0.5 * x + beta**0.5 * eps
---
print("still", "here"); 1 + 1
"""


def test_a_graded_notebook_runs_to_its_end(work):
    import nbformat
    from nbclient import NotebookClient

    book = nbformat.v4.new_notebook()
    book.cells = [nbformat.v4.new_code_cell(text.strip()) for text in CELLS.split("---")]
    os.environ["MINIMAGEN_GRADE"] = "1"
    try:
        NotebookClient(book, timeout=120).execute(
            env={**os.environ, "PYTHONPATH": str(folder.ROOT)}
        )
    finally:
        del os.environ["MINIMAGEN_GRADE"]
    printed = ["".join(o.get("text", "") for o in cell.outputs) for cell in book.cells]
    assert (
        "0 points" in printed[0] and "skipped: alpha_bar" in printed[1] and "skipped" in printed[2]
    )
    assert "✓ markov_step" in printed[3] and "still here" in printed[4]
    result = json.loads((Path(work) / "result.json").read_text())
    assert {name: row["score"] for name, row in result.items()} == {
        "alpha_bar": 0,
        "markov_step": 1,
    }
