"""The built site in a real browser, from the disk: every page, no request to anywhere, no complaint, search works."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.page_blocks import ROOT

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(300),
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here: apt-get install chromium"),
]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("built") / "site"
    words = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)]
    subprocess.run(words, cwd=ROOT, env={**os.environ, "NO_MKDOCS_2_WARNING": "1"}, check=True)
    return folder


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        started = play.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield started
        started.close()


class Watched:
    """A page that remembers what was asked of the network, and what the console complained of."""

    def __init__(self, browser: Any, **context: Any) -> None:
        self.page = browser.new_page(**context)
        self.outside: list[str] = []
        self.complaints: list[str] = []
        self.page.on("request", self._asked)
        self.page.on("console", lambda said: self._complained(said.type, said.text))
        self.page.on("pageerror", lambda error: self._complained("error", str(error)))

    def _asked(self, request: Any) -> None:
        if not request.url.startswith(("file:", "data:", "blob:")):
            self.outside.append(request.url)

    def _complained(self, kind: str, text: str) -> None:
        if kind in {"error", "warning"}:
            self.complaints.append(f"{self.page.url}: {text}")


@pytest.mark.parametrize("width", [390, 1200])
def test_every_page_opens_alone(site: Path, browser: Any, width: int) -> None:
    scheme = "dark" if width < 500 else "light"
    watched = Watched(browser, viewport={"width": width, "height": 900}, color_scheme=scheme)
    wide: list[str] = []
    # 404.html is for a server, whose root its links begin at.
    pages = sorted(path for path in site.rglob("*.html") if path.name != "404.html")
    assert len(pages) > 40
    for path in pages:
        watched.page.goto(path.as_uri())
        assert watched.page.locator("h1").count() >= 1, path
        if watched.page.evaluate("document.documentElement.scrollWidth > innerWidth + 1"):
            wide.append(path.name)
    assert (watched.outside, watched.complaints, wide) == ([], [], [])


def test_the_search_finds_a_word_from_the_disk(site: Path, browser: Any) -> None:
    watched = Watched(browser, viewport={"width": 1200, "height": 900})
    watched.page.goto((site / "index.html").as_uri())
    watched.page.locator("input.md-search__input").first.click()
    watched.page.keyboard.type("heartbeat", delay=20)
    watched.page.locator(".md-search-result__item").first.wait_for(timeout=20_000)
    found = watched.page.locator(".md-search-result__item a").evaluate_all("all => all.map(one => one.href)")
    assert any("owners.html" in link for link in found)
    assert (watched.outside, watched.complaints) == ([], [])


def test_the_switch_of_light_and_dark(site: Path, browser: Any) -> None:
    watched = Watched(browser, viewport={"width": 1200, "height": 900}, color_scheme="light")
    watched.page.goto((site / "index.html").as_uri())
    before = watched.page.evaluate("getComputedStyle(document.body).backgroundColor")
    watched.page.locator("label.md-header__button[title='Dark']").click()
    assert watched.page.evaluate("getComputedStyle(document.body).backgroundColor") != before
