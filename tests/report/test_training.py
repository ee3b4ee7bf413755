"""The report and the pictures of a training: of curves as lines tell them, and of real runs that were killed."""

import json
import re
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from carryover.checkpoint.home import RunHome
from carryover.checkpoint.metrics import read_lines, segment
from carryover.data.manifest import DatasetCard
from carryover.ground import storage
from carryover.report import generations as lives
from carryover.report.attempts import GONE, RUNNING, read_attempts, totals
from carryover.report.curve import parse_curve, read_curve, thinned
from carryover.report.curves import Drawn, pictures
from carryover.report.timeline import Scale, timeline
from carryover.report.training import marks_of
from carryover.steps import redraw, training_pages
from carryover.steps.training_pages import curves, report
from carryover.steps.training_report import CURVES, ENDED, REPORT, page_of, pictures_of
from carryover.train.lines import COPY
from tests.train.attempts import Killed, Run, dataset

OFTEN = {"optimization.val_check_interval": 0.5, "optimization.log_every_n_steps": 1, "checkpoint.keep_best": 0}
PNG, STEPS = b"\x89PNG\r\n", 16


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run of three attempts: two were killed, the last one finished; sixteen steps, four checks."""
    folder = tmp_path_factory.mktemp("killed")
    run = Run(dataset(folder), str(folder / "store"), OFTEN, folder)
    for kill_after in (5, 6):
        with pytest.raises(Killed):
            run.go(kill_after=kill_after)
    run.go()
    return run


def line(step: int, **values: object) -> str:
    return json.dumps({"step": step, "epoch": 0, "attempt": 1, **values})


def test_lines_of_all_ages_are_read_and_what_is_not_whole_is_passed_over() -> None:
    curve = parse_curve(
        [
            line(1, loss=1.0, learning_rate=0.1),
            line(2, loss=None, time=50.0, note="words of a later version", many=[1, 2]),
            line(2, val_accuracy=0.5, val_loss=0.75),
            line(2, event="save", number=3, seconds=0.5, write_seconds=1.5, bytes=1000, time=51.0),
            line(2, event="party", guests=7),
            line(3, event="stop", reason="preempted", time=52.0),
            "[1, 2]",
            '{"step": 4, "loss": 0.',
        ]
    )
    assert list(curve.series) == ["loss", "learning_rate", "val_accuracy", "val_loss"]
    assert curve.checks == ("val_accuracy",)
    loss = curve.series["loss"]
    assert loss.steps.tolist() == [1, 2] and loss.values[0] == 1.0 and np.isnan(loss.values[1])
    assert np.isnan(loss.times[0]) and loss.times[1] == 50.0
    assert (curve.saves[0].number, curve.saves[0].bytes, curve.stops[0].reason) == (3, 1000, "preempted")
    assert curve.ends == {1: 52.0} and curve.last_step == 2
    assert parse_curve([]).series == {}


def test_a_thinned_line_keeps_its_ends_its_extremes_and_its_gaps() -> None:
    values = np.sin(np.arange(100_000) / 500)
    values[[31_415, 77_777]] = 9.0, np.nan
    values[50_000] = -9.0
    keep = thinned(np.arange(len(values)), values, 2000)
    assert len(keep) <= 2000 and (np.diff(keep) > 0).all()
    assert {0, 31_415, 50_000, 77_777, 99_999} <= set(keep.tolist())
    assert thinned(np.arange(5), values[:5], 2000).tolist() == [0, 1, 2, 3, 4]


def test_attempts_tell_what_they_began_with_committed_and_lost(killed: Run) -> None:
    attempts = read_attempts(killed.home, read_curve(killed.home.store))
    assert [one.number for one in attempts] == [1, 2, 3]
    first, second, third = attempts
    # Commits come every three steps and with each of the best checks; killed in its fifth, the first had saved four.
    assert (first.from_step, first.step) == (0, 4) and (second.from_step, second.step) == (4, 8)
    assert (third.from_step, third.step) == (8, STEPS)
    # Nobody beat, as no launcher was there: then what was lost is not known, and nobody says that it is.
    assert [one.lost_steps for one in attempts] == [None, None, 0]
    assert totals(attempts)[2] is False
    assert [one.reason for one in attempts] == [GONE, GONE, "max_epochs"]
    assert all(one.began <= one.ended for one in attempts) and first.ended <= second.began
    sizes = [commit.bytes for one in attempts for commit in one.commits]
    assert all(sizes) and not any(one.lives for one in attempts)


def test_attempts_that_began_at_one_step_share_a_mark(killed: Run) -> None:
    first, second = read_attempts(killed.home, read_curve(killed.home.store))[:2]
    again = [replace(second, number=second.number + more) for more in (1, 2)]
    marks = marks_of([first, second, *again])
    assert [(mark.step, mark.name) for mark in marks] == [(second.from_step, "2-4")]
    assert marks[0].short == "attempts 2 to 4: 3 starts here" and "attempt 3 goes on" in marks[0].words


def test_the_page_has_all_of_a_run_and_shows_texts_as_they_are(killed: Run) -> None:
    page = page_of(killed.home)
    for words in (
        "Loss",
        "Validation: roc_auc",
        "Learning rate",
        "Over the clock",
        "What they cost",
        GONE,
        "--run-key",
    ):
        assert words in page, words
    assert "not known" in page, "lost steps of killed attempts"
    ids = re.findall(r'\bid="([^"]*)"', page)
    assert len(ids) == len(set(ids))
    assert "<script" not in page and "http://" not in page.replace("http://www.w3.org", "")
    assert page.count("<title>") > 20, "points tell their values"


def test_a_living_run_says_how_far_it_is_and_an_empty_one_that_there_is_nothing(tmp_path: Path, killed: Run) -> None:
    run = Run(killed.card, str(tmp_path / "store"), OFTEN, tmp_path)
    run.claim({})
    assert "no step has been logged yet" in page_of(run.home) and pictures_of(run.home) == {}
    with pytest.raises(Killed):
        run.go(kill_after=9)
    attempts = read_attempts(run.home, read_curve(run.home.store))
    assert [one.lives for one in attempts] == [False, True] and attempts[-1].reason == RUNNING
    assert "may be running" in page_of(run.home)


def test_pictures_are_the_same_bytes_for_the_same_run_and_have_gaps_for_what_is_no_number(killed: Run) -> None:
    drawn = pictures_of(killed.home)
    names = {"loss", "val_roc_auc", "learning_rate", "gradient_norm", "rows_per_second"}
    assert set(drawn) == {f"{name}.{kind}" for name in names for kind in ("png", "svg")}
    assert all(data.startswith(PNG if name.endswith("png") else b"<?xml") for name, data in drawn.items())
    assert drawn == pictures_of(killed.home)
    text = drawn["loss.svg"].decode()
    assert "training" in text and "validation" in text and "attempt 2" in text
    assert "best" in drawn["val_roc_auc.svg"].decode()
    odd = [line(step, **{"loss": None if step in (3, 4) else 1.0 / step, "val_a$b_{c}": 0.5}) for step in range(1, 8)]
    found = pictures([Drawn("<&$x", parse_curve(odd))])
    assert set(found) == {"loss.png", "loss.svg", "val_a-b_-c.png", "val_a-b_-c.svg"}
    assert "&lt;&amp;$x" in found["loss.svg"].decode()
    assert pictures([Drawn("none", parse_curve([line(1, loss=None)]))]) == {}


def test_waits_are_cut_and_said_where_nobody_trained_for_long(killed: Run) -> None:
    scale = Scale([(0.0, 100.0), (100_000.0, 100_100.0)])
    assert [wait for _, wait in scale.cuts] == [99_900.0]
    assert scale.place(50) < 0.3 and 0.6 < scale.place(100_050) < 1
    assert scale.time(scale.place(100_050)) == pytest.approx(100_050)
    assert timeline(read_attempts(killed.home, read_curve(killed.home.store))).count('class="lived"') == 3


def test_while_it_runs_pictures_come_after_a_validation_and_the_end_waits_for_none(
    killed: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    home, copy = killed.home, tmp_path / COPY
    monkeypatch.setenv(redraw.VARIABLE, "0.4")
    with redraw.kept_current(home, tmp_path, attempt=3, output=str(tmp_path / "out")):
        copy.write_bytes(b"\n".join([*read_lines(home.store), b""]))
        until = time.monotonic() + 90
        while not home.store.exists(f"{CURVES}/val_roc_auc.svg") and time.monotonic() < until:
            time.sleep(0.1)
        with copy.open("a") as more:
            more.write(line(17, val_roc_auc=0.5) + "\n")
        time.sleep(1.2)
        asked_to_end = time.monotonic()
    assert time.monotonic() - asked_to_end < 0.5, "whoever stops a training does not wait for a picture"
    assert home.store.exists(f"{CURVES}/val_roc_auc.svg") and (tmp_path / "out" / REPORT).exists()
    assert "warning" not in capsys.readouterr().err


def test_what_cannot_be_drawn_is_one_warning_and_the_file_is_there_nevertheless(
    tmp_path: Path, killed: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = Run(killed.card, str(tmp_path / "store"), OFTEN, tmp_path)
    run.claim({})
    run.home.store.write("run.json", b"<script>alert(1)</script>")
    run.home.store.write(segment(1, 0), line(1, loss=0.5).encode())
    # No folder can be where a file is.
    run.home.store.write(CURVES, b"")
    monkeypatch.setenv(redraw.VARIABLE, "60")
    place = redraw.finish(run.home, str(tmp_path / "out"), trained=True)
    said = capsys.readouterr().err
    assert said.count("could not be made") == 1 and said.count("could not be drawn") == 1
    page = Path(place).read_text()
    assert "could not be made" in page and "<script>" not in page
    monkeypatch.setenv(redraw.VARIABLE, "often")
    with pytest.raises(ValueError, match=redraw.VARIABLE):
        redraw.every_seconds()


def test_a_finished_run_gives_its_report_again_without_making_one(killed: Run, tmp_path: Path) -> None:
    home = killed.home
    home.store.write(REPORT, f"as it was when it {ENDED}".encode())
    home.store.write(f"{CURVES}/loss.png", b"a picture")
    try:
        assert redraw.finish(home, str(tmp_path / "out"), trained=False) == str(tmp_path / "out" / REPORT)
        assert (tmp_path / "out" / REPORT).read_text().startswith("as it was")
        assert (tmp_path / "out" / CURVES / "loss.png").read_bytes() == b"a picture"
        home.store.write(REPORT, b"as it was before its end, when its launcher was killed")
        assert redraw.finish(home, "", trained=False) == home.store.at(REPORT)
        assert ENDED in home.store.read(REPORT).decode()
    finally:
        for name in (REPORT, f"{CURVES}/loss.png"):
            home.store.delete(name)


def test_commands_find_runs_by_key_home_and_model_and_say_what_they_do_not_find(
    killed: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    place = report(killed.home.store.uri, output=str(tmp_path / "one"))
    assert Path(place).name == REPORT and "Validation: roc_auc" in Path(place).read_text()
    assert report("run", store=killed.store, output="two.html") == "two.html" and Path("two.html").exists()
    drawn = curves(["run:run", killed.home.store.uri], store=killed.store, output="drawn")
    assert {Path(name).name for name in drawn} >= {"loss.png", "val_roc_auc.svg"}
    for source, words in (
        ("rum", "did you mean run"),
        ("run:nothing", "no such run"),
        ("./nowhere", "neither a run nor"),
    ):
        with pytest.raises(ValueError, match=words):
            report(source, store=killed.store)
    with pytest.raises(ValueError, match="one run or Model"):
        curves(["run", "run"], store=killed.store, generations=True)


@pytest.fixture
def no_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(redraw.VARIABLE, "0")


@pytest.mark.slow
def test_the_life_of_a_model_is_told_where_its_first_run_is_gone(
    tmp_path: Path, no_cut: None, capsys: pytest.CaptureFixture[str]
) -> None:
    from carryover.steps.train_ddp import train_ddp
    from tests.train.attempts import SMALL

    store = str(tmp_path / "store")
    cards: list[DatasetCard] = [dataset(tmp_path / name, count=count) for name, count in (("a", 120), ("b", 160))]
    words = [f"{name}={json.dumps(value)}" for name, value in {**SMALL, **OFTEN}.items()]
    first = train_ddp(dataset=cards[0].at, store=store, overrides=words, owner="t")
    second = train_ddp(dataset=cards[1].at, store=store, init_from=first["uri"], owner="t")
    assert Path(second["report"].removeprefix("file://")).exists()
    shown = storage.open_store(second["checkpoint_uri"]).read(REPORT).decode()
    assert "Generations" in shown and "generation 2: extended" in shown
    found = curves([second["uri"]], store=store, output=str(tmp_path / "life"), generations=True)
    assert {Path(name).name for name in found} >= {"generations-roc_auc.png", training_pages.PAGE}
    text = (tmp_path / "life" / training_pages.PAGE).read_text()
    assert text.count("extended") and first["digest"][: lives.SHORT] in text
    gone = storage.open_store(first["checkpoint_uri"])
    gone.delete_folder("metrics")
    gone.delete("run.json")
    curves([second["uri"]], store=store, output=str(tmp_path / "later"), generations=True)
    assert "its run is gone" in capsys.readouterr().err
    assert "its run is gone" in (tmp_path / "later" / training_pages.PAGE).read_text()


@pytest.mark.slow
def test_a_run_in_an_object_store_is_drawn_there(
    killed: Run, s3_store_uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = storage.open_store(f"{s3_store_uri}/runs/run")
    names = [name for name in killed.home.store.walk() if not name.startswith((REPORT, CURVES))]
    storage.copy_tree(killed.home.store, here, names)
    monkeypatch.setenv(redraw.VARIABLE, "60")
    place = redraw.finish(RunHome(here), "", trained=True)
    assert place == here.at(REPORT) and place.startswith("s3://")
    assert here.read(f"{CURVES}/loss.png").startswith(PNG) and b"Over the clock" in here.read(REPORT)
    assert report("run:run", store=s3_store_uri, output=str(tmp_path / "now.html")) == str(tmp_path / "now.html")
    assert here.uri in (tmp_path / "now.html").read_text()
