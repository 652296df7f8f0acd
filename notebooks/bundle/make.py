"""Make the archives with which the course is set up without a network: make bundle

    python notebooks/bundle/make.py [linux windows macos] [--python 3.12.0] [--wheels FOLDER] [--torch-index URL]

For each system one archive in dist/: wheels, the course at the last commit, its site where there is one,
install.py and start.py. pip's resolver reads the markers of the machine on which it runs, so the packages are
found here: from pyproject.toml on, level by level, each at its version in constraints.txt.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import re
import subprocess
import sys
import tarfile
import time
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from packaging.metadata import Metadata
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name, parse_wheel_filename

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parent.parent.parent
CACHE = ROOT / ".cache" / "bundle"
HERE = ROOT / "notebooks" / "bundle"
TORCH_INDEX = "https://download.pytorch.org/whl/cpu"  # PyPI's torch for Linux is a CUDA build
FOLDERS = {"site": "build/site", "slides": "slides"}  # in the archive, and where they were made
LISTS = {"learner": ("lab",), "teacher": ("lab", "teach")}  # what install.py takes, by its extras
LIMIT_MB = 700
SPARE_MB = 250  # first picture, Jupyter's settings, a learner's work


@dataclass(frozen=True)
class Target:
    """A system: its names for pip, for markers and for people."""

    label: str
    platforms: tuple[str, ...]  # for pip
    system: str  # platform.system()
    sys_platform: str
    os_name: str
    machines: tuple[str, ...]  # platform.machine(), the first as in markers
    release: str = "0"
    needs: str = ""
    up: str = "../../.."  # from site-packages to the archive's folder
    torch_index: bool = False

    def markers(self, python: str) -> dict[str, str]:
        return {
            "python_version": minor(python),
            "python_full_version": python,
            "implementation_name": "cpython",
            "implementation_version": python,
            "platform_python_implementation": "CPython",
            "platform_system": self.system,
            "platform_machine": self.machines[0],
            "platform_release": "",
            "platform_version": "",
            "sys_platform": self.sys_platform,
            "os_name": self.os_name,
        }


MANYLINUX = [*(f"manylinux_2_{n}_x86_64" for n in (28, 27, 24, 17, 12, 5)), "manylinux2014_x86_64"]
TARGETS = {
    "linux": Target(
        "Linux x86-64", tuple(MANYLINUX), "Linux", "linux", "posix", ("x86_64",),
        "2.28", "A Linux with glibc 2.28 or newer", "../../../..", torch_index=True,
    ),
    "windows": Target(
        "Windows x86-64", ("win_amd64",), "Windows", "win32", "nt", ("AMD64", "x86_64"),
    ),
    "macos": Target(
        "macOS arm64", ("macosx_14_0_arm64",), "Darwin", "darwin", "posix", ("arm64",),
        "14", "macOS 14 or newer", "../../../..",
    ),
}  # fmt: skip


@dataclass
class Options:
    """What the command line says."""

    python: str = "3.12.0"  # the oldest of its kind that a learner may have
    wheels: Path | None = None
    torch_index: str = TORCH_INDEX
    cache: Path = field(default=CACHE)
    out: Path = field(default=ROOT / "dist")


def minor(python: str) -> str:
    """3.12 of 3.12.0"""
    return ".".join(python.split(".")[:2])


def project() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]


def roots(*extras: str) -> list[Requirement]:
    """What is installed, with the pip that installs it: for a learner the extra lab, for a teacher teach, too."""
    asked = project()
    optional = [line for extra in extras for line in asked["optional-dependencies"][extra]]
    return [Requirement(line) for line in (*asked["dependencies"], *optional, "pip>=24")]


def pins(text: str, markers: dict[str, str]) -> dict[str, str]:
    """Package → version from constraints.txt, as a target reads it."""
    lines = (line.partition("#")[0].strip() for line in text.splitlines())
    read = [Requirement(line) for line in lines if line]
    return {
        canonicalize_name(one.name): next(iter(one.specifier)).version
        for one in read
        if one.marker is None or one.marker.evaluate(markers)
    }


def requirements_of(wheel: Path) -> list[Requirement]:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (n for n in archive.namelist() if re.fullmatch(r"[^/]+\.dist-info/METADATA", n))
        told = Metadata.from_email(archive.read(name), validate=False)
    return told.requires_dist or []


Fetch = Callable[[dict[str, str]], dict[str, Path]]


def closure(
    first: list[Requirement], versions: dict[str, str], markers: dict[str, str], fetch: Fetch
) -> dict[str, Path]:
    """The wheel of every package that is needed: fetch gives those of a level, name → version, in one call."""
    wheels: dict[str, Path] = {}
    seen: set[tuple[str, str]] = set()
    level = first
    while level:
        for one in level:
            name = canonicalize_name(one.name)
            if name not in versions:
                raise SystemExit(f"{name} has no version in constraints.txt")
            if not one.specifier.contains(versions[name], prereleases=True):
                raise SystemExit(
                    f"constraints.txt has {name} {versions[name]}, and {one} is needed"
                )
            if re.match("nvidia-|cuda-|triton$", name):
                raise SystemExit(
                    f"this torch is a CUDA build, which needs {name}: name a folder with a CPU build "
                    "(WHEELS=FOLDER) or an index of them (TORCH_INDEX=URL)"
                )
        names = dict.fromkeys(canonicalize_name(one.name) for one in level)
        wheels |= fetch({name: versions[name] for name in names if name not in wheels})
        following = []
        for one in level:
            name = canonicalize_name(one.name)
            for extra in ("", *one.extras):
                if (name, extra) in seen:
                    continue
                seen.add((name, extra))
                for other in requirements_of(wheels[name]):
                    if other.marker is None or other.marker.evaluate({**markers, "extra": extra}):
                        following.append(other)
        level = following
    return wheels


def last_error(text: str) -> str:
    if re.search("NewConnectionError|timed out|ProxyError", text):
        return "its index can't be reached"
    lines = [line for line in text.splitlines() if line.startswith("ERROR")]
    return (lines or text.splitlines() or ["pip gave no reason"])[-1]


def fetcher(target: Target, options: Options) -> Fetch:
    """Downloads into the target's own folder what is not there yet."""
    folder = options.cache / f"{target.sys_platform}-{minor(options.python)}"
    folder.mkdir(parents=True, exist_ok=True)
    common = ["--quiet", "--disable-pip-version-check", "--no-deps", "--only-binary=:all:"]
    common += ["--implementation", "cp", "--python-version", options.python, "--dest", str(folder)]
    common += [word for name in target.platforms for word in ("--platform", name)]
    local = [] if options.wheels is None else ["--find-links", str(options.wheels)]

    def there() -> dict[tuple[str, str], Path]:
        read = {path: parse_wheel_filename(path.name) for path in folder.glob("*.whl")}
        return {(name, version.public): path for path, (name, version, *_) in read.items()}

    def download(wanted: dict[str, str], source: list[str]) -> None:
        lines = [f"{name}=={version}" for name, version in wanted.items()]
        command = [sys.executable, "-m", "pip", "download", *common, *local, *source, *lines]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(last_error(done.stderr))

    def fetch(wanted: dict[str, str]) -> dict[str, Path]:
        missing = {name: v for name, v in wanted.items() if (name, v) not in there()}
        if target.torch_index and "torch" in missing:
            torch = {"torch": missing.pop("torch")}
            given = options.wheels is not None and any(options.wheels.glob("torch-*.whl"))
            source = ["--no-index"] if given else ["--index-url", options.torch_index]
            try:
                download(torch, source)
            except SystemExit as error:
                raise SystemExit(
                    f"no CPU build of torch {torch['torch']}, Python {minor(options.python)}, was found ({error}): "
                    "name a folder with its wheel (WHEELS=FOLDER) or an index of them (TORCH_INDEX=URL)"
                ) from error
        if missing:
            download(missing, [])
        found = there()
        return {name: found[name, version] for name, version in wanted.items()}

    return fetch


