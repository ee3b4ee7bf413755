"""Owns the pictures of data cards, evaluations and Backbones in docs/pictures/: all on data that may be shipped.

    python -m tools.report_pictures                    all of it again, in some minutes
    python -m tools.report_pictures --in DIR           the same; the pages stay in DIR, and are not made again

amazon's and yelp's reviews --train--> evaluation, Backbone          imdb's reviews --prepare--> data card with drift
pictures of squares, made up --> data card and evaluation of boxes   numbers, made up --> evaluation of a regression
"""

import argparse
import os
import shutil
import tempfile
from pathlib import Path

import pyarrow.parquet as pq

from tests.report import pages
from tests.support.tiny_bert import save_tiny_bert
from tools.training_pictures import REVIEWS, put, run, screenshot

RECIPE = {
    "model.names": "[hf_text]",
    "model.hf_text.max_text_len": 40,
    "optimization.learning_rate": 0.002,
    "optimization.max_epochs": 6,
    "env.batch_size": 32,
    "env.per_gpu_batch_size": 32,
    "env.num_workers": 0,
    "env.num_workers_evaluation": 0,
}
# Picture -> page, width, colours, and the part of the page's height that is shown.
SHOTS = {
    "report-data": ("data.html", 1200, "light", 2300),
    "report-data-boxes": ("data-boxes.html", 1200, "light", 1650),
    "report-evaluation": ("evaluation.html", 1200, "light", 3150),
    "report-evaluation-phone": ("evaluation.html", 390, "light", 1900),
    "report-evaluation-boxes-dark": ("evaluation-boxes.html", 1200, "dark", 1500),
    "report-evaluation-numbers": ("evaluation-numbers.html", 1200, "light", 1800),
    "report-backbone": ("backbone.html", 1200, "light", 1300),
}


def main() -> None:
    """Make the pages, then the pictures."""
    os.environ.update(OMP_NUM_THREADS="1", HF_HUB_OFFLINE="1")
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--in", dest="place", default="", help="folder for the pages; default: one that goes again")
    place = parser.parse_args().place
    with tempfile.TemporaryDirectory(prefix="carryover-pictures-") as folder:
        made = Path(place or folder).resolve()
        made.mkdir(parents=True, exist_ok=True)
        if not (made / "backbone.html").exists():
            made_up(made)
            reviews(made)
        for name, (page, width, scheme, height) in SHOTS.items():
            put(name, screenshot(made / page, width=width, scheme=scheme, height=height))


def reviews(place: Path) -> None:
    """Prepare, train, evaluate and dump, each in a process of its own."""
    first = _prepared(place, "first", ["amazon", "yelp"], "--label", "label")
    _prepared(place, "imdb", ["imdb"], "--schema-from", "first")
    settings = {**RECIPE, "model.hf_text.checkpoint_name": save_tiny_bert(place / "bert")}
    words = [word for name, value in settings.items() for word in ("--set", f"{name}={value}")]
    run(place, "train-ddp", "--dataset", first, "--output", "model", *words)
    run(place, "evaluate", "--model", "model", "--dataset", first, "--output", "scored")
    run(place, "dump-backbone", "--model", "model", "--output", "dumped")
    _kept(place, "data.html", place / "imdb" / "dataset.html")
    _kept(place, "evaluation.html", place / "scored" / "report.html")
    _kept(place, "backbone.html", place / "dumped" / "report.html")


def made_up(place: Path) -> None:
    """Make the pages of squares and of numbers, by the steps themselves."""
    for name, make in (
        ("data-boxes.html", pages.boxes_card),
        ("evaluation-boxes.html", pages.evaluation_of_boxes),
        ("evaluation-numbers.html", pages.evaluation_of_numbers),
    ):
        folder = place / Path(name).stem
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        _kept(place, name, make(folder))


def _prepared(place: Path, name: str, domains: list[str], *more: str) -> str:
    table = pq.read_table(REVIEWS)
    keep = [domain in domains for domain in table["domain"].to_pylist()]
    pq.write_table(table.filter(keep), place / f"{name}.parquet")
    said = run(place, "prepare-data", "--source", f"{name}.parquet", "--output", name, *more)
    return next(line.split()[1] for line in said.splitlines() if line.startswith("uri "))


def _kept(place: Path, name: str, page: Path) -> None:
    """Keep a page, without the folder of whoever makes it."""
    (place / name).write_text(page.read_text().replace(str(place), "/data/reviews"))


if __name__ == "__main__":
    main()
