"""The page in a headless Chromium, at desktop and phone width: no errors and no requests."""

import re
import shutil
import socket
import subprocess
import threading
from contextlib import contextmanager

import numpy as np
import pytest
from PIL import Image

from tests.report.test_page import make_page

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
QUIET = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--hide-scrollbars"]
QUIET += ["--disable-background-networking", "--disable-component-update", "--disable-sync", "--enable-logging=stderr"]
ELSEWHERE = "http://elsewhere.test/picture.png"
ITS_OWN = re.compile(r"^\w+ (http://)?[\w.-]*(google|googleapis|gstatic|gvt1)\.com")  # what Chromium asks by itself
HEIGHT = 1500

pytestmark = pytest.mark.skipif(BROWSER is None, reason="no Chromium on this machine")


@contextmanager
def proxy():
    """Run a proxy that does not answer; yield its port and the first lines of the requests."""
    asked = []

    def listen(server):
        while True:
            try:
                connection, _ = server.accept()
            except OSError:  # the test is over
                return
            with connection:
                connection.settimeout(5)
                asked.append(connection.recv(1000).split(b"\r\n")[0].decode(errors="replace"))

    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=listen, args=(server,), daemon=True).start()
        yield server.getsockname()[1], asked
        server.shutdown(socket.SHUT_RDWR)


def show(page, folder, width):
    """Return the pixels of the page at a width, the browser's messages, and its network requests."""
    shot = folder / "shot.png"
    # a window is at least 500 wide
    wrapper = folder / "wrapper.html"
    frame = f'<iframe src="{page.name}" style="border: 0; width: {width}px; height: {HEIGHT}px"></iframe>'
    wrapper.write_text(f'<body style="margin: 0">{frame}</body>', encoding="utf-8")
    with proxy() as (port, asked):
        command = [BROWSER, *QUIET, f"--user-data-dir={folder / 'profile'}", f"--screenshot={shot}"]
        command += [f"--proxy-server=127.0.0.1:{port}", "--proxy-bypass-list=<-loopback>"]
        command += [f"--window-size={max(width, 500)},{HEIGHT}", wrapper.as_uri()]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    complaints = [line for line in done.stderr.splitlines() if re.search(r"CONSOLE", line)]
    asked = [line for line in asked if line and not ITS_OWN.match(line)]
    return np.asarray(Image.open(shot).convert("RGB"))[:, :width], complaints, asked


@pytest.mark.parametrize("width", [1400, 390])
def test_a_browser_shows_the_page_without_errors(tmp_path, width):
    page = tmp_path / "report.html"
    page.write_text(make_page(tmp_path), encoding="utf-8")
    pixels, complaints, asked = show(page, tmp_path, width)
    assert complaints == [] and asked == []
    assert pixels.shape == (HEIGHT, width, 3)
    assert len(np.unique(pixels.reshape(-1, 3), axis=0)) > 50
    for margin in (pixels[:, :5], pixels[:, -5:]):
        assert np.abs(margin.astype(int) - pixels[0, 0]).max() < 5  # it is empty: nothing hangs out


def test_a_page_with_a_request_is_detected(tmp_path):
    page = tmp_path / "report.html"
    page.write_text(f'<img src="{ELSEWHERE}"><script>console.log("hello")</script>', encoding="utf-8")
    _, complaints, asked = show(page, tmp_path, 500)
    assert len(complaints) == 1 and any(ELSEWHERE in line for line in asked)
