"""train-ddp through its command line, with real ranks: preempted, resumed, finished, asked again, continued."""

import json
import shutil
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from carryover.checkpoint.home import RunHome
from carryover.checkpoint.layout import LAST
from carryover.data.manifest import DatasetCard
from carryover.ground.storage import Store, open_store
from carryover.models.card import ModelCard
from carryover.models.export import find_model, load_model
from carryover.steps.train_ddp import train_ddp
from tests.conftest import CarryoverCli
from tests.steps.conftest import WatchedCli
from tests.support import processes
from tests.support.curves import told
from tests.support.last_words import error_of
from tests.train.attempts import SMALL, Run

# Long enough to be stopped in its middle, with no early end.
RECIPE = {
    **SMALL,
    "optimization.max_epochs": 40,
    "optimization.patience": 1000,
    "optimization.val_check_interval": 1.0,
    "checkpoint.every_steps": 20,
    "data.record_samples": True,
}
SETTINGS = [word for name, value in RECIPE.items() for word in ("--set", f"{name}={value}")]


@dataclass(frozen=True)
class Trained:
    """A run that was stopped in its middle by SIGTERM and finished by the same command."""

    folder: Path
    card: DatasetCard
    result: dict[str, Any]
    said: tuple[str, str]
    stopped_at: int

    @property
    def store(self) -> Path:
        return self.folder / "store"

    @property
    def home(self) -> RunHome:
        return RunHome.open(open_store(str(self.store)), self.result["run_key"])

    def flags(self) -> list[object]:
        return ["train-ddp", "--dataset", self.card.at, "--store", self.store]

    def again(self, *overrides: str, **flags: Any) -> dict[str, Any]:
        """Asks in this process; only for what needs no training."""
        given = [f"{name}={value}" for name, value in RECIPE.items()] if "run_key" not in flags else []
        flags = {"store": str(self.store), **flags}
        return train_ddp(dataset=self.card.at, overrides=[*given, *overrides], **flags)


def model_at(uri: str) -> ModelCard:
    """The card of a Model that opens."""
    return load_model(find_model(uri), num_outputs=2).card


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, small: DatasetCard) -> Trained:
    folder = tmp_path_factory.mktemp("trained")
    cli = CarryoverCli(folder)
    flags = ["train-ddp", "--dataset", small.at, "--store", folder / "store", *SETTINGS]
    command = cli.command(*flags, "--output", folder / "out", "--outputs-dir", folder / "outputs")
    tree = processes.start(command, said=folder / "first.txt", cwd=folder)
    try:
        store = open_store(str(folder / "store"))
        assert tree.wait_until(lambda: any(store.exists(f"runs/{key}/{LAST}") for key in store.folders("runs")))
        tree.process.send_signal(signal.SIGTERM)
        assert tree.process.wait(timeout=60) == 75, tree.text()
        deadline = time.monotonic() + 5
        while tree.living() and time.monotonic() < deadline:
            time.sleep(0.02)
        assert tree.living() == []
    finally:
        tree.kill()
    (key,) = store.folders("runs")
    stopped_at = RunHome.open(store, key).commits()[-1].step
    second = cli(*flags, "--output", folder / "out", "--outputs-dir", folder / "outputs")
    assert second.rc == 0, second.stderr
    result = json.loads((folder / "out" / "result.json").read_text())
    return Trained(folder, small, result, (tree.text(), second.stderr), stopped_at)


def test_preempted_and_resumed_it_is_what_it_would_have_been(trained: Trained, tmp_path: Path) -> None:
    first, second = trained.said
    total = trained.result["step_count"]
    assert 0 < trained.stopped_at < total
    words = f"stopped on request; all is saved at step {trained.stopped_at}: the same command goes on from there"
    assert f"error: run {trained.result['run_key']}: {words}" in first
    assert f"attempt 2 goes on from step {trained.stopped_at}" in second
    straight = Run(trained.card, str(tmp_path / "store"), RECIPE, tmp_path, run_key=trained.result["run_key"])
    straight.go()
    there = Run(trained.card, str(trained.store), RECIPE, tmp_path, run_key=trained.result["run_key"])
    assert there.tensors() == straight.tensors()
    assert there.finish().body["model"] == straight.finish().body["model"] == trained.result["digest"]
    rows = list(range(trained.card.splits["train"].rows))
    assert [sorted(found) for _, found in sorted(there.seen().items())] == [rows] * 40


