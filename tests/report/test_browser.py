"""Every kind of page in a real browser: nothing is fetched, nothing complains, all of it can be read everywhere."""

import html
import importlib
import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.report.browser import PHONE, WIDE, chromium, opened

if TYPE_CHECKING:
    from playwright.sync_api import Browser

# Kind of page -> what makes one, by real steps, in an empty folder: (folder) -> path of the page.
PAGES = {
    "data card of a table": "tests.report.pages:table_card",
    "data card of many columns": "tests.report.pages:wide_card",
    "data card of images": "tests.report.pages:images_card",
    "data card of boxes": "tests.report.pages:boxes_card",
    "data card of masks": "tests.report.pages:masks_card",
    "evaluation of text": "tests.report.pages:evaluation_of_text",
    "evaluation of images": "tests.report.pages:evaluation_of_images",
    "evaluation of many classes": "tests.report.pages:evaluation_of_many_classes",
    "evaluation of numbers": "tests.report.pages:evaluation_of_numbers",
    "evaluation of boxes": "tests.report.pages:evaluation_of_boxes",
    "evaluation of masks": "tests.report.pages:evaluation_of_masks",
    "backbone": "tests.report.pages:backbone_page",
    "lineage": "tests.report.pages:lineage_page",
}


@pytest.fixture(scope="module")
def browser() -> "Iterator[Browser]":
    with chromium() as found:
        yield found


@pytest.fixture(scope="module", params=PAGES)
def page(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    module, _, name = PAGES[request.param].partition(":")
    make: Callable[[Path], Path] = getattr(importlib.import_module(module), name)
    return make(tmp_path_factory.mktemp("page"))


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [WIDE, PHONE])
def test_it_is_whole_and_can_be_read(browser: "Browser", page: Path, width: int, dark: bool) -> None:
    with opened(browser, page, width=width, dark=dark) as seen:
        found = seen.measure()
    assert (seen.complaints, seen.dialogs) == ([], [])
    assert [asked for asked in seen.requests if not asked.startswith("data:")] == [page.resolve().as_uri()]
    assert (found["overflow"], found["outside"]) == (0, [])
    assert found["pale"] == [], "text needs contrast"
    assert (found["twice"], found["scripts"], found["handlers"], found["empty"]) == ([], 0, [], [])
    headings = found["headings"]
    assert headings[0] == 1 and headings.count(1) == 1
    assert [pair for pair in itertools.pairwise(headings) if pair[1] > pair[0] + 1] == []
    assert page.stat().st_size < 3_100_000


def test_it_works_where_no_script_may_run(browser: "Browser", page: Path, tmp_path: Path) -> None:
    text = page.read_text()
    around = tmp_path / "around.html"
    around.write_text(
        '<!doctype html><title>x</title><iframe sandbox="" style="width:800px;height:600px" '
        f'srcdoc="{html.escape(text, quote=True)}"></iframe>'
    )
    with opened(browser, around) as seen:
        inside = seen.page.frames[1]
        assert inside.locator("h1").inner_text() == html.unescape(text.partition("<h1>")[2].partition("</h1>")[0])
        assert inside.locator("footer").is_visible()
    assert seen.complaints == []
