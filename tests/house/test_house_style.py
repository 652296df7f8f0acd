"""The code is held to its own rules: linter, types, module order, size."""

import ast
import subprocess
import sys
from pathlib import Path

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parents[2]
# Data flows one way: a module imports only what stands before it.
PAPER = "diffusion unet samplers text guidance stage imagen control".split()
ORDER = [
    *"config errors assets randomness images diffusion unet samplers text guidance config_ranges".split(),
    *"stage imagen control".split(),
    *"scenes.scene scenes.captions scenes.spelling scenes.everyday scenes.artwork".split(),
    *"scenes.dataset scenes.folder scenes".split(),
    *"training training.order training.owner training.accelerator training.batches".split(),
    *"training.t5 training.pool training.optimizers training.ema training.graph".split(),
    *"training.step training.log training.checkpoint training.loop training.preview training.run".split(),
    *"evaluation evaluation.judge evaluation.suites evaluation.distance evaluation.alignment".split(),
    "evaluation.eye",
    *"training.plan training.report training.cascade probes doctor arguments interrupts cli course".split(),
]


def run(*arguments):
    done = subprocess.run(
        [sys.executable, "-m", *arguments], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_linter():
    run("ruff", "check", ".")
    run("ruff", "format", "--check", ".")


def test_types():
    run("mypy")


def test_spelling():
    """Of everything that people read; pictures inside a notebook are no words."""
    run("codespell_lib", "--ignore-regex", "[A-Za-z0-9+/=]{60,}", "README.md", "CONTRIBUTING.md", "minimagen",
        "tests", "data/README.md", *ROOT.glob("data/*/**/*.md"), *ROOT.glob("notebooks/**/*.ipynb"))  # fmt: skip


def modules():
    """Every module of the package by its dotted name, those of the course left out, with its source."""
    package = ROOT / "minimagen"
    for path in sorted(package.rglob("*.py")):
        parts = path.relative_to(package).with_suffix("").parts
        if parts[0] == "course" or path == package / "__init__.py":
            continue
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        yield name, path, ast.parse(path.read_text(encoding="utf-8"))


def imported(name, path, tree):
    """The modules of the package that a module imports, by their dotted names."""
    package = name.split(".") if path.name == "__init__.py" else name.split(".")[:-1]
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = package[: len(package) - node.level + 1]
            target = ".".join(base + (node.module.split(".") if node.module else []))
            for alias in node.names:
                full = f"{target}.{alias.name}".strip(".")
                if full in ORDER or target:  # the rest are names of minimagen/__init__.py
                    yield full if full in ORDER else target


def test_every_module_has_its_place_in_the_order():
    assert {name for name, *_ in modules()} | {"course"} == set(ORDER)


def test_modules_import_only_what_stands_above_them():
    pure = {"diffusion", "unet", "samplers", "guidance"}
    for name, path, tree in modules():
        for other in imported(name, path, tree):
            assert other in ORDER[: ORDER.index(name)], f"{name} imports {other}"
        if name in pure:
            known = {"__future__", "math", "collections", "dataclasses", "itertools", "torch"}
            for node in ast.walk(tree):
                names = [n.name for n in node.names] if isinstance(node, ast.Import) else []
                if isinstance(node, ast.ImportFrom) and not node.level:
                    names = [node.module]
                assert {n.split(".")[0] for n in names} <= known, (name, names)


def code_lines(path):
    """Lines that are neither blank, comment nor docstring."""
    source = path.read_text(encoding="utf-8")
    documented = set()
    for node in ast.walk(ast.parse(source)):
        body = getattr(node, "body", None)
        if isinstance(body, list) and body and isinstance(body[0], ast.Expr):
            value = body[0].value
            if isinstance(value, ast.Constant) and isinstance(value.value, str):
                documented |= set(range(body[0].lineno, body[0].end_lineno + 1))
    return sum(
        bool(line.strip()) and not line.strip().startswith("#") and number not in documented
        for number, line in enumerate(source.splitlines(), 1)
    )


def test_a_module_of_the_paper_can_be_read_in_one_sitting():
    lines = {name: code_lines(path) for name, path, _ in modules() if name in PAPER}
    assert max(lines.values()) <= 250, lines


def test_limits_of_complexity_and_docstrings_are_those_that_are_checked():
    """test_linter holds them: complexity 10, 50 statements, 8 arguments, a docstring on every public name."""
    lint = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["ruff"]["lint"]
    assert {"C901", "PLR0913", "PLR0915", "D1"} <= set(lint["select"])
    assert lint["mccabe"]["max-complexity"] == 10
    assert lint["pylint"] == {"max-args": 8, "max-statements": 50}
    assert set(lint["ignore"]) == {"D105", "D107"}, "a class's docstring describes its __init__"
    for pattern, rules in lint["per-file-ignores"].items():
        if pattern.startswith("minimagen") and not pattern.startswith("minimagen/course"):
            assert not rules, pattern
    excused = [
        (name, line.strip())
        for name, path, _ in modules()
        for line in path.read_text("utf-8").splitlines()
        if "noqa" in line
    ]
    # Stage.sample: its keywords are the choices in sampling
    assert [name for name, _ in excused] == ["stage"], excused
