"""Owns pages of trainings for the browser: of a run that was killed twice, with hostile names in its data."""

import csv
from pathlib import Path

import pytest

from carryover.carry.champion import promote
from carryover.carry.decision import Contender
from carryover.data.manifest import load_card
from carryover.ground.storage import open_store
from carryover.steps.prepare_data import prepare_data
from carryover.steps.training_pages import PAGE, curves, report
from tests.train.attempts import Killed, Run, write_rows

HOSTILE = '"><img src=x onerror=alert(1)></style><script>alert(2)</script>\u202e\u200b\U0001d54f'


def killed(folder: Path) -> Run:
    """A finished run of three attempts on data whose classes and label have names that would break a page."""
    plain = write_rows(folder / "plain.csv")
    with plain.open() as read, (folder / "rows.csv").open("w", newline="") as written:
        rows = list(csv.reader(read))
        head = [*rows[0][:3], f"liked {HOSTILE}"]
        csv.writer(written).writerows([head, *([*row[:3], f"{row[3]} {HOSTILE}"] for row in rows[1:])])
    store = str(folder / "store")
    made = prepare_data(source=[str(folder / "rows.csv")], label=f"liked {HOSTILE}", store=store)
    often = {"optimization.val_check_interval": 0.5, "optimization.log_every_n_steps": 1}
    run = Run(load_card(made["uri"]), store, often, folder)
    for kill_after in (5, 6):
        with pytest.raises(Killed):
            run.go(kill_after=kill_after)
    run.go()
    return run


def training(folder: Path) -> Path:
    """The report of such a training."""
    run = killed(folder)
    return Path(report(run.home.store.uri, output=str(folder / "training.html")))


def generations(folder: Path) -> Path:
    """The life of such a model, which is a champion after another one was rejected."""
    run = killed(folder)
    store, digest = open_store(run.store), run.finish().body["model"]
    promote(store, "reviews", Contender(digest, "somewhere"), against="", reason=HOSTILE, metrics={"roc_auc": 0.9})
    curves([run.home.store.uri], output=str(folder / "life"), generations=True)
    return folder / "life" / PAGE
