"""Owns the report of an evaluation: scores, and for each dataset what its kind of answers has to show.

Evaluation   scores   Shown:  classes.py   confusion matrix, curves, calibration, worst mistakes
                              numbers.py   scatter plot, errors from several sides, worst mistakes
                              boxes.py     scores of classes, pictures with boxes
                              masks.py     scores of classes, pictures beside masks
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from carryover.report import page
from carryover.report.page import escape


class Shown(Protocol):
    """What a kind of answers has to show beside scores."""

    @property
    def style(self) -> str:
        """Rules that its parts need beside the page's own."""
        ...

    def cards(self) -> list[str]:
        """Return the parts of the report, as HTML."""
        ...

    def to_json(self) -> dict[str, Any]:
        """Return what a step's result has of it: confusion_matrix, roc or classes; NaN where there is no value."""
        ...


@dataclass(frozen=True)
class Evaluation:
    """One dataset's result.

    Attributes:
        name: the dataset's URI or another name, for people.
        metrics: name -> value, NaN where there is none; the first one is the main one.
    """

    name: str
    rows: int
    metrics: Mapping[str, float]
    shown: Shown


def evaluation_page(
    evaluations: Sequence[Evaluation],
    *,
    title: str,
    lead: str,
    facts: Sequence[tuple[str, object]],
    foot: str,
    before: str = "",
    after: str = "",
    lineage: str = "",
) -> str:
    """Return the HTML page; all texts are plain, `facts` are what is known of the model.

    Args:
        before, after: sections around the Datasets' own, as HTML.
        lineage: the last section, as HTML.
    """
    body = [before]
    for evaluation in evaluations:
        body.append(f'<h2>{escape(evaluation.name)} <span class="soft">· {evaluation.rows:,} rows</span></h2>')
        body.append(page.tiles(evaluation.metrics.items()))
        body.append(page.cards(evaluation.shown.cards()))
    body.append(after)
    body.append(
        "<h2>Model</h2>" + page.cards([page.card("Where it comes from", page.facts(facts), wide=True)]) + lineage
    )
    style = "".join(dict.fromkeys(evaluation.shown.style for evaluation in evaluations))
    return page.page(title, lead, body, foot=foot, style=style)
