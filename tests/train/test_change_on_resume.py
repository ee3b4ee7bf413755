"""What may change when a run goes on: every key there is, by the policy that it declares.

fixed    part of the run key, `mutable=False`      refused: the key, both values, the way out
may      part of the run key, `mutable=True`       another run; with --run-key the same one, and it takes effect
free     not part of the run key                   the same run, with and without --run-key

A new key is found by itself. Where it shows nothing in a small run, `BESIDE` says what it needs.
"""

import json
import re
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from carryover.data.manifest import DatasetCard
from carryover.ground.digests import same
from carryover.ground.errors import RunAgain, WrongInput
from carryover.steps.train_ddp import train_ddp
from carryover.train import recipe as recipes
from tests.conftest import CarryoverCli
from tests.train.attempts import SMALL, Run, dataset

Flat = dict[str, Any]
KEYS = recipes.keys()
# A teacher is looked up before anything is compared: see test_teacher.py.
# They have no other value that may stand by itself here: a teacher is a Model, the second goes with peft only, and of
# ids that are ignored there is one.
ALONE = ("distiller.teacher", "optimization.extra_trainable_params", "model.sam.ignore_label")
FIXED = sorted(name for name, info in KEYS.items() if info.identity and not info.mutable and name not in ALONE)
MAY = sorted(name for name, info in KEYS.items() if info.identity and info.mutable)
# What a small run can't show, as only backbones have layers, or bits are the same either way: see tests/effects. Texts
# that are grouped need a text model: see test_text_resume.py.
ELSEWHERE = ("optimization.lr_decay", "env.compile.", "env.group_by_length")
# A preset stands for other keys, each with a policy of its own: see test_presets.py.
FREE = sorted(name for name, info in KEYS.items() if not info.identity and name != "presets")
# DESIGN: model and data never change in a run. A key of any other section says what may become of it.
FIXED_SECTIONS = ("model.", "data.")
STOPPED_AT = 5

_POLYNOMIAL: Flat = {"optimization.lr_schedule": "polynomial_decay"}
_STEPS: Flat = {"optimization.lr_schedule": "multi_step"}
# Other keys without which one plays no part.
BESIDE: Mapping[str, Flat] = {
    "optimization.end_lr": _POLYNOMIAL,
    "optimization.lr_power": _POLYNOMIAL,
    "optimization.lr_milestones": _STEPS,
    "optimization.lr_gamma": {**_STEPS, "optimization.lr_milestones": [1]},
    "optimization.top_k": {"optimization.top_k_average_method": "uniform_soup"},
    "optimization.skip_final_val": {"optimization.val_check_interval": 4, "optimization.max_steps": 10},
    "optimization.lr_mult": {"optimization.lr_choice": "two_stages"},
    "optimization.lr_choice": {"optimization.lr_mult": 3.0},
    # A rate of nothing never gets better, so that patience ends it.
    "optimization.patience": {"optimization.learning_rate": 1e-30, "optimization.val_check_interval": 1},
}


def _candidates(name: str, now: Any) -> Iterator[Any]:
    info = KEYS[name]
    families = {other.split(".")[1] for other in KEYS if other.startswith("model.") and other.count(".") > 1}
    if isinstance(now, bool):
        yield not now
    elif isinstance(now, (int, float)):
        yield from (now + 1, 1, now * 2) if isinstance(now, int) else (now / 2, 0.001, 0.5, now * 2)
    elif isinstance(now, (list, tuple)):
        yield from ([1], *([family] for family in sorted(families)), ["x"], [])
    # The last word is the farthest from what a machine would choose by itself.
    words = re.findall(r"[\w.\-]+", info.allowed)[::-1]
    yield from (*words, 1, 1.0, 64, True, "x", f"{now}x", *([word] for word in words))
    yield from ([0.25, 0.5], *([f"{word}(0.1)"] for word in words))


def other(name: str, beside: Flat) -> Any:
    """Return a value that this key may have and has not."""
    now = recipes.make(beside).flat()[name]
    for value in _candidates(name, now):
        try:
            made = recipes.make({**beside, name: value}).flat()[name]
        except WrongInput:
            continue
        if not same(made, now):
            return made
    raise AssertionError(f"{name}: no other value found; say in `allowed` what it may be")


@pytest.fixture(scope="module")
def card(tmp_path_factory: pytest.TempPathFactory) -> DatasetCard:
    return dataset(tmp_path_factory.mktemp("dataset"))


