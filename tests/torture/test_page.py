"""The page of results is what the results say."""

import json

from tools import reliability_page


def test_page_is_what_the_results_say() -> None:
    lines = reliability_page.RESULTS.read_text(encoding="utf-8").splitlines()
    assert reliability_page.PAGE.read_text(encoding="utf-8") == reliability_page.page(lines), "run `make docs`"


def test_results_add_up_and_controls_come_last() -> None:
    row = {"date": "2026-01-01", "what": "zombies", "store": "s", "count": 700, "violations": 0, "command": "make x"}
    rows = [{**row, "what": "control"}, row, {**row, "date": "2026-01-02", "count": 500, "violations": 1}]
    page = reliability_page.page(map(json.dumps, rows))
    assert page.splitlines()[-2:] == [
        "| zombies | s | 1,200 | 1 | 2 | 2026-01-02 | `make x` |",
        "| control | s | 700 | 0 | 1 | 2026-01-01 | `make x` |",
    ]