def course_wheel(folder: Path, target: Target) -> Path:
    """The course as a wheel that only says where it lies, from site-packages: nothing is built by a learner."""
    asked = project()
    version, stem = asked["version"], f"{asked['name'].replace('-', '_')}-{asked['version']}"
    needed = "".join(f"Requires-Dist: {line}\n" for line in asked["dependencies"])
    scripts = "".join(f"{name} = {place}\n" for name, place in asked["scripts"].items())
    files = {
        "minimagen_course.pth": f"{target.up}/course\n",
        f"{stem}.dist-info/METADATA": f"Metadata-Version: 2.1\nName: {asked['name']}\nVersion: {version}\n{needed}",
        f"{stem}.dist-info/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{stem}.dist-info/entry_points.txt": f"[console_scripts]\n{scripts}",
    }
    record = f"{stem}.dist-info/RECORD"
    files[record] = "".join(f"{name},,\n" for name in (*files, record))
    path = folder / f"{stem}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in files.items():
            archive.writestr(zipfile.ZipInfo(name, (2026, 1, 1, 0, 0, 0)), text)
    return path


def git(*words: str) -> bytes:
    return subprocess.run(["git", "-C", str(ROOT), *words], check=True, capture_output=True).stdout


def course_files() -> dict[str, bytes]:
    """The last commit, without its history and its tests."""
    packed = tarfile.open(fileobj=io.BytesIO(git("archive", "HEAD")))
    left_out = re.compile(r"tests/|notebooks/bundle/|\.ci/|\.github/")
    return {
        member.name: packed.extractfile(member).read()  # type: ignore[union-attr]
        for member in packed.getmembers()
        if member.isfile() and not left_out.match(member.name)
    }


