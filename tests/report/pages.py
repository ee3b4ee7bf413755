"""Owns pages of every kind, each made by real steps on small data."""

from pathlib import Path

from carryover.steps.prepare_data import prepare_data
from tests.data.support import reviews, write


def table_card(folder: Path) -> Path:
    """A data card of text, numbers with holes, categories and an identifier-like column."""
    source = write(folder / "rows.csv", reviews(400))
    prepare_data(source=[str(source)], label="label", store=str(folder / "store"), output=str(folder / "out"))
    return folder / "out" / "dataset.html"