@pytest.fixture(scope="module")
def finished(card: DatasetCard, tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("finished")
    run = Run(card, str(folder / "store"), {}, folder)
    run.go()
    return run


def _ask(run: Run, name: str, value: Any) -> dict[str, Any]:
    """Ask for the run by its key with another value, in this process: nothing of this may train."""
    overrides = [f"{name}={json.dumps(value)}"]
    return train_ddp(dataset=run.card.at, store=run.store, run_key=run.run_key, overrides=overrides)


def test_a_keys_author_says_what_becomes_of_it_on_resume() -> None:
    silent = [name for name in FIXED if not name.startswith(FIXED_SECTIONS) and not KEYS[name].decided]
    assert silent == [], "give key(...) mutable=True or False, or identity=False"
    assert [name for name in KEYS if name.startswith(FIXED_SECTIONS) and name in MAY] == []


@pytest.mark.parametrize("name", FIXED)
def test_what_may_not_change_is_refused(finished: Run, name: str) -> None:
    value, before = other(name, SMALL), finished.home.run()["recipe"][name]
    records = finished.home.log.numbers()
    with pytest.raises(WrongInput) as error:
        _ask(finished, name, value)
    assert str(error.value) == (
        f"{name}: run run has {before!r}, asked for {value!r}; this can't change in a run that exists. "
        "Leave out --run-key for a new run, or leave out the key to go on as before"
    )
    assert finished.home.log.numbers() == records
    assert name in recipes.identity(recipes.make({name: other(name, {})}))


@pytest.mark.parametrize("name", FREE)
def test_what_is_not_part_of_the_run_is_free(finished: Run, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert recipes.identity(recipes.make({name: other(name, {})})) == {}
    result = _ask(finished, name, other(name, SMALL))
    assert result["digest"] == finished.finish().body["model"]
    said = capsys.readouterr().err
    assert "run run is finished (max_epochs)" in said
    assert "no effect" not in said


@pytest.fixture(scope="module")
def stopped(card: DatasetCard, tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Run, Any]]:
    """Beside, as JSON -> a run with those keys that was stopped, and what it comes to without a change."""
    return {}


def _stopped(known: dict[str, tuple[Run, Any]], card: DatasetCard, folder: Path, beside: Flat) -> tuple[Run, Any]:
    spelled = json.dumps(beside, sort_keys=True)
    if spelled not in known:
        run = Run(card, str(folder / "store"), beside, folder)
        with pytest.raises(RunAgain):
            run.go(stop_after=STOPPED_AT)
        known[spelled] = run, _outcome(run, folder / "as-before", {})
    return known[spelled]


def _outcome(run: Run, folder: Path, changes: Flat) -> Any:
    """What a copy of the run comes to with these keys: weights, optimizer, Model, steps, checks, why it ended."""
    shutil.copytree(run.store, folder / "store")
    again = Run(run.card, str(folder / "store"), run.recipe, folder)
    again.go(**{name.replace(".", "__"): value for name, value in changes.items()})
    state = again.state()
    finish = again.finish()
    model = {name: entry.digest for name, entry in again.home.objects.load_table(finish.table).tensors.items()}
    return again.tensors(), model, finish.body["reason"], state["step"], state["checks"], state["precision"]


@pytest.mark.parametrize("name", [name for name in MAY if not name.startswith(ELSEWHERE)])
def test_what_may_change_takes_effect_in_the_middle_of_a_run(
    card: DatasetCard, stopped: dict[str, tuple[Run, Any]], tmp_path: Path, name: str
) -> None:
    beside = BESIDE.get(name, {})
    run, as_before = _stopped(stopped, card, tmp_path, beside)
    value = other(name, {**SMALL, **beside})
    old, new = run.home.run(), recipes.make({**SMALL, **beside, name: value})
    assert recipes.check_changes(old["recipe"], new, run="run", was=old["identity"]) == {name: value}
    # Without --run-key it is another run.
    assert not same(recipes.identity(new), old["identity"])
    assert _outcome(run, tmp_path / "changed", {name: value}) != as_before


@pytest.mark.slow
def test_all_that_may_change_is_printed_and_recorded(finished: Run, tmp_path: Path) -> None:
    """Through the command line, all at once, and more epochs: a rank really starts."""
    shutil.copytree(finished.store, tmp_path / "store")
    # Compiling has choices that exclude each other: see test_environment.py.
    changes = {name: other(name, SMALL) for name in (*MAY, *FREE) if not name.startswith("env.compile.")}
    # A GPU need not be here; a rate must lie above its own end.
    changes |= {"env.accelerator": "cpu", "optimization.end_lr": 0.001}
    before = finished.home.run()["recipe"]
    settings = [word for name, value in changes.items() for word in ("--set", f"{name}={json.dumps(value)}")]
    flags = ["--dataset", finished.card.at, "--store", tmp_path / "store", "--run-key", "run"]
    ended = CarryoverCli(tmp_path)("train-ddp", *flags, *settings)
    assert ended.rc == 0, ended.stderr
    for name, value in changes.items():
        assert f"  {name}: {before[name]!r} -> {value!r}\n" in ended.stderr
    again = Run(finished.card, str(tmp_path / "store"), {}, tmp_path)
    last = again.home.latest_claim()
    assert last and last.body["changes"] == changes
    assert again.finish().number > finished.finish().number
