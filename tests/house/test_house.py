"""The files around the package agree with one another: versions, licences, sizes, commands."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, metadata
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
EXTRAS = PROJECT["optional-dependencies"]
DIRECT = [Requirement(line) for line in PROJECT["dependencies"] + sum(EXTRAS.values(), [])]
PYTHONS = ("3.10", "3.11", "3.12", "3.13")
MIB = 2**20
Result = subprocess.CompletedProcess[str]


def read(name: str) -> str:
    return (ROOT / name).read_text("utf-8")


def constraints() -> list[Requirement]:
    lines = (line.partition("#")[0].strip() for line in read("constraints.txt").splitlines())
    return [Requirement(line) for line in lines if line]


def tracked() -> list[Path]:
    """The files that git tracks, or a skip where this is no checkout."""
    try:
        command = ["git", "-C", str(ROOT), "ls-files", "-z", "--full-name"]
        listing = subprocess.run(command, capture_output=True, check=True).stdout.decode()
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("not a git checkout")
    files = [ROOT / name for name in listing.split("\0") if name]
    return [file for file in files if file.is_file()] or pytest.skip("nothing is tracked yet")


# --- dependencies -----------------------------------------------------------------------------


def test_pyproject_gives_ranges_and_not_pins():
    for requirement in DIRECT:
        operators = {spec.operator for spec in requirement.specifier}
        assert operators, f"{requirement.name} has no lower bound"
        assert not operators & {"==", "===", "~="}, f"{requirement} is a pin"
        assert requirement.name != "torch" or operators == {">="}, "torch has no upper bound"


def test_no_package_has_two_ranges():
    seen: dict[str, str] = {}
    for requirement in DIRECT:
        name, specifier = canonicalize_name(requirement.name), str(requirement.specifier)
        assert seen.setdefault(name, specifier) == specifier, f"{name} has two ranges"


@pytest.mark.parametrize("python", PYTHONS)
def test_constraints_pin_every_direct_dependency_once(python):
    environment = {"python_version": python, "python_full_version": f"{python}.0"}
    pins: dict[str, str] = {}
    for requirement in constraints():
        if requirement.marker is None or requirement.marker.evaluate(environment):
            name, (spec,) = canonicalize_name(requirement.name), requirement.specifier
            assert spec.operator == "==", f"{requirement} is no pin"
            assert name not in pins, f"{name} is pinned twice on Python {python}"
            pins[name] = spec.version
    for requirement in DIRECT:
        name = canonicalize_name(requirement.name)
        assert name in pins, f"{name} is not pinned on Python {python}"
        assert pins[name] in requirement.specifier, f"{name} {pins[name]} is not {requirement}"


def test_pins_take_every_python_of_their_line():
    """A version that leaves 3.11.0 to 3.11.4 behind is found here, where it is installed."""
    for requirement in constraints():
        (spec,) = requirement.specifier
        asked = needed_python(requirement.name, spec.version)
        for python in PYTHONS:
            environment = {"python_version": python, "python_full_version": f"{python}.0"}
            if requirement.marker is None or requirement.marker.evaluate(environment):
                # what leaves all of a Python behind is needed by none of its packages
                assert f"{python}.0" in asked or f"{python}.99" not in asked, requirement


def needed_python(name: str, version: str) -> SpecifierSet:
    """What an installed package asks of Python; nothing where another version is installed."""
    try:
        installed = metadata(name)
    except PackageNotFoundError:
        return SpecifierSet()
    asked = installed.get("Requires-Python", "") if installed["Version"] == version else ""
    return SpecifierSet(asked)


def test_constraints_hold_pins_only():
    text = read("constraints.txt")
    assert "://" not in text and "--" not in text, "no hosts and no pip options"


def test_environment_agrees_with_pyproject():
    environment = yaml.safe_load(read("environment.yml"))
    conda = [entry for entry in environment["dependencies"] if isinstance(entry, str)]
    (pip,) = (entry["pip"] for entry in environment["dependencies"] if isinstance(entry, dict))
    # All that comes from PyPI comes through pyproject.toml, so nothing can drift apart.
    assert pip == ["-c constraints.txt", "-e .[lab]"]
    python, pip_itself = conda
    assert pip_itself == "pip"
    range_ = SpecifierSet(python.removeprefix("python"))
    assert [v for v in PYTHONS if v in range_] == list(PYTHONS)
    assert "3.9" not in range_ and "3.9" not in SpecifierSet(PROJECT["requires-python"])


def test_python_versions_agree():
    prefix = "Programming Language :: Python :: 3."
    classifiers = [c.rpartition(" ")[2] for c in PROJECT["classifiers"] if c.startswith(prefix)]
    workflow = yaml.safe_load(read(".github/workflows/test.yml"))
    matrix = workflow["jobs"]["test"]["strategy"]["matrix"]
    assert classifiers == matrix["python"] == list(PYTHONS)


def test_binder_takes_what_a_learner_needs_in_a_python_that_is_tested():
    """The folder is read in the root of the clone, but a `-c` is relative to its own file."""
    version = read(".binder/runtime.txt").strip().removeprefix("python-")
    assert version in PYTHONS
    lines = [x for x in read(".binder/requirements.txt").splitlines() if not x.startswith("#")]
    index, pins, course = (line.split() for line in lines)
    assert index[0] == "--extra-index-url" and index[1].endswith("/whl/cpu")
    assert pins == ["-c", "../constraints.txt"] and course == ["-e", ".[lab]"]


def test_the_dev_container_sets_up_what_make_sets_up():
    container = json.loads(read(".devcontainer/devcontainer.json"))
    known = {
        "name",
        "image",
        "hostRequirements",
        "postCreateCommand",
        "customizations",
        "forwardPorts",
    }
    assert set(container) <= known, "check a new key against the schema of devcontainer.json"
    command = container["postCreateCommand"].split()
    assert command[0] == "make" and re.search(rf"^{re.escape(command[1])}:", read("Makefile"), re.M)
    assert container["image"].rpartition(":")[2] in PYTHONS


def test_three_commands_without_make():
    """README's for Windows install what the Makefile would, and are tried here as far as their names go."""
    text = read("README.md")
    for command in (
        "py -m venv .venv",
        '.venv\\Scripts\\python -m pip install -c constraints.txt -e ".[lab]"',
        ".venv\\Scripts\\jupyter lab notebooks",
    ):
        assert command in text
    assert "lab" in EXTRAS


