"""The page for people: alone in the world, and, in a real browser, of use."""

import base64
import hashlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient
from support.browser import CHROMIUM, Browser
from support.server_process import Running

from export.serving.app import PAGE

TEXT = PAGE.decode()
in_a_browser = pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium here; install the package chromium")


def test_it_loads_nothing_from_elsewhere() -> None:
    assert not re.search(r"""(src|href)\s*=\s*["'](https?:)?//""", TEXT)
    assert not re.search(r"@import|url\(|innerHTML|insertAdjacentHTML|eval\(", TEXT)
    assert len(PAGE) < 40_000


def test_its_policy_lets_run_what_is_in_it_and_nothing_else(client: TestClient) -> None:
    reply = client.get("/")
    assert reply.headers["content-type"] == "text/html; charset=utf-8"
    policy = reply.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    for tag in ("script", "style"):
        content = re.search(f"<{tag}>(.*?)</{tag}>", TEXT, re.DOTALL)
        assert content is not None
        digest = base64.b64encode(hashlib.sha256(content[1].encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy
    assert "unsafe" not in policy


def test_everything_that_can_be_filled_in_has_a_name_and_answers_are_announced() -> None:
    assert '<html lang="en">' in TEXT
    assert 'name="viewport"' in TEXT
    assert 'role="status" aria-live="polite"' in TEXT
    assert 'role="alert"' in TEXT
    assert '<label for="token">' in TEXT
    assert 'setAttribute("aria-label", plain(name))' in TEXT


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Browser]:
    browser = Browser(tmp_path / "profile")
    try:
        yield browser
    finally:
        browser.close()


def fill(browser: Browser, media: Path) -> None:
    browser.wait("document.querySelector('#in-text')")
    browser.choose("#in-photo", media / "0.png")
    browser.choose("#in-sound", media / "0.wav")
    browser.run("document.querySelector('#in-text').value = 'red <b>round</b> thing'")
    browser.run("document.querySelector('#in-text').dispatchEvent(new Event('input'))")
    browser.wait("document.querySelector('.drop img') && document.querySelector('audio').src")


@pytest.mark.parametrize("width", [1100, 360])
@pytest.mark.slow
@in_a_browser
def test_a_person_gets_answers_with_probabilities_and_what_counted(
    running: Running, browser: Browser, media: Path, table: Any, tmp_path: Path, width: int
) -> None:
    running.wait_until_ready()
    browser.size(width, 800, phone=width < 500)
    browser.open(f"http://127.0.0.1:{running.port}/")
    fill(browser, media)
    browser.run("document.querySelector('#ask').click()")
    browser.wait("document.querySelectorAll('#answers article').length === 3")
    text = browser.run("document.querySelector('#answers').innerText")
    assert re.search(r"\d+\.\d %", text)
    assert "EUR" in text
    assert browser.run("document.querySelectorAll('#answers details[open]').length") == 3
    assert "color: " in browser.run("document.querySelector('#status').textContent")
    assert browser.run("document.documentElement.scrollWidth <= innerWidth"), "scrolls sideways"
    assert browser.run("document.querySelectorAll('b').length") == 0
    assert browser.messages == []
    browser.picture(tmp_path / "page.png")
    assert (tmp_path / "page.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
@in_a_browser
def test_what_is_wrong_is_said_and_can_be_mended(running: Running, browser: Browser, media: Path) -> None:
    running.wait_until_ready()
    browser.open(f"http://127.0.0.1:{running.port}/")
    browser.wait("document.querySelector('#in-text')")
    browser.run("document.querySelector('#ask').click()")
    browser.wait("document.querySelector('#problem').textContent.startsWith('Give something first')")
    browser.choose("#in-photo", Path(__file__))
    browser.wait("document.querySelector('#problem').textContent.includes('cannot read that file as a picture')")
    fill(browser, media)
    browser.wait("document.querySelector('#problem').hidden")
