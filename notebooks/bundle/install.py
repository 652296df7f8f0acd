"""Set the course up from this folder, without a network:

    python install.py              a learner
    python install.py --teacher    with what marks a class, too

Everything goes into .venv beside this file; nothing outside this folder is written. After an interruption the same
command goes on where it stopped. `python start.py` then opens the course.
"""

import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
WHEELS = HERE / "wheels"
VENV = HERE / ".venv"
PYTHON = VENV / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
DONE = VENV / "installed"
PICTURE = HERE / "first.png"
# what an interpreter is; glibc's version on Linux, the system's on a Mac
ASK = """
import json, platform, sys, venv
release = platform.mac_ver()[0] or platform.libc_ver()[1]
bits = 64 if sys.maxsize > 2**32 else 32
print(json.dumps(["%d.%d.%d" % sys.version_info[:3], platform.machine().lower(), bits, release]))
"""


def environment():
    """The surroundings without settings of Python and pip, and with temporary files in this folder."""
    own = {k: v for k, v in os.environ.items() if not k.startswith(("PIP_", "PYTHON", "VIRTUAL_"))}
    temporary = str(HERE / ".tmp")
    own.update(dict.fromkeys(("TMPDIR", "TEMP", "TMP"), temporary), PIP_CONFIG_FILE=os.devnull)
    own.update(PYTHONNOUSERSITE="1", PYTHONUTF8="1", HF_HUB_OFFLINE="1")
    own.update(MPLCONFIGDIR=str(HERE / ".jupyter" / "matplotlib"))
    return own


def only_one(lock):
    """Wait for a pip that outlived its install.py. Windows has no such locks; there its files are in use."""
    try:
        import fcntl

        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        print("An earlier installation is still at work here: waiting for it", flush=True)
        fcntl.flock(lock, fcntl.LOCK_EX)
    except (ImportError, OSError):
        return ()  # a disk without locks
    return (lock.fileno(),)  # the lock is held until the last process that has this file ends


def run(command, what, held=()):
    """Run a command in this folder, or stop with the last line of what it said."""
    (HERE / ".tmp").mkdir(exist_ok=True)
    done = subprocess.run(
        [str(word) for word in command],
        cwd=str(HERE), env=environment(), stdin=subprocess.DEVNULL, pass_fds=held,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace",
    )  # fmt: skip
    if done.returncode:
        said = [line for line in done.stdout.splitlines() if line.strip()] or ["no reason given"]
        if os.name == "nt" and "DLL" in done.stdout:
            raise SystemExit(
                "Windows lacks the runtime of Visual C++: install https://aka.ms/vs/17/release/vc_redist.x64.exe, "
                "then run this again."
            )
        reasons = [line for line in said if line.startswith("ERROR")] or said
        raise SystemExit(f"{what} failed: {reasons[-1]}")


def version_of(python):
    """(version, machine, bits, release) of an interpreter; None where there is none, or none with venv."""
    try:
        told = subprocess.run(
            [*python, "-c", ASK], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            stdin=subprocess.DEVNULL, text=True, env=environment(), timeout=60,
        )  # fmt: skip
        return json.loads(told.stdout) if told.returncode == 0 else None
    except (OSError, ValueError, subprocess.TimeoutExpired):
        return None


def pythons(version):
    """Where an interpreter of this version may be: the one that runs this first."""
    yield [sys.executable]
    if os.name == "nt":
        yield ["py", f"-{version}"]
        own = Path(os.environ.get("LOCALAPPDATA", HERE)) / "Programs" / "Python"
        found = own.glob(f"Python{version.replace('.', '')}*/python.exe")
    else:
        yield [f"python{version}"]
        framework = f"/Library/Frameworks/Python.framework/Versions/{version}/bin"
        for folder in ("/usr/bin", "/usr/local/bin", "/opt/homebrew/bin", framework):
            yield [f"{folder}/python{version}"]
        home = Path(os.path.expanduser("~"))
        found = [
            *home.glob(f".pyenv/versions/{version}.*/bin/python"),
            *home.glob(f".local/share/uv/python/cpython-{version}.*/bin/python{version}"),
        ]
    for path in found:
        yield [str(path)]


def numbers(release):
    return [int(part) for part in release.split(".") if part.isdigit()]


