"""The archives that need no network: what install.py says, that it goes on after an interruption, what is resolved.

The whole way, from `make bundle` to the first picture, is slow: test_the_whole_way.
"""

import importlib.util
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[2]
HERE = ROOT / "notebooks" / "bundle"
DRAWS = "import sys\nimport tiny\nopen(sys.argv[sys.argv.index('--out') + 1], 'w').close()\n"


def load(name, path):
    spec = importlib.util.spec_from_file_location(name, path)
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


make = load("bundle_make", HERE / "make.py")
LINUX = make.TARGETS["linux"]


def wheel(folder, name, version="1.0", requires=(), **files):
    """A small one, by hand."""
    info = f"{name}-{version}.dist-info"
    head = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    told = {
        **files,
        f"{info}/METADATA": head + "".join(f"Requires-Dist: {line}\n" for line in requires),
        f"{info}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/RECORD": "",
    }
    told[f"{info}/RECORD"] = "".join(f"{each},,\n" for each in told)
    path = folder / f"{name}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for each, text in told.items():
            archive.writestr(each, text)
    return path


# --- what is resolved -------------------------------------------------------------------------

TREE = {
    "course": ['shell[lab]>=1; sys_platform != "mars"', 'old; python_version < "3.11"'],
    "shell": [
        'colorama; sys_platform == "win32"',
        'appnope; platform_system == "Darwin"',
        'pexpect; os_name == "posix"',
        'lab-tools; extra == "lab"',
        'docs-tools; extra == "docs"',
        "course",
    ],
    "colorama": [], "appnope": [], "pexpect": [], "lab-tools": [], "old": [], "docs-tools": [],
}  # fmt: skip
VERSIONS = dict.fromkeys(TREE, "1.0")


def resolve(tmp_path, target, tree=TREE, versions=VERSIONS):
    calls = []

    def fetch(wanted):
        calls.extend(wanted)
        return {n: wheel(tmp_path, n.replace("-", "_"), v, tree[n]) for n, v in wanted.items()}

    markers = make.TARGETS[target].markers("3.12.0")
    found = make.closure([Requirement("course")], versions, markers, fetch)
    assert sorted(calls) == sorted(found), "every wheel is fetched once"
    return {*found} - {"course", "shell", "lab-tools"}


@pytest.mark.parametrize(
    "target, own",
    [("linux", {"pexpect"}), ("macos", {"pexpect", "appnope"}), ("windows", {"colorama"})],
)
def test_markers_are_those_of_the_target_and_not_of_this_machine(tmp_path, target, own):
    assert resolve(tmp_path, target) == own


@pytest.mark.parametrize(
    "requires, sentence",
    [
        ("nvidia-cublas==13; platform_system == 'Linux'", "WHEELS=FOLDER"),
        ("unheard-of", "unheard-of has no version in constraints.txt"),
        ("shell>=2", "constraints.txt has shell 1.0"),
    ],
)
def test_what_cannot_be_resolved_is_one_sentence(tmp_path, requires, sentence):
    tree = {**TREE, "course": [requires]}
    with pytest.raises(SystemExit, match=sentence):
        resolve(tmp_path, "linux", tree, {**VERSIONS, "nvidia-cublas": "13"})


def test_a_cuda_build_for_other_systems_is_none_for_this_one(tmp_path):
    tree = {**TREE, "course": ["nvidia-cublas==13; platform_system == 'Linux'"]}
    assert resolve(tmp_path, "windows", tree) == set()


def test_versions_are_those_of_the_constraints():
    text = (ROOT / "constraints.txt").read_text("utf-8")
    for target in make.TARGETS.values():
        pinned = make.pins(text, target.markers("3.12.0"))
        for one in make.roots("lab", "teach"):
            assert one.specifier.contains(pinned[make.canonicalize_name(one.name)]), one