# --- versions and citation --------------------------------------------------------------------


def test_one_version_everywhere():
    minimagen = pytest.importorskip("minimagen")
    citation = yaml.safe_load(read("CITATION.cff"))
    assert str(citation["version"]) == PROJECT["version"]
    assert getattr(minimagen, "__version__", PROJECT["version"]) == PROJECT["version"]


def test_citation_names_the_course_and_the_paper():
    citation = yaml.safe_load(read("CITATION.cff"))
    assert {"cff-version", "message", "title", "authors", "version", "license"} <= set(citation)
    (paper,) = citation["references"]
    assert "2205.11487" in paper["url"]
    assert paper["authors"][0]["family-names"] == "Saharia"


# --- licences ---------------------------------------------------------------------------------


def test_the_code_is_under_mit():
    assert PROJECT["license"] == "MIT"
    assert read("LICENSE").startswith("MIT License\n\nCopyright (c) 2026 the minimagen-course")


ART = {"fluent": "MIT", "noto": "Apache-2.0", "twemoji": "CC-BY-4.0", "cldr": "Unicode-3.0"}


@pytest.mark.parametrize(("source", "licence"), ART.items())
def test_notice_names_every_source_with_its_licence(source, licence):
    entries = [entry for entry in re.split(r"\n{2,}", read("NOTICE")) if "Text:" in entry]
    (entry,) = (e for e in entries if source in e.casefold())
    assert re.search(rf"Licence: +{re.escape(licence)}\b", entry)
    assert "Made by:" in entry and "Source:" in entry


def test_every_licence_named_in_notice_is_there_and_no_other():
    named = re.findall(r"Text: +(\S+)", read("NOTICE"))
    assert len(named) == read("NOTICE").count("Licence:") == len(set(named)) >= len(ART)
    for name in named:
        assert name.startswith("data/LICENSES/")
        assert len(read(name).strip()) > 500, f"{name} is not the text of a licence"
    present = {f"data/LICENSES/{file.name}" for file in (ROOT / "data/LICENSES").iterdir()}
    assert present == set(named)