def find_python(bundle):
    """The first interpreter for which these wheels were made."""
    oldest, label = bundle["python"], bundle["label"]
    version = ".".join(oldest.split(".")[:2])
    if platform.system() != bundle["system"]:
        raise SystemExit(
            f"This archive is for {label}, and this machine runs {platform.system()}: take the archive for that."
        )
    other = None
    for python in pythons(version):
        found = version_of(python)
        if found is None or numbers(found[0])[:2] != numbers(version):
            continue
        full, machine, bits, release = found
        if machine not in bundle["machines"] or bits != 64:
            other = f"This archive is for {label}, and Python {version} here is for {machine} with {bits} bits."
        elif numbers(full) < numbers(oldest):
            other = f"Python {oldest} or a later {version} is needed, and the one here is {full}."
        elif numbers(release) < numbers(bundle["release"]):
            other = f"{bundle['needs']} is needed; here it is {release or 'another system'}."
        else:
            return python
    if other:
        raise SystemExit(other)
    raise SystemExit(
        f"Python {version} is needed, and none was found here: get it from https://www.python.org/downloads/ "
        "or your system's packages, then run install.py with it."
    )


def check_wheels(bundle):
    for name, digest in bundle["wheels"].items():
        wheel = WHEELS / name
        if not wheel.is_file():
            raise SystemExit(f"wheels/{name} is missing: unpack the whole archive again.")
        if hashlib.sha256(wheel.read_bytes()).hexdigest() != digest:
            raise SystemExit(f"wheels/{name} is damaged: copy and unpack the archive again.")


def check_space(bundle):
    there = sum(path.stat().st_size for path in VENV.rglob("*") if path.is_file()) / 1e6
    free, wanted = shutil.disk_usage(str(HERE)).free / 1e6, bundle["mb"] - there
    if free < wanted:
        raise SystemExit(
            f"{wanted:.0f} MB of disk are needed here, and {free:.0f} MB are free: make room, then run this again."
        )


def check_length(bundle):
    """Windows takes paths of up to 259 characters, unless it was told otherwise."""
    limit = 259 - bundle["longest"] - len(r"\.venv\Lib\site-packages\ ") + 1
    if os.name == "nt" and len(str(HERE)) > limit:
        raise SystemExit(
            f"This path is too long for Windows: move the folder to one of at most {limit} letters, as C:\\course."
        )


def drop_unfinished():
    """pip writes INSTALLER after a package's files. What has none was interrupted, and is installed again."""
    for installed in VENV.glob("[Ll]ib/**/site-packages/*.dist-info"):
        if not (installed / "INSTALLER").exists():
            shutil.rmtree(str(installed))


def install(bundle, python, who, held):
    if version_of([str(PYTHON)]) is None:
        run([*python, "-m", "venv", "--clear", "--without-pip", VENV], "The environment")
    drop_unfinished()
    listed = WHEELS / f"{who}.txt"
    count = len(listed.read_text().splitlines())
    print(f"Installing {count} packages: a few minutes, once", flush=True)
    (pip,) = WHEELS.glob("pip-*.whl")
    offline = ["--no-index", "--find-links", WHEELS, "--no-cache-dir"]
    quiet = ["--disable-pip-version-check", "--no-input"]
    run([PYTHON, pip / "pip", "install", *offline, *quiet, "-r", listed], "pip", held)
    print("Drawing a first picture", flush=True)
    draw = ["-m", "minimagen.cli", "draw", "a kitten playing on the grass", "--out", PICTURE]
    run([PYTHON, *draw], "The first picture")


def main(words):
    if words not in ([], ["--teacher"]):
        raise SystemExit("It is python install.py, or python install.py --teacher.")
    who = "teacher" if words else "learner"
    text = (HERE / "bundle.json").read_text(encoding="utf-8")
    bundle, stamp = json.loads(text), hashlib.sha256(text.encode()).hexdigest()
    done = DONE.read_text().split() if DONE.is_file() else []
    enough = done[:1] == [stamp] and who in ("learner", *done[1:])
    if not (enough and version_of([str(PYTHON)])):
        python = find_python(bundle)
        check_length(bundle)
        check_wheels(bundle)
        check_space(bundle)
        try:
            with open(str(HERE / "bundle.json")) as lock:
                install(bundle, python, who, only_one(lock))
        except KeyboardInterrupt:
            raise SystemExit("Interrupted: the same command goes on from here.") from None
        finally:
            shutil.rmtree(str(HERE / ".tmp"), ignore_errors=True)
        DONE.write_text(f"{stamp} {who}")
    if who == "teacher":
        print(
            f"To mark a class: {PYTHON} -m minimagen.course.grading (course/notebooks/GRADING.md)"
        )
    print(
        "Everything is installed, and first.png is a picture that it drew. Start with: python start.py"
    )


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except OSError as error:
        sys.exit(f"{error}: unpack the whole archive into a folder that you may write.")