def description(target: Target, python: str, wheels: list[Path]) -> dict:
    """bundle.json: what install.py must know."""
    inside = [info for wheel in wheels for info in zipfile.ZipFile(wheel).infolist()]
    size = sum(info.file_size for info in inside)
    code = sum(info.file_size for info in inside if info.filename.endswith(".py"))
    return {
        "label": target.label,
        "python": python,
        "system": target.system,
        "machines": [name.lower() for name in target.machines],
        "release": target.release,
        "needs": target.needs,
        "commit": git("rev-parse", "HEAD").decode().strip(),
        "mb": round((size + code) / 1e6)
        + SPARE_MB,  # compiled files are about as large as their code
        "longest": max(len(info.filename) for info in inside),
        "wheels": {w.name: hashlib.sha256(w.read_bytes()).hexdigest() for w in wheels},
    }


def pinned(wheels: list[Path]) -> str:
    """The lines with which pip takes just these wheels."""
    named = (parse_wheel_filename(wheel.name) for wheel in wheels)
    return "".join(sorted(f"{name}=={version}\n" for name, version, *_ in named))


def pack(path: Path, wheels: dict[str, list[Path]], about: dict, extra: dict[str, Path]) -> None:
    """One zip, under its final name only when it is whole; what is compressed already is stored.

    wheels: for each list of requirements its wheels; "teacher" has them all.
    """
    top, part = "minimagen-course", path.with_suffix(".part")
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(part, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in ("install.py", "start.py", "READ-ME.txt"):
            archive.write(HERE / name, f"{top}/{name}")
        archive.writestr(f"{top}/bundle.json", json.dumps(about, indent=1) + "\n")
        for name, listed in wheels.items():
            archive.writestr(f"{top}/wheels/{name}.txt", pinned(listed))
        for wheel in wheels["teacher"]:
            archive.write(wheel, f"{top}/wheels/{wheel.name}", zipfile.ZIP_STORED)
        for name, content in course_files().items():
            archive.writestr(f"{top}/course/{name}", content)
        for name, folder in extra.items():
            for file in sorted(folder.rglob("*")):
                if file.is_file():
                    archive.write(file, f"{top}/{name}/{file.relative_to(folder)}")
    part.replace(path)


def make(target: Target, options: Options) -> Path:
    markers = target.markers(options.python)
    versions = pins((ROOT / "constraints.txt").read_text("utf-8"), markers)
    fetch = fetcher(target, options)
    own = course_wheel(options.cache / f"{target.sys_platform}-{minor(options.python)}", target)
    wheels = {}
    for name, extras in LISTS.items():
        found = closure(roots(*extras), versions, markers, fetch)
        wheels[name] = sorted([*found.values(), own], key=lambda wheel: wheel.name.lower())
    extra = {name: ROOT / folder for name, folder in FOLDERS.items()}
    if (extra["site"] / "slides").is_dir():  # they are there already
        del extra["slides"]
    python, system = minor(options.python), target.label.lower().replace(" ", "-")
    name = f"minimagen-course-{project()['version']}-{system}-python{python}.zip"
    path = options.out / name
    about = description(target, options.python, wheels["teacher"])
    pack(path, wheels, about, {name: folder for name, folder in extra.items() if folder.is_dir()})
    return path


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("targets", nargs="*", help="linux, windows, macos: all of them by default")
    parser.add_argument("--python", default=Options.python, help="the oldest that learners have")
    parser.add_argument("--wheels", type=Path, help="a folder with wheels, asked first")
    parser.add_argument("--torch-index", default=TORCH_INDEX, help="for Linux: CPU builds of torch")
    parser.add_argument("--out", type=Path, default=ROOT / "dist")
    told = parser.parse_args()
    if unknown := {*told.targets} - {*TARGETS}:
        parser.error(f"{', '.join(sorted(unknown))} is none of {', '.join(TARGETS)}")
    options = Options(told.python, told.wheels, told.torch_index, out=told.out)
    failed = 0
    for name in told.targets or TARGETS:
        begun = time.monotonic()
        try:
            path = make(TARGETS[name], options)
        except SystemExit as error:
            print(f"{name}: {error}", file=sys.stderr)
            failed = 1
            continue
        mb = path.stat().st_size / 1e6
        print(f"{path.name}: {mb:.0f} MB, made in {time.monotonic() - begun:.0f} s", flush=True)
        if mb > LIMIT_MB:
            print(f"{name}: over {LIMIT_MB} MB", file=sys.stderr)
            failed = 1
    sys.exit(failed)


if __name__ == "__main__":
    main()