# --- sizes ------------------------------------------------------------------------------------


def test_the_clone_stays_small():
    sizes = {file: file.stat().st_size for file in tracked()}
    big = [f"{file.relative_to(ROOT)}: {n / MIB:.1f}" for file, n in sizes.items() if n > 16 * MIB]
    assert not big, f"over 16 MiB: {big}"
    assert sum(sizes.values()) < 56 * MIB, f"{sum(sizes.values()) / MIB:.1f} MiB in all"


def test_nothing_of_the_environment_is_tracked():
    tops = {file.relative_to(ROOT).parts[0] for file in tracked()}
    assert not tops & {".venv", "runs", "build", "dist"}
    assert {top for top in tops if not top.startswith(".") and (ROOT / top).is_dir()} <= {
        "data",
        "minimagen",
        "notebooks",
        "tests",
    }


# --- commands ---------------------------------------------------------------------------------

TARGETS = (
    "lab",
    "draw",
    "test",
    "test-slow",
    "test-gpu",
    "train",
    "data",
    "notebooks",
    "site",
    "clean",
)


@pytest.mark.parametrize("target", (*TARGETS, "help"))
def test_makefile_has_target(target):
    makefile = read("Makefile")
    assert re.search(rf"^{target}:", makefile, re.MULTILINE)
    (phony,) = re.findall(r"^\.PHONY: (.+)$", makefile, re.MULTILINE)
    assert target in phony.split()


def make(*arguments: str, folder: Path = ROOT, **variables: str) -> Result:
    """Runs make in a folder, with a bare environment plus the given variables."""
    program = shutil.which("make") or pytest.skip("no make here")
    command = [program, "--no-print-directory", "-C", str(folder), *arguments]
    environment = {"PATH": os.environ["PATH"], **variables}
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=60)


def script(path: Path, body: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)


@pytest.fixture
def fresh(tmp_path: Path) -> Path:
    """A clone in which nothing has been set up."""
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path)
    return tmp_path


@pytest.fixture
def installed(fresh: Path) -> Path:
    """A clone that is set up, with a `minimagen` that prints its arguments, one a line."""
    script(fresh / ".venv/bin/minimagen", "printf '%s\\n' \"$@\"")
    script(fresh / ".venv/bin/python", "echo 'pip was called' >&2; exit 1")
    for stamp in (".done", ".test"):
        (fresh / ".venv" / stamp).touch()
    return fresh


def test_make_alone_explains_itself():
    result = make()
    assert result.returncode == 0
    assert all(f"make {target}" in result.stdout for target in TARGETS)


@pytest.mark.parametrize("arguments", [("draw",), ("draw", "PROMPT="), ("draw", "PROMPT=  ")])
def test_draw_without_a_prompt_is_one_sentence(fresh, arguments):
    result = make(*arguments, folder=fresh)
    assert result.returncode == 2
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    assert 'make draw PROMPT="a cat on the grass"' in line


PROMPTS = (
    "a cat on the grass",
    "一只小猫在草地上玩耍",
    'it\'s a "red" car',
    "$HOME $(shell echo no) ${PATH} $$ `date` # 5 %",
    "a \\ b; exit 1 && c | d > e * ?",
    "--count 3",
)


@pytest.mark.parametrize("prompt", PROMPTS)
def test_a_prompt_reaches_the_command_unchanged(installed, prompt):
    expected = ["draw", "--out", "out.png", "--", prompt]
    on_the_line = make("draw", f"PROMPT={prompt}", folder=installed)
    in_the_environment = make("draw", folder=installed, PROMPT=prompt)
    for result in (on_the_line, in_the_environment):
        assert result.returncode == 0, result.stderr
        assert result.stdout.splitlines() == expected


def test_draw_and_train_pass_options_on(installed):
    result = make("draw", "PROMPT=a cat", "OUT=my cat.png", "ARGS=--count 4", folder=installed)
    expected = ["draw", "--out", "my cat.png", "--count", "4", "--", "a cat"]
    assert result.stdout.splitlines() == expected
    result = make("train", "STAGE=sr64", "ARGS=--minutes 3", folder=installed, OUT="elsewhere")
    assert result.stdout.splitlines() == ["train", "sr64", "--out", "runs/sr64", "--minutes", "3"]