def test_no_cpu_build_of_torch_is_one_sentence(tmp_path, monkeypatch):
    def run(command, **how):
        assert "https://nowhere.invalid" in command
        return subprocess.CompletedProcess(command, 1, "", "NewConnectionError: no\nERROR: none\n")

    monkeypatch.setattr(make.subprocess, "run", run)
    fetch = make.fetcher(LINUX, make.Options(torch_index="https://nowhere.invalid", cache=tmp_path))
    with pytest.raises(SystemExit, match=r"torch 2.6, Python 3.12.*can't be reached.*TORCH_INDEX"):
        fetch({"torch": "2.6"})


# --- install.py -------------------------------------------------------------------------------


@pytest.fixture
def unpacked(tmp_path):
    """An archive with one tiny package, in a folder with a space and Chinese letters."""
    bundled = Path(importlib.util.find_spec("ensurepip").origin).parent.glob("_bundled/pip-*")
    pip = next(bundled, None)
    if pip is None or not sys.platform.startswith("linux"):
        pytest.skip("needs ensurepip's own wheel of pip, and Linux")
    folder = tmp_path / "一个 文件夹"
    (folder / "wheels").mkdir(parents=True)
    for name in ("install.py", "start.py"):
        shutil.copy(HERE / name, folder)
    package = folder / "course" / "minimagen"
    (package / "course").mkdir(parents=True)
    for name in ("__init__.py", "course/__init__.py"):
        (package / name).touch()
    (package / "cli.py").write_text(DRAWS)
    (package / "course" / "start.py").write_text(
        "import os, sys\nprint(os.getcwd(), sys.argv[1:])\n"
    )
    shutil.copy(pip, folder / "wheels")
    wheel(folder / "wheels", "tiny", **{"tiny.py": "x = 1\n"})
    wheel(folder / "wheels", "marks", **{"marks.py": ""})
    course = make.course_wheel(folder / "wheels", LINUX)
    with zipfile.ZipFile(course) as archive:  # without what it needs: torch is not tiny
        texts = {name: archive.read(name).decode() for name in archive.namelist()}
    with zipfile.ZipFile(course, "w") as archive:
        for name, text in texts.items():
            lines = text.splitlines(keepends=True)
            archive.writestr(name, "".join(x for x in lines if not x.startswith("Requires-Dist")))
    wheels = sorted((folder / "wheels").glob("*.whl"))
    (folder / "wheels" / "learner.txt").write_text("minimagen-course\ntiny==1.0\n")
    (folder / "wheels" / "teacher.txt").write_text("minimagen-course\nmarks==1.0\ntiny==1.0\n")
    python = f"{sys.version_info[0]}.{sys.version_info[1]}.0"
    machine = [os.uname().machine.lower()]
    about = {**make.description(LINUX, python, wheels), "machines": machine, "mb": 1}
    (folder / "bundle.json").write_text(json.dumps(about))
    return folder


def change(folder, **facts):
    path = folder / "bundle.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **facts}))


def command(folder, script="install.py", *more):
    run = [sys.executable, folder / script, *more]
    return subprocess.run(run, capture_output=True, text=True, stdin=subprocess.DEVNULL)


def refused(folder):
    """The one sentence with which it stops; nothing is installed then."""
    done = command(folder)
    assert done.returncode == 1 and done.stderr.count("\n") == 1, done.stderr
    assert not (folder / ".venv").exists()
    return done.stderr


def imports(folder):
    ask = "import tiny, minimagen; print(tiny.x, minimagen.__file__)"
    there = folder / ".venv" / "bin" / "python"
    return subprocess.run([there, "-Ec", ask], capture_output=True, text=True, cwd="/").stdout


