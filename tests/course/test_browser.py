"""A notebook in a real browser: opened and run, saved and trusted or not, exported, and in a sandbox as on Colab.

The screenshots in .cache/screenshots are to be looked at.
"""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from html import escape
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SHOTS = ROOT / ".cache" / "screenshots"  # ignored by git: to be looked at


def loopback() -> bool:
    """Can this machine talk to itself? With the network cut by `unshare -n` it can't."""
    with socket.socket() as server:
        try:
            server.bind(("127.0.0.1", 0))
            server.listen()
            socket.create_connection(server.getsockname(), timeout=5).close()
        except OSError:
            return False
    return True


pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not loopback(), reason="127.0.0.1 is cut off too: ip link set lo up"),
]


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """Address and folder of JupyterLab and Notebook on a copy of the notebooks: ours stay as they are."""
    folder = tmp_path_factory.mktemp("course")
    for name in ("minimagen", "data"):
        (folder / name).symlink_to(ROOT / name)
    shutil.copytree(ROOT / "notebooks", folder / "notebooks")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    # settings of its own: neither the news question nor a learner's choices may stand in the way
    names = (
        *("JUPYTER_CONFIG_DIR", "JUPYTERLAB_SETTINGS_DIR", "IPYTHONDIR"),
        "JUPYTER_DATA_DIR",  # the key that signs trusted notebooks
    )
    own = {name: str(folder / name) for name in names}
    server = subprocess.Popen(
        [sys.executable, "-m", "notebook", "--no-browser", "--allow-root", f"--port={port}",
         "--IdentityProvider.token=", f"--notebook-dir={folder}"],
        env={**os.environ, **own, "MINIMAGEN_BUDGET": "quick"},
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    address = f"http://127.0.0.1:{port}"
    for _ in range(120):
        try:
            urllib.request.urlopen(f"{address}/api", timeout=5).close()
            break
        except OSError:
            time.sleep(0.5)
    yield address, folder
    server.terminate()
    server.wait(30)


def set_theme(folder, theme):
    settings = folder / "JUPYTERLAB_SETTINGS_DIR" / "@jupyterlab" / "apputils-extension"
    settings.mkdir(parents=True, exist_ok=True)
    for name, chosen in (
        ("themes", {"theme": f"JupyterLab {theme}"}),
        ("notification", {"fetchNews": "false", "checkForUpdates": False}),
    ):
        (settings / f"{name}.jupyterlab-settings").write_text(json.dumps(chosen))


def moves(place, picture):
    """The arrow keys, Home and End move the slider in `place`, and with it picture, label and alt text."""
    slider, image = place.get_by_role("slider", name="step"), place.get_by_alt_text(picture)
    slider.scroll_into_view_if_needed(timeout=120_000)
    seen = []
    for key in ("Home", "ArrowRight", "ArrowRight", "End"):
        slider.press(key)
        label = slider.get_attribute("aria-valuetext")
        assert image.get_attribute("alt") == f"{picture}: {label}"
        assert place.get_by_text(label, exact=True).count()
        seen.append((label, image.get_attribute("src")))
    assert len(set(seen)) == 4
    slider.press("Home")
    slider.press("ArrowRight")
    assert slider.get_attribute("aria-valuetext") == seen[1][0]
    # wide enough to see, and no wider than its place
    assert image.evaluate("e => e.complete && e.naturalWidth > 0 && e.clientWidth >= 250")
    assert image.evaluate("e => e.clientWidth <= e.parentElement.clientWidth")


def shot(page, name):
    SHOTS.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=SHOTS / f"{name}.png")


@pytest.mark.parametrize("theme", ["Light", "Dark"])
def test_a_slider_changes_the_picture(lab, browser, theme):
    address, folder = lab
    set_theme(folder, theme)
    name = f"{theme}.ipynb"  # one each: a notebook's old kernel would show old widgets
    shutil.copy(ROOT / "notebooks" / "01_forward_diffusion.ipynb", folder / "notebooks" / name)
    page = browser.new_page(viewport={"width": 1200, "height": 900})
    page.goto(f"{address}/lab/tree/notebooks/{name}?reset")
    page.locator(".jp-Notebook h1").first.wait_for(timeout=60_000)
    # before its kernel is there, "Run All Cells" does nothing at all
    page.locator('.jp-Notebook-ExecutionIndicator[data-status="idle"]').wait_for(timeout=120_000)
    page.get_by_role("menuitem", name="Run", exact=True).click()
    page.get_by_role("menuitem", name=re.compile("^Run All Cells")).click()
    moves(page, "the picture at step t")
    shot(page, f"run-lab-{theme.lower()}")
    page.get_by_text("✓ your q_sample and the package's give the same pictures").wait_for(
        timeout=120_000
    )
    assert page.locator('[data-mime-type="application/vnd.jupyter.error"]').count() == 0
    page.close()


