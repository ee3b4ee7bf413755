"""How results show themselves: as text, and as a card that a real browser opens, whatever is in the data."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

import carryover
from carryover.api.backbone import Backbone
from carryover.api.cards import near
from carryover.api.evaluation import Evaluation
from carryover.api.preview import Preview
from tests.api.conftest import Orchard
from tests.report.browser import PHONE, WIDE, chromium, opened

EVIL = '<script>window.evil = 1; alert("x")</script><img src=x onerror="window.evil = 1">'


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as found:
        yield found


def _evaluation() -> Evaluation:
    """With everything that an evaluation can show, and nothing of it to be trusted."""
    metrics = {"roc_auc": 0.9123, EVIL: 0.5, "mcc": None}
    datasets = [{"uri": EVIL, "digest": EVIL, "rows": 3, "metrics": metrics}] * 2
    confusion = {"labels": [EVIL, "no"], "matrix": [[1, 2], [3, 4]]}
    return Evaluation(
        uri=f"s3://bucket/{EVIL}",
        store="s3://bucket",
        metrics=metrics,
        rows=10,
        split="test",
        problem_type="binary",
        model_uri=EVIL,
        model_digest=EVIL,
        datasets=datasets,
        accepted=False,
        reason=EVIL,
        gate={"gain": 0.1},
        matrix=None,
        confusion_matrix=confusion,
        report=f"s3://bucket/{EVIL}",
    )


def _shown(orchard: Orchard) -> list[Any]:
    rows = [{"text": EVIL, EVIL: str(index), "label": f"{EVIL}{index % 2}"} for index in range(40)]
    data = carryover.prepare(rows, "label", store=orchard.store, column_types={"text": "text", EVIL: "categorical"})
    check = {"equal": False, "max_difference": 1e-7, "merged": EVIL}
    backbone = Backbone(EVIL, EVIL, "", {EVIL: EVIL}, {EVIL: check}, 12, EVIL, EVIL, 3, report=EVIL)
    table = pa.table({EVIL: [EVIL, None], "bytes": [b"123", b""], "list": [[1, 2], [3]]})
    return [data, data.head(3), orchard.model, orchard.model.run, _evaluation(), backbone, Preview(table)]


@pytest.mark.parametrize(("width", "dark"), [(WIDE, False), (PHONE, True)])
def test_cards_open_in_a_browser_and_run_nothing(
    orchard: Orchard, browser: Any, tmp_path: Path, width: int, dark: bool
) -> None:
    cards = [one._repr_html_() for one in _shown(orchard)]
    assert all(card.count("<div") == card.count("</div>") and "<script" not in card for card in cards)
    page = '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Cards</title>'
    page += '<meta name="viewport" content="width=device-width, initial-scale=1">'
    page += (
        f"<style>:root {{ color-scheme: light dark }}</style></head><body><h1>Cards</h1>{''.join(cards)}</body></html>"
    )
    path = tmp_path / "cards.html"
    path.write_text(page, encoding="utf-8")
    with opened(browser, path, width=width, dark=dark) as seen:
        assert seen.page.evaluate("window.evil") is None
        assert seen.complaints == [] and seen.dialogs == [] and seen.requests == [path.as_uri()]
        # Nothing reaches beyond the window: what is wide scrolls in its own card.
        assert seen.page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
        assert seen.page.locator("svg[role=img]").count() == 2
        assert seen.page.get_by_text("not accepted", exact=True).is_visible()


def test_results_say_in_one_line_what_they_are(orchard: Orchard) -> None:
    data, model = orchard.data, orchard.model
    assert repr(data).startswith("Dataset(ripe: binary; train ") and data.digest[:12] in repr(data)
    assert repr(model).startswith("Model(ripe: binary; val_roc_auc ")
    assert repr(model.run).startswith(f"Run({model.run_key}: finished (max_epochs), step ")
    assert repr(data.head(1)).splitlines()[0].split() == ["size", "weight", "colour", "ripe"]
    assert "no value" in repr(_evaluation()) and "not accepted" in repr(_evaluation())


def test_places_are_near_where_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert near(str(tmp_path / "a" / "b")) == "a/b"
    assert near("/elsewhere/b") == "/elsewhere/b"
    assert near("s3://bucket/a") == "s3://bucket/a"