@pytest.mark.parametrize(
    "facts, sentence",
    [
        ({"python": "3.99.0"}, "Python 3.99 is needed, and none was found here: get it from https"),
        ({"python": f"3.{sys.version_info[1]}.99"}, "or a later 3"),
        (
            {"system": "Windows", "label": "Windows x86-64"},
            "This archive is for Windows x86-64, and",
        ),
        ({"machines": ["arm65"], "label": "Mars"}, "This archive is for Mars, and Python 3"),
        ({"release": "99.1", "needs": "A Linux of tomorrow"}, "A Linux of tomorrow is needed"),
        ({"mb": 10**9}, "1000000000 MB of disk are needed here, and"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_missing_is_one_sentence(unpacked, facts, sentence):
    change(unpacked, **facts)
    assert sentence in refused(unpacked)


def test_a_missing_and_a_damaged_wheel_are_one_sentence(unpacked):
    tiny = unpacked / "wheels" / "tiny-1.0-py3-none-any.whl"
    tiny.write_bytes(tiny.read_bytes()[:-1])
    assert "wheels/tiny-1.0-py3-none-any.whl is damaged" in refused(unpacked)
    tiny.unlink()
    assert "wheels/tiny-1.0-py3-none-any.whl is missing" in refused(unpacked)
    (unpacked / "bundle.json").unlink()
    assert "bundle.json': unpack the whole archive" in refused(unpacked)


def test_it_installs_goes_on_after_an_interruption_and_starts(unpacked):
    early = command(unpacked, "start.py")
    assert early.returncode == 1 and "run python install.py first" in early.stderr
    # interrupted while the environment was made, and again amid tiny's files: pip takes it for installed
    (unpacked / ".venv" / "bin").mkdir(parents=True)
    done = command(unpacked)
    assert done.returncode == 0, done.stderr + done.stdout
    assert "python start.py" in done.stdout and (unpacked / "first.png").exists()
    assert imports(unpacked) == f"1 {unpacked}/course/minimagen/__init__.py\n"
    (packages,) = unpacked.glob(".venv/lib/*/site-packages")
    (packages / "tiny.py").unlink()
    (packages / "tiny-1.0.dist-info" / "INSTALLER").unlink()
    (unpacked / ".venv" / "installed").unlink()
    assert command(unpacked).returncode == 0 and imports(unpacked)
    # what is whole is not touched again
    before = os.stat(packages / "tiny.py").st_ctime_ns
    assert command(unpacked).stdout.startswith("Everything is installed")
    assert os.stat(packages / "tiny.py").st_ctime_ns == before
    assert not (unpacked / ".tmp").exists()
    started = command(unpacked, "start.py", "--no-browser")
    assert started.stdout == f"{unpacked}/course ['--no-browser']\n"
    # a teacher needs more, and may ask for it later
    assert not (packages / "marks.py").exists()
    done = command(unpacked, "install.py", "--teacher")
    assert done.returncode == 0 and (packages / "marks.py").exists()
    assert "-m minimagen.course.grading" in done.stdout
    assert command(unpacked).stdout.startswith("Everything is installed")
    wrong = command(unpacked, "install.py", "--techer")
    assert (
        wrong.returncode == 1
        and wrong.stderr == "It is python install.py, or python install.py --teacher.\n"
    )


def test_it_waits_for_a_pip_that_outlived_its_install(unpacked):
    """Two at once would write the same files: the lock is on bundle.json, and pip holds it, too."""
    import fcntl

    with open(unpacked / "bundle.json") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        run = [sys.executable, unpacked / "install.py"]
        second = subprocess.Popen(run, stdout=subprocess.PIPE, text=True)
        assert second.stdout.readline().startswith("An earlier installation is still at work here")
        assert not (unpacked / ".venv").exists()
    said, _ = second.communicate()
    assert second.returncode == 0 and "Everything is installed" in said and imports(unpacked)


def test_an_interruption_says_that_it_goes_on(unpacked, monkeypatch):
    install = load("bundle_install", unpacked / "install.py")

    def interrupted(*command):
        raise KeyboardInterrupt

    monkeypatch.setattr(install, "run", interrupted)
    with pytest.raises(SystemExit, match="the same command goes on"):
        install.main([])
    assert not install.DONE.exists()


def test_a_failure_of_pip_is_its_reason(unpacked):
    (unpacked / "wheels" / "learner.txt").write_text("tiny==2.0\n")
    done = command(unpacked)
    assert done.returncode == 1 and done.stderr.startswith("pip failed: ERROR: No matching")
    assert done.stderr.count("\n") == 1 and not (unpacked / ".venv" / "installed").exists()


# --- the whole way ----------------------------------------------------------------------------


@pytest.mark.slow
def test_the_whole_way(tmp_path):
    """The archive for this Python, made, unpacked, installed without a network, and chapter 00 run in it.

    Needs a network to make it, and a CPU build of torch: BUNDLE_WHEELS names a folder that has one.
    """
    made = [sys.executable, HERE / "make.py", "linux", "--out", tmp_path]
    made += ["--python", platform.python_version()]
    if "BUNDLE_WHEELS" in os.environ:
        made += ["--wheels", os.environ["BUNDLE_WHEELS"]]
    done = subprocess.run(made, capture_output=True, text=True)
    if done.returncode and "CPU build" in done.stderr:
        pytest.skip(done.stderr)
    assert done.returncode == 0, done.stderr
    (archive,) = tmp_path.glob("*.zip")
    assert archive.stat().st_size < make.LIMIT_MB * 1e6
    with zipfile.ZipFile(archive) as packed:
        packed.extractall(tmp_path / "一个 文件夹")
    archive.unlink()
    folder, home = tmp_path / "一个 文件夹" / "minimagen-course", tmp_path / "home"
    home.mkdir()
    up = 'ip link set lo up && exec env -i "$@"'  # a kernel is spoken to over it
    alone = ["unshare", "--map-root-user", "--net", "sh", "-c", up, "sh"]
    if not shutil.which("unshare") or subprocess.run([*alone, "true"]).returncode:
        pytest.skip("the network can't be taken away here")
    bare = ["PATH=/nowhere", f"HOME={home}", "LANG=C.UTF-8"]
    outside = Path(sys.base_prefix) / "bin" / f"python3.{sys.version_info[1]}"
    install = [*alone, *bare, outside, folder / "install.py"]
    # killed amid pip, as when the battery is empty
    first = subprocess.Popen(install, start_new_session=True)
    while first.poll() is None and len(list(folder.glob(".venv/**/*.dist-info"))) < 30:
        time.sleep(0.2)
    os.killpg(first.pid, signal.SIGKILL)
    assert first.wait() == -signal.SIGKILL and not (folder / ".venv" / "installed").exists()
    done = subprocess.run(install, capture_output=True)
    assert done.returncode == 0, done.stderr.decode()
    assert not any(home.iterdir()), "the home folder was written"
    assert (folder / "first.png").stat().st_size > 10_000
    book = folder / "course" / "notebooks" / "solutions" / "00_start_here.ipynb"
    convert = ["jupyter", "nbconvert", "--to", "notebook", "--execute", "--output", "ran", book]
    quick = [*bare, "MINIMAGEN_BUDGET=quick", folder / ".venv/bin/python", "-m", *convert]
    done = subprocess.run([*alone, *quick], capture_output=True)
    assert done.returncode == 0, done.stderr.decode()
    assert book.with_name("ran.ipynb").exists()
    done = subprocess.run([*install, "--teacher"], capture_output=True)
    assert done.returncode == 0, done.stderr.decode()
    grading = [*bare, folder / ".venv/bin/python", "-m", "minimagen.course.grading"]
    made = [*alone, *grading, "assignments", "--chapters", "01", "--to", folder / "grades"]
    done = subprocess.run(made, capture_output=True)
    assert done.returncode == 0, done.stderr.decode()
    assert b"1 assignments" in done.stdout
