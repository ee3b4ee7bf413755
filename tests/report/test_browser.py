"""Every kind of page in a real browser: nothing is fetched, nothing complains, all of it can be read everywhere."""

import html
import importlib
import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.report.browser import PHONE, WIDE, chromium, opened
from tests.report.pages import EVIL, evil_pages

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
    "training that was killed": "tests.report.training_pages:training",
    "generations": "tests.report.training_pages:generations",
    "training": "tests.report.pages:training_page",
}


@pytest.fixture(scope="module")
def browser() -> "Iterator[Browser]":
    with chromium() as found:
        yield found


# Those that have most of what others have; the rest takes minutes, mostly to train what is shown.
QUICK = ("data card of many columns", "evaluation of numbers")


@pytest.fixture(
    scope="module", params=[name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in PAGES]
)
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


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return evil_pages(tmp_path_factory.mktemp("evil"))


# Page -> the hostile texts that it has to show; marks that turn what is around them are shown as U+FFFD.
SHOWN = {
    "data card": EVIL,
    "data card with drift": EVIL,
    "training": (),
    "evaluation": (EVIL[0], EVIL[1], EVIL[2], EVIL[6]),
    "backbone": (EVIL[0], EVIL[1], EVIL[2]),
    "lineage": (),
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", SHOWN)
def test_what_data_say_is_text_and_nothing_else(browser: "Browser", hostile: dict[str, Path], kind: str) -> None:
    path = hostile[kind]
    with opened(browser, path, width=PHONE) as seen:
        found = seen.measure()
        title = seen.page.title()
        styles = seen.page.evaluate("document.querySelectorAll('style').length")
    assert (seen.complaints, seen.dialogs) == ([], [])
    assert [asked for asked in seen.requests if not asked.startswith("data:")] == [path.resolve().as_uri()]
    assert (found["scripts"], found["handlers"], found["overflow"], found["outside"]) == (0, [], 0, [])
    assert not {"iframe", "object", "embed", "link", "a", "form", "b2"} & set(found["elements"])
    # A lineage's drawing is a file by itself too, and brings its own.
    assert styles <= 2 and "<" not in title.replace(EVIL[6], "")
    flat = " ".join(found["text"].split())
    for text in SHOWN[kind]:
        shown = text.replace("\u202e", "\ufffd").replace("\u202c", "\ufffd")
        assert " ".join(shown.split()) in flat, text
