"""Open the course in the browser, after install.py:

    python start.py [options of JupyterLab, such as --no-browser]

Jupyter's settings stay in this folder, too, and what you write in course/work.
"""

import subprocess
import sys

from install import DONE, HERE, PYTHON, environment

PLACES = ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR")


def main():
    if not DONE.is_file():
        raise SystemExit("Nothing is installed yet: run python install.py first.")
    own = environment()
    for name in ("TMPDIR", "TEMP", "TMP"):  # that folder was for the installation
        del own[name]
    own.update({name: str(HERE / ".jupyter" / name.lower()) for name in PLACES})
    command = [str(PYTHON), "-m", "minimagen.course.start", *sys.argv[1:]]
    try:
        sys.exit(subprocess.call(command, cwd=str(HERE / "course"), env=own))
    except KeyboardInterrupt:
        pass  # Jupyter has said what there is to say


if __name__ == "__main__":
    main()
