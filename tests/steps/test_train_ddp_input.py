"""train-ddp and wrong input: one line, exit 2, before any training process starts and before torch is loaded."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from carryover.data.manifest import DatasetCard
from carryover.ground.errors import NoProgress, WrongInput
from carryover.steps.train_ddp import train_ddp
from tests.steps.conftest import WatchedCli
from tests.support.last_words import error_of, only_error_of
from tests.train.attempts import SMALL, Killed, Run

SETTINGS = [f"{name}={value}" for name, value in SMALL.items()]


def start(card: DatasetCard, store: Path, *overrides: str, **flags: Any) -> dict[str, Any]:
    """Starts the step here. Nothing in this module comes as far as a rank."""
    return train_ddp(dataset=card.at, store=str(store), overrides=[*SETTINGS, *overrides], **flags)


@pytest.fixture
def begun(small: DatasetCard, tmp_path: Path) -> Run:
    """A run that was killed after a commit, by its key "begun" in <tmp_path>/store."""
    run = Run(small, str(tmp_path / "store"), {}, tmp_path, run_key="begun")
    with pytest.raises(Killed):
        run.go(kill_after=5)
    return run


def emptied(card: DatasetCard, folder: Path, split: str) -> Path:
    """Writes the same dataset with one split without rows, as other hands than prepare-data might."""
    shutil.copytree(card.at, folder)
    value = card.to_json()
    value["splits"][split] = {"rows": 0, "shards": []}
    (folder / "dataset.json").write_text(json.dumps({**value, "at": str(folder)}))
    return folder


def test_the_command_says_one_line_and_starts_nothing(watched: WatchedCli, small: DatasetCard, tmp_path: Path) -> None:
    store = tmp_path / "store"
    good = ["train-ddp", "--dataset", small.at, "--store", store]
    no_rows = emptied(small, tmp_path / "no-rows", "train")
    cases = {
        "optimization.learning_rates: unknown key; did you mean ": [*good, "--set", "optim.learning_rates=1"],
        f"{tmp_path}/nowhere/dataset.json: no dataset there; ": ["train-ddp", "--dataset", "nowhere", "--store", store],
        "store /proc/store: can't be written: ": ["train-ddp", "--dataset", small.at, "--store", "/proc/store"],
        f"dataset {no_rows}: its train split is empty": ["train-ddp", "--dataset", no_rows, "--store", store],
        "torchrun is missing: ": good,
    }
    for want, args in cases.items():
        seen = watched(*args, hide="torch" if want.startswith("torchrun") else "")
        assert seen.ended.rc == 2, seen.ended.stderr
        assert only_error_of(seen.ended.stderr).startswith(f"error: {want}")
        assert seen.light, seen.processes
    assert not (tmp_path / "store" / "runs").exists()


@pytest.mark.parametrize(
    ("overrides", "flags", "message"),
    [
        (["model.names=[hf_text]"], {}, "model.names: 'hf_text' has nothing to read; the columns are "),
        (
            ["model.names=[numerical_mlp,categorical_mlp]"],
            {},
            "model.names: numerical_mlp, categorical_mlp are several",
        ),
        (
            ["optimization.val_metric=rmse"],
            {},
            "optimization.val_metric: metric 'rmse' is not for binary; it must be one of ",
        ),
        (["data.pos_label=maybe"], {}, "data.pos_label: 'maybe' is no class; it must be one of 'no', 'yes'"),
        ([], {"recipe": "missing.yaml"}, "recipe missing.yaml: can't be read: No such file or directory"),
        ([], {"nproc_per_node": 0}, "--nproc-per-node: 0 is not possible; it must be 1 or more"),
        ([], {"time_limit": 0.0}, "--time-limit: 0.0 is not possible; it must be above 0 seconds"),
        ([], {"grace_seconds": -1.0}, "--grace-seconds: -1.0 is not possible; it must be 0 or above"),
        ([], {"resume": "maybe"}, "--resume: 'maybe' is not possible; it must be one of auto, never, must"),
        ([], {"resume": "must"}, "--resume must: "),
        ([], {"run_key": "f" * 24}, "--run-key ffffffffffffffffffffffff: "),
        ([], {"run_key": "../x"}, ""),
    ],
)
def test_wrong_words(
    small: DatasetCard, tmp_path: Path, overrides: list[str], flags: dict[str, Any], message: str
) -> None:
    with pytest.raises(WrongInput) as error:
        start(small, tmp_path / "store", *overrides, **flags)
    assert str(error.value).startswith(message)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "store" / "runs").exists()


def test_a_damaged_shard_is_found_before_a_run_is_made(small: DatasetCard, tmp_path: Path) -> None:
    folder = tmp_path / "damaged"
    shutil.copytree(small.at, folder)
    (folder / "dataset.json").write_text(json.dumps({**small.to_json(), "at": str(folder)}))
    shard = folder / small.splits["train"].shards[0].file
    data = bytearray(shard.read_bytes())
    data[len(data) // 2] ^= 1
    shard.write_bytes(data)
    with pytest.raises(WrongInput, match=r"damaged, its bytes are not those that prepare-data wrote"):
        train_ddp(dataset=str(folder), store=str(tmp_path / "store"), overrides=SETTINGS)
    shard.unlink()
    with pytest.raises(WrongInput, match=r"shards of dataset .* are missing"):
        train_ddp(dataset=str(folder), store=str(tmp_path / "store"), overrides=SETTINGS)
    assert not (tmp_path / "store" / "runs").exists()


def test_what_must_not_change_in_a_run(begun: Run, tmp_path: Path) -> None:
    def refused(*overrides: str, dataset: str = "") -> str:
        with pytest.raises(WrongInput) as error:
            train_ddp(
                dataset=dataset or begun.card.at, store=begun.store, overrides=list(overrides), run_key="begun"
            )  # fmt: skip
        return str(error.value)

    assert refused("seed=5").startswith("seed: run begun has 0, asked for 5; this can't change in a run that exists. ")
    assert refused("model.numerical_mlp.hidden_size=64").startswith(
        "model.numerical_mlp.hidden_size: run begun has 128"
    )
    assert "Leave out --run-key for a new run" in refused("optimization.optim_type=sgd")
    other = emptied(begun.card, tmp_path / "other", "test")
    value = json.loads((other / "dataset.json").read_text())
    (other / "dataset.json").write_text(json.dumps({**value, "digest": "e" * 64}))
    said = refused(dataset=str(other))
    assert f"was trained on dataset {begun.card.digest[:32]}, not on {'e' * 32}" in said
    assert len(begun.home.log.numbers()) == 1 + len(begun.home.commits())


def test_resume_never_and_must(begun: Run) -> None:
    with pytest.raises(WrongInput) as error:
        start(begun.card, Path(begun.store), run_key="begun", resume="never", owner="somebody")
    assert str(error.value).startswith(f"--resume never: {begun.home.store.uri} has 2 commits, the newest at step 4; ")


def test_a_near_twin_is_named_with_the_command_to_go_on_with_it(begun: Run, capsys: pytest.CaptureFixture[str]) -> None:
    """--resume must stops the new run right after it was announced."""
    with pytest.raises(WrongInput, match="--resume must"):
        start(begun.card, Path(begun.store), "optimization.learning_rate=0.2", resume="must")
    said = capsys.readouterr().err
    words = "differs only in optimization.learning_rate (0.01 there, 0.2 here); to go on with it: --run-key begun"
    assert f"near twin: run begun {words}" in said
    with pytest.raises(WrongInput, match="--resume must"):
        start(begun.card, Path(begun.store), "optimization.learning_rate=0.2", "seed=3", resume="must")
    assert "near twin" not in capsys.readouterr().err


def test_three_attempts_without_a_commit_are_enough(watched: WatchedCli, small: DatasetCard, tmp_path: Path) -> None:
    run = Run(small, str(tmp_path / "store"), {}, tmp_path, run_key="stuck")
    for _ in range(3):
        with pytest.raises(Killed):
            run.go(kill_after=1)
    flags = ["train-ddp", "--dataset", small.at, "--store", run.store, "--run-key", "stuck", "--owner", "tests"]
    seen = watched(*flags)
    assert seen.ended.rc == 3
    assert error_of(seen.ended.stderr) == (
        "error: run stuck: 3 attempts of tests ended without a new commit; look at the log of one, then start again "
        "under another --owner"
    )
    assert seen.light
    assert len(run.home.log.numbers()) == 3


def test_attempts_of_others_and_those_with_a_commit_do_not_count(begun: Run) -> None:
    for _ in range(2):
        with pytest.raises(Killed):
            begun.go(kill_after=1)
    assert begun.home.fruitless_attempts("tests") == 2
    assert begun.home.fruitless_attempts("somebody") == 0
    with pytest.raises(Killed):
        begun.go(kill_after=1)
    with pytest.raises(NoProgress):
        start(begun.card, Path(begun.store), run_key="begun", owner="tests")
    with pytest.raises(Killed):
        begun.go(kill_after=5)
    assert begun.home.fruitless_attempts("tests") == 0