PROBE = """\
import torch
from minimagen.course.check import predict
from minimagen.course.show import ask, curves, frames
guess = predict("how many show a cat", low=0, high=10)
---
frames([torch.rand(3, 16, 16) * (1 - i / 9) for i in range(10)], [f"t = {i}" for i in range(10)], "it fades")
---
curves([1, 2], {"a": [1, 2]}, "x", "y", "a line that rises")
---
ask(lambda prompt, seed: {"base": torch.zeros(1, 3, 16, 16)}, "a panda")
"""


@pytest.fixture(scope="module")
def saved(lab):
    """A notebook as `make notebooks` saves it, in which stands each kind of figure."""
    import nbformat
    from nbclient import NotebookClient

    _, folder = lab
    new = nbformat.v4
    cells = [new.new_markdown_cell("# Probe"), *map(new.new_code_cell, PROBE.split("---\n"))]
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    book = new.new_notebook(cells=cells, metadata={"kernelspec": kernel})
    NotebookClient(
        book, store_widget_state=False, resources={"metadata": {"path": folder}}
    ).execute()
    path = folder / "saved.ipynb"
    nbformat.write(book, path)
    subprocess.run([sys.executable, ROOT / "notebooks" / "tidy.py", path], check=True)
    return path


def opened(browser, address, name, app):
    page = browser.new_page(viewport={"width": 1000, "height": 1300})
    page.goto(f"{address}/{app}/{name}" + ("?reset" if "lab" in app else ""))
    page.locator(".jp-Notebook h1").first.wait_for(timeout=60_000)
    page.get_by_text("Your prediction: how many show a cat").wait_for(timeout=60_000)
    return page


def no_code_of_widgets(page):
    text = page.locator("body").inner_text()
    assert not re.search(r"(VBox|FloatSlider|Text)\(|Error displaying widget", text)


@pytest.mark.parametrize("app", ["lab/tree", "notebooks"])
@pytest.mark.parametrize("theme", ["Light", "Dark"])
def test_a_trusted_notebook_lives_before_it_is_run(lab, saved, browser, app, theme):
    address, folder = lab
    set_theme(folder, theme)
    book = json.loads(saved.read_text(encoding="utf-8"))
    # a signature is of the content: another content, lest the untrusted one be trusted with it
    book["metadata"]["trusted_by"] = "the test"
    name = f"trusted-{app.split('/')[0]}-{theme}.ipynb"
    (folder / name).write_text(json.dumps(book), encoding="utf-8")
    own = {k: str(folder / k) for k in ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR")}
    trust = [sys.executable, "-m", "jupyter", "trust", folder / name]
    subprocess.run(trust, env={**os.environ, **own}, check=True, capture_output=True)
    page = opened(browser, address, name, app)
    moves(page, "it fades")
    no_code_of_widgets(page)
    shot(page, name.removesuffix(".ipynb").lower())
    page.close()


@pytest.mark.parametrize("app", ["lab/tree", "notebooks"])
def test_an_untrusted_notebook_shows_a_strip(lab, saved, browser, app):
    address, folder = lab
    set_theme(folder, "Light")
    page = opened(browser, address, saved.name, app)
    strip = page.locator(".jp-OutputArea-output img").first
    strip.wait_for()
    assert strip.evaluate("e => e.naturalWidth > 6 * e.naturalHeight / 2")  # six pictures in a row
    assert page.get_by_role("slider").count() == 0
    no_code_of_widgets(page)
    shot(page, f"untrusted-{app.split('/')[0]}")
    page.close()


def test_an_exported_page_lives_without_a_kernel(saved, browser):
    subprocess.run(
        [sys.executable, "-m", "nbconvert", "--to", "html", saved], check=True, capture_output=True
    )
    page = browser.new_page(viewport={"width": 1000, "height": 1300})
    page.goto(saved.with_suffix(".html").as_uri())
    moves(page, "it fades")
    no_code_of_widgets(page)
    shot(page, "exported")
    page.close()


@pytest.mark.parametrize("width", [320, 700])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_sandbox_as_on_colab(saved, browser, width, scheme):
    """Colab shows each output in a frame of its own: another origin, scripts allowed, nothing else."""
    cells = json.loads(saved.read_text(encoding="utf-8"))["cells"]
    data = (o["data"] for c in cells for o in c.get("outputs", []) if "data" in o)
    live = next("".join(d["text/html"]) for d in data if "text/html" in d)
    dark = "<body style='background:#383838;color:#e3e3e3'>" if scheme == "dark" else "<body>"
    inside = f"<!doctype html><meta charset=utf-8>{dark}{live}{live}"
    page = browser.new_page(viewport={"width": width, "height": 1100}, color_scheme=scheme)
    broken = []
    page.on("pageerror", lambda error: broken.append(error))
    page.set_content(
        f"<iframe sandbox='allow-scripts' width={width - 20} height=1050 srcdoc='{escape(inside)}'></iframe>"
    )
    frame = page.frame_locator("iframe")
    frame.get_by_role("slider").last.wait_for()
    assert frame.get_by_role("slider").count() == 2, "one for each, however often the script runs"
    frame.locator(".minimagen-frames").last.evaluate("e => e.remove()")
    moves(frame, "it fades")
    assert not broken
    shot(page, f"sandbox-{width}-{scheme}")
    page.close()
