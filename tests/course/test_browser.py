"""JupyterLab in a real browser: a notebook is opened and run, a slider is moved, and the picture changes."""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SHOTS = ROOT / ".cache" / "screenshots"  # ignored by git: to be looked at
CHROMIUMS = ("chromium", "chromium-browser", "google-chrome")
CHROMIUM = next(filter(None, map(shutil.which, CHROMIUMS)), None)


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
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here: apt-get install chromium"),
    pytest.mark.skipif(not loopback(), reason="127.0.0.1 is cut off too: ip link set lo up"),
]


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """Address and folder of a JupyterLab on a copy of the notebooks, so that ours stay as they are."""
    folder = tmp_path_factory.mktemp("course")
    for name in ("minimagen", "data"):
        (folder / name).symlink_to(ROOT / name)
    shutil.copytree(ROOT / "notebooks", folder / "notebooks")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    # settings of its own: neither the news question nor a learner's choices may stand in the way
    own = {
        k: str(folder / k) for k in ("JUPYTER_CONFIG_DIR", "JUPYTERLAB_SETTINGS_DIR", "IPYTHONDIR")
    }
    server = subprocess.Popen(
        [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", f"--port={port}",
         "--IdentityProvider.token=", "--LabApp.news_url=None", "--LabApp.check_for_updates_class="
         "jupyterlab.handlers.announcements.NeverCheckForUpdate", f"--notebook-dir={folder}"],
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


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.mark.parametrize("theme", ["JupyterLab Light", "JupyterLab Dark"])
def test_a_slider_changes_the_picture(lab, browser, theme):
    address, folder = lab
    settings = folder / "JUPYTERLAB_SETTINGS_DIR" / "@jupyterlab" / "apputils-extension"
    settings.mkdir(parents=True, exist_ok=True)
    (settings / "themes.jupyterlab-settings").write_text(json.dumps({"theme": theme}))
    name = f"{theme.split()[1].lower()}.ipynb"  # one each: a notebook's old kernel would show old widgets
    shutil.copy(ROOT / "notebooks" / "01_forward_diffusion.ipynb", folder / "notebooks" / name)
    page = browser.new_page(viewport={"width": 1200, "height": 900})
    page.goto(f"{address}/lab/tree/notebooks/{name}?reset")
    page.locator(".jp-Notebook h1").first.wait_for(timeout=60_000)
    # before its kernel is there, "Run All Cells" does nothing at all
    page.locator('.jp-Notebook-ExecutionIndicator[data-status="idle"]').wait_for(timeout=120_000)
    page.get_by_role("menuitem", name="Run", exact=True).click()
    page.get_by_role("menuitem", name=re.compile("^Run All Cells")).click()
    view = page.locator('.widget-html-content img[alt="the picture at step t"]')
    view.scroll_into_view_if_needed(timeout=120_000)
    before = view.get_attribute("src")
    handle = page.locator(".widget-slider", has_text="step").locator('[role="slider"]')
    handle.focus()
    for _ in range(3):
        page.keyboard.press("ArrowRight")
    page.locator(".widget-html-content", has_text="t = 150").wait_for(timeout=60_000)
    assert view.get_attribute("src") != before
    SHOTS.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=SHOTS / f"slider-{theme.split()[1].lower()}.png")
    page.get_by_text("✓ your jump and q_sample give the same pictures").wait_for(timeout=120_000)
    assert page.locator('[data-mime-type="application/vnd.jupyter.error"]').count() == 0
    page.close()