def test_train_without_a_stage_is_one_sentence(fresh):
    result = make("train", folder=fresh)
    assert result.returncode == 2
    (line,) = result.stderr.splitlines()
    assert "STAGE=base" in line


# --- the set-up -------------------------------------------------------------------------------


def complaint(result: Result) -> str:
    """The one line that is not make's own last word."""
    assert result.returncode == 2
    (line,) = (text for text in result.stderr.splitlines() if not text.startswith("make"))
    return line


def test_a_missing_python_is_one_sentence(fresh):
    script(fresh / "bin/python3", "exit 1")  # as an old Python answers
    result = make("test", folder=fresh, PATH=str(fresh / "bin"))
    assert "Python 3.10 or newer is needed" in complaint(result)
    assert not (fresh / ".venv").exists()


def test_a_missing_venv_module_is_one_sentence(fresh):
    script(fresh / "bin/python3", 'case "$2" in *ensurepip*) exit 1;; esac')
    result = make("test", folder=fresh, PATH=str(fresh / "bin"))
    assert "sudo apt install python3-venv" in complaint(result)
    assert not (fresh / ".venv").exists()


@pytest.mark.parametrize(
    ("target", "extras", "stamps"),
    [("lab", ".[lab]", {".done"}), ("test", ".[lab,test]", {".done", ".test"})],
)
def test_a_learner_installs_no_tools_of_tests(fresh, target, extras, stamps):
    """make lab installs what learning needs, make test more; neither anything a second time."""
    script(fresh / ".venv/bin/python", "printf '%s\\n' \"$@\"")
    first, second = (make(target, folder=fresh) for _ in range(2))
    assert first.returncode == second.returncode == 0, first.stderr
    assert extras in first.stdout.splitlines()
    assert "pip" not in second.stdout.replace("pip --version", "").splitlines()
    assert {f.name for f in (fresh / ".venv").glob(".*")} == stamps


def test_a_missing_cuda_device_is_one_sentence(installed):
    torch = pytest.importorskip("torch")
    if torch.cuda.is_available():
        pytest.skip("there is one")
    script(installed / ".venv/bin/python", f'exec "{sys.executable}" "$@"')
    assert "No CUDA device here" in complaint(make("test-gpu", folder=installed))


def test_slow_tests_are_all_tests_with_their_coverage(installed):
    script(installed / ".venv/bin/python", 'printf "%s|" "$@"; echo')
    result = make("test-slow", "ARGS=-x", folder=installed)
    runs = ["-m|coverage|run|-m|pytest|-m|not gpu|-x|", "-m|coverage|report|"]
    assert result.stdout.splitlines() == runs


def test_the_workflow_covers_three_systems():
    jobs = yaml.safe_load(read(".github/workflows/test.yml"))["jobs"]
    assert jobs["test"]["runs-on"] == "ubuntu-latest"
    assert jobs["systems"]["strategy"]["matrix"]["os"] == ["macos-latest", "windows-latest"]
    for name, job in jobs.items():
        commands = " ".join(step.get("run", "") for step in job["steps"])
        assert "make test" in commands or "pytest" in commands, name


def test_ci_runs_the_command_of_the_readme():
    lines = read(".ci/run").splitlines()
    commands = [line for line in lines if line and not line.startswith("#")]
    assert commands[:2] == ["set -euo pipefail", 'cd "$(dirname "$0")/.."']
    done = commands.index("make test")
    assert all("chromium" in c for c in commands[2:done])
    # a twin that can't be had here (2) is no failure, one in which a notebook fails (1) is
    script = "\n".join(commands[done + 1 :]).replace("python3 tests/colab/twin.py", "(exit $CODE)")
    for code, status in ((0, 0), (2, 0), (1, 1)):
        run = ["bash", "-euo", "pipefail", "-c", script]
        assert subprocess.run(run, env={**os.environ, "CODE": str(code)}).returncode == status
    assert "make test" in read("README.md")