def test_what_it_leaves(trained: Trained) -> None:
    result, home = trained.result, trained.home
    rows = trained.card.splits["train"].rows
    assert result["step"] == "train-ddp"
    assert (result["attempts"], result["lost_steps"], result["reason"]) == (2, 0, "max_epochs")
    assert (result["step_count"], result["samples"]) == (40 * -(-rows // 16), 40 * rows)
    assert result["checkpoint_uri"] == home.store.uri
    assert result["metrics"]["val_roc_auc"] > 0.8
    newest = home.commits()[-1]
    assert home.store.read(LAST) == newest.data
    assert (newest.number, newest.step) == (result["checkpoint"], result["step_count"])
    outputs = {path.name: path.read_text() for path in (trained.folder / "outputs").iterdir()}
    for name in ("uri", "digest", "run_key", "checkpoint_uri", "step_count", "attempts"):
        assert outputs[name] == str(result[name])
    for uri in (result["uri"], str(trained.folder / "out")):
        card = model_at(uri)
        assert (card.digest, card.run_key, card.step) == (result["digest"], result["run_key"], result["model_step"])
    curve = told(home.store)
    assert {line["attempt"] for line in curve} == {1, 2}
    checks = [line["step"] for line in curve if "val_roc_auc" in line]
    assert checks == list(range(-(-rows // 16), result["step_count"] + 1, -(-rows // 16)))


def test_asked_again_it_gives_its_model_at_once(trained: Trained, watched: WatchedCli) -> None:
    shutil.rmtree(trained.result["uri"])
    seen = watched(*trained.flags(), *SETTINGS, "--owner", "a cloned pipeline run", "--output", "out")
    assert seen.ended.rc == 0, seen.ended.stderr
    assert f"run {trained.result['run_key']} is finished (max_epochs): its Model is given again" in seen.ended.stderr
    assert seen.light, seen.processes
    result = json.loads((watched.cli.cwd / "out" / "result.json").read_text())
    # The page lies in the folder that this start named.
    mine, before = ({**one, "seconds": 0, "report": ""} for one in (result, trained.result))
    assert mine == before
    assert model_at(result["uri"]).digest == result["digest"]
    # Ranks, workers, checkpoints and the time that is allowed do not make it another run; fewer epochs are done, too.
    for flags in ({"nproc_per_node": 3, "time_limit": 5.0}, {"owner": "x", "resume": "must"}):
        assert trained.again("env.num_workers=5", "checkpoint.keep_last=9", **flags)["uri"] == result["uri"]
    key = trained.result["run_key"]
    assert trained.again("optimization.max_epochs=3", run_key=key)["uri"] == result["uri"]
    assert len(trained.home.log.numbers()) == trained.home.log.head().number + 1


def test_moved_to_another_store_it_is_still_finished(trained: Trained, tmp_path: Path) -> None:
    key = trained.result["run_key"]
    shutil.copytree(trained.store / "runs" / key, tmp_path / "moved" / "runs" / key)
    result = trained.again(store=str(tmp_path / "moved"))
    assert result["digest"] == trained.result["digest"]
    assert result["uri"] == str(tmp_path / "moved" / "models" / result["digest"])
    assert model_at(result["uri"]).checkpoint_uri == str(tmp_path / "moved" / "runs" / key)


def test_by_its_key_it_goes_on_with_more_epochs_and_another_rate(
    trained: Trained, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """In a copy of the store, so that the other tests find the run as it was."""
    shutil.copytree(trained.store, tmp_path / "store")
    key, before = trained.result["run_key"], trained.result["step_count"]
    changes = ["optimization.max_epochs=42", "optimization.learning_rate=0.03", "optimization.log_every_n_steps=1"]
    flags = ["--run-key", key, *[word for change in changes for word in ("--set", change)]]
    ended = CarryoverCli(tmp_path)("train-ddp", "--dataset", trained.card.at, "--store", tmp_path / "store", *flags)
    assert ended.rc == 0, ended.stderr
    was = {"optimization.max_epochs": 40, "optimization.learning_rate": 0.01, "optimization.log_every_n_steps": 10}
    for change in changes:
        name, _, value = change.partition("=")
        assert f"  {name}: {was[name]} -> {value}\n" in ended.stderr
    run = Run(trained.card, str(tmp_path / "store"), {}, tmp_path, run_key=key)
    assert run.finish().body["metrics"]["steps"] == before // 40 * 42
    claim = run.home.latest_claim()
    assert claim is not None
    assert claim.body["changes"] == {
        "optimization.max_epochs": 42, "optimization.learning_rate": 0.03, "optimization.log_every_n_steps": 1
    }  # fmt: skip
    rates = {line["step"]: line["learning_rate"] for line in run.curve() if "learning_rate" in line}
    assert max(rate for step, rate in rates.items() if step > before) == pytest.approx(0.03)
    assert max(rate for step, rate in rates.items() if step <= before) <= 0.01
    assert [step for step in rates if step > before] == list(range(before + 1, before // 40 * 42 + 1))
    # The same command again, and the one from before, find it finished.
    result = trained.again(*changes, run_key=key, store=str(tmp_path / "store"))
    assert result["step_count"] == before // 40 * 42
    assert trained.again(store=str(tmp_path / "store"))["uri"] == result["uri"]
    assert f"run {key} was continued with other settings; it goes on with those" in capsys.readouterr().err


def test_a_time_limit_is_over_all_attempts(small: DatasetCard, tmp_path: Path) -> None:
    run = Run(small, str(tmp_path / "store"), {}, tmp_path, run_key="timed")
    run.go(time_limit=1e-6)

    def ask(limit: float) -> dict[str, Any]:
        return train_ddp(dataset=small.at, store=run.store, run_key="timed", time_limit=limit)

    result = ask(1e-6)
    assert (result["reason"], result["step_count"], result["attempts"]) == ("time_limit", 1, 1)
    run.go(time_limit=60)
    assert ask(1e-6)["reason"] == "max_epochs"


@pytest.mark.slow
def test_a_model_that_dies_at_once_is_given_up_after_three_attempts(
    carryover_cli: CarryoverCli, tiny_bert: Path, tmp_path: Path
) -> None:
    lines = ["review,liked", *(f"a very long {i} story about nothing,{'yes' if i % 2 else 'no'}" for i in range(80))]
    (tmp_path / "rows.csv").write_text("\n".join(lines) + "\n")
    prepared = carryover_cli("prepare-data", "--source", "rows.csv", "--label", "liked", "--column-type", "review=text",
                             "--store", "store", "--output", "data")  # fmt: skip
    assert prepared.rc == 0, prepared.stderr
    uri = json.loads((tmp_path / "data" / "result.json").read_text())["uri"]
    broken = tmp_path / "broken"
    shutil.copytree(tiny_bert, broken)
    (broken / "model.safetensors").write_bytes(b"no weights")
    flags = ["train-ddp", "--dataset", uri, "--store", "store", "--owner", "workflow",
             "--set", f"model.hf_text.checkpoint_name={broken}"]  # fmt: skip
    codes, said = [], []
    for _ in range(4):
        ended = carryover_cli(*flags)
        codes.append(ended.rc)
        said.append(error_of(ended.stderr))
    assert codes[3] == 3, said
    assert len(set(codes[:3])) == 1
    assert codes[0] in (1, 2)
    assert all(line.startswith("error: run ") for line in said)


@pytest.mark.slow
def test_two_ranks_with_a_text_model_are_preempted_and_go_on(
    carryover_cli: CarryoverCli, tiny_bert: Path, tmp_path: Path, shared_data: Path
) -> None:
    """Real reviews, two ranks: one of them killed, then SIGTERM, then to the end; against the uninterrupted run."""
    reviews = pq.read_table(shared_data / "review_domains" / "review_domains.parquet")
    pq.write_table(reviews.slice(0, 400), tmp_path / "rows.parquet")
    flags = ["--source", "rows.parquet", "--label", "label", "--store", "data", "--output", "d"]
    prepared = carryover_cli("prepare-data", *flags)
    assert prepared.rc == 0, prepared.stderr
    uri = json.loads((tmp_path / "d" / "result.json").read_text())["uri"]
    recipe = {**SMALL, "model.hf_text.checkpoint_name": tiny_bert, "model.hf_text.max_text_len": 32,
              "optimization.max_epochs": 3}  # fmt: skip
    settings = [word for name, value in recipe.items() for word in ("--set", f"{name}={value}")]

    def training(store: str) -> list[object]:
        where = ["--dataset", uri, "--store", store, "--output", f"{store}-out"]
        return ["train-ddp", *where, "--nproc-per-node", 2, *settings]

    assert carryover_cli(*training("straight")).rc == 0
    store = open_store(str(tmp_path / "broken"))

    def ended_at_commit(number: int, end: Callable[[processes.Tree], None]) -> str:
        """Starts, ends it when the log has a commit at or past `number`; returns what it said."""
        command, env = carryover_cli.command(*training("broken")), {"TMPDIR": str(tmp_path)}
        tree = processes.start(command, said=tmp_path / "said.txt", cwd=tmp_path, env=env)
        try:
            assert tree.wait_until(lambda: _newest_commit(store) >= number)
            end(tree)
            assert tree.process.wait(timeout=60) == 75, tree.text()
            assert tree.living() == []
        finally:
            tree.kill()
        return tree.text()

    assert "error: run " in ended_at_commit(1, lambda tree: tree.kill_one(_rank_pid(tree, tmp_path, 1)))
    reached = _newest_commit(store)
    assert "all is saved at step" in ended_at_commit(reached + 2, lambda tree: tree.process.send_signal(signal.SIGTERM))
    ended = carryover_cli(*training("broken"))
    assert ended.rc == 0, ended.stderr
    one, other = (json.loads((tmp_path / f"{name}-out" / "result.json").read_text()) for name in ("straight", "broken"))
    assert other["attempts"] == 3
    assert one["digest"] == other["digest"]
    assert one["metrics"] == other["metrics"]


def _newest_commit(store: Store) -> int:
    """The number of the store's only run's newest commit record, -1 where there is none."""
    keys = store.folders("runs")
    commits = RunHome.open(store, keys[0]).commits() if keys else []
    return commits[-1].number if commits else -1


def _rank_pid(tree: processes.Tree, folder: Path, rank: int) -> int:
    """The pid of a rank, as it said it itself in an attempt's folder; one that was forked has no environment to ask."""
    said = [json.loads(file.read_text())["pid"] for file in folder.glob(f"carryover-*/rank-{rank}.json")]
    (pid,) = set(said).intersection(tree.living())
    return pid
