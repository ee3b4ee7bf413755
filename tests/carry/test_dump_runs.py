"""Backbones from the commits of runs: stopped, running, damaged; and what the command line says, of wrong words too."""

import json
import shutil
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from carryover.carry.backbone import find_backbone
from carryover.checkpoint.layout import LAST, Damaged, object_name
from carryover.checkpoint.snapshot import restore
from carryover.ground.errors import WrongInput
from carryover.ground.storage import open_store
from carryover.steps.dump_backbone import dump_backbone
from carryover.train.run import attempt
from tests.conftest import CarryoverCli
from tests.steps.conftest import WatchedCli
from tests.support import processes
from tests.support.last_words import only_error_of
from tests.train.attempts import SMALL, Instant, Killed, Run, dataset

RECIPE = {
    "optimization.max_epochs": 3,
    "checkpoint.every_steps": 3,
    "checkpoint.keep_last": 4,
    "checkpoint.keep_best": 1,
}
BRANCHES = ("categorical_mlp", "numerical_mlp")


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run that was killed in its middle, after a validation."""
    folder = tmp_path_factory.mktemp("stopped")
    run = Run(dataset(folder), str(folder / "store"), RECIPE, folder / "scratch")
    with pytest.raises(Killed):
        run.go(kill_after=20)
    assert run.home.finish_record() is None
    return run


def check_commit(run: Run, result: dict, step: int) -> None:
    """The Backbone has the very weights of the newest commit of that step, but for heads and what joins branches."""
    record = [record for record in run.home.commits() if record.step == step][-1]
    tensors = restore(run.home.read_tensors(record, "model/"))
    card = find_backbone(result["uri"]).card
    assert card.checkpoint == {"uri": run.home.store.uri, "number": record.number, "step": step}
    assert (card.model, card.step, card.names) == (None, step, BRANCHES[::-1])
    for branch in BRANCHES:
        weights = load_file(f"{result['uri']}/{branch}/model.safetensors")
        start = f"model/{branch}."
        own = {name.removeprefix(start): value for name, value in tensors.items() if name.startswith(start)}
        assert {name for name in own if not name.startswith("head.")} == set(weights)
        assert all(torch.equal(value, own[name]) for name, value in weights.items())


def test_a_commit_of_a_stopped_run(stopped: Run, tmp_path: Path) -> None:
    steps = [record.step for record in stopped.home.commits()]
    assert len(steps) > 2
    home, store = stopped.home.store.uri, str(tmp_path / "store")
    digests = set()
    for source, step in ((home, steps[-1]), (f"{home}@{steps[-2]}", steps[-2]), (f"{home}/@{steps[0]}", steps[0])):
        result = dump_backbone(model=source, store=store)
        check_commit(stopped, result, step)
        digests.add(result["digest"])
    assert len(digests) == 3
    best = stopped.state()["best_step"]
    assert best > 0
    check_commit(stopped, dump_backbone(model="run:run@best", store=stopped.store), best)


def test_words_that_name_nothing(stopped: Run, tmp_path: Path) -> None:
    home, store = stopped.home.store.uri, stopped.store
    steps = ", ".join(str(record.step) for record in stopped.home.commits())
    for source, words in {
        "run:run": r"run:run: has not finished, so it has no Model yet; run:run@STEP or run:run@best",
        "run:other": "run:other: there is no such run in",
        "run:other@5": "run:other: there is no such run in",
        f"{home}@1": rf"@1: no commit of step 1 is kept; there are those of steps {steps}$",
        f"{store}@5": "no run there .* it is a store with runs run",
        str(tmp_path): "no Model there; give what 'carryover train-ddp' printed",
        f"{tmp_path}@best": "no run there",
        f"{home}@last": "no Model there",
        "": "--model: empty; give a Model's URI",
        "ftp://somewhere/model": "scheme 'ftp' is not supported",
    }.items():
        with pytest.raises(WrongInput, match=words):
            dump_backbone(model=source, store=store)


def test_a_run_without_a_commit_or_a_score(stopped: Run, tmp_path: Path) -> None:
    early = Run(stopped.card, str(tmp_path / "store"), RECIPE, tmp_path / "scratch")
    early.claim({})
    with pytest.raises(WrongInput, match="no commit yet; its training has to get further first"):
        dump_backbone(model=early.home.store.uri, store=early.store)
    with pytest.raises(Killed):
        early.go(kill_after=4)
    assert dump_backbone(model=early.home.store.uri, store=early.store)["model_step"] == 3
    with pytest.raises(WrongInput, match="no validation has a score yet; leave out @best for the newest"):
        dump_backbone(model=f"{early.home.store.uri}@best", store=early.store)


def test_a_damaged_commit(stopped: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The next older one is taken where the newest was asked for; one that was named is refused."""
    home = Path(shutil.copytree(stopped.home.store.uri, tmp_path / "store" / "runs" / "run"))
    older, newest = stopped.home.commits()[-2:]
    own = {ref.digest for ref in newest.objects} - {ref.digest for ref in older.objects}
    packs = [ref for ref in stopped.home.objects.load_table(newest.table).packs if ref.digest in own]
    for ref in packs:
        path = home / object_name(ref.digest)
        path.write_bytes(path.read_bytes()[:-1] + b"\x00")
    result = dump_backbone(model=str(home), store=str(tmp_path / "store"))
    assert result["model_step"] == older.step
    assert f"commit {newest.number} (step {newest.step}) can't be used" in capsys.readouterr().err
    with pytest.raises(Damaged, match=rf"commit {newest.number} \(step {newest.step}\) can't be used"):
        dump_backbone(model=f"{home}@{newest.step}", store=str(tmp_path / "store"))


def test_it_may_be_alive(stopped: Run, tmp_path: Path) -> None:
    """A dump between two steps of an attempt that goes on; both are what they would have been."""
    folder = tmp_path / "alive"
    run = Run(stopped.card, str(folder / "store"), RECIPE, folder / "scratch")

    class Dumping(Instant):
        @property
        def wanted(self) -> bool:
            self.seen += 1
            if self.seen == 12:
                deadline = time.monotonic() + 60
                while not run.home.commits() and time.monotonic() < deadline:
                    time.sleep(0.05)
                step = run.home.commits()[-1].step
                results.append((dump_backbone(model=f"run:run@{step}", store=run.store), step))
            return False

    results: list[tuple[dict, int]] = []
    attempt(run.claim({}).as_json(), Dumping())  # pyright: ignore[reportArgumentType]
    ((result, step),) = results
    assert find_backbone(result["uri"]).card.checkpoint["step"] == step  # type: ignore[index]
    straight = Run(stopped.card, str(folder / "other"), RECIPE, folder / "scratch")
    straight.go()
    assert run.tensors() == straight.tensors()


@pytest.mark.slow
def test_a_living_run_removes_what_is_being_read(stopped: Run, tmp_path: Path) -> None:
    """Real ranks that keep one checkpoint alone, and a reader that takes the newest again and again."""
    cli = CarryoverCli(tmp_path)
    recipe = {**SMALL, "optimization.max_epochs": 200, "checkpoint.every_steps": 1, "checkpoint.keep_last": 1}
    recipe |= {"optimization.patience": 1000}
    settings = [word for name, value in recipe.items() for word in ("--set", f"{name}={value}")]
    command = cli.command("train-ddp", "--dataset", stopped.card.at, "--store", tmp_path / "store", *settings)
    tree = processes.start(command, said=tmp_path / "said.txt", cwd=tmp_path)
    try:
        store = open_store(str(tmp_path / "store"))
        assert tree.wait_until(lambda: any(store.exists(f"runs/{key}/{LAST}") for key in store.folders("runs")))
        (key,) = store.folders("runs")
        steps, deadline = [0], time.monotonic() + 120
        while steps[-1] < 60 and time.monotonic() < deadline:
            steps.append(dump_backbone(model=f"{store.uri}/runs/{key}", store=str(tmp_path))["model_step"])
        assert tree.process.poll() is None, tree.text()
    finally:
        tree.kill()
    assert steps == sorted(steps)
    assert len(set(steps)) > 5


def test_the_command_line(stopped: Run, carryover_cli: CarryoverCli, tmp_path: Path) -> None:
    watched = WatchedCli(carryover_cli)
    home = stopped.home.store.uri
    ended = carryover_cli(
        "dump-backbone", "--model", f"{home}@best", "--store", "store", "--output", "out", "--outputs-dir", "o"
    )
    assert ended.rc == 0, ended.stderr
    assert "numerical_mlp: the same bits" in ended.stdout
    result = json.loads((tmp_path / "out" / "result.json").read_text())
    assert f"uri: {result['uri']}" in ended.stdout
    assert find_backbone(str(tmp_path / "out")).card.digest == result["digest"]
    assert (tmp_path / "o" / "uri").read_text() == result["uri"]
    wrong = watched("dump-backbone", "--model", f"{home}@1", "--store", "store")
    assert wrong.ended.rc == 2
    assert only_error_of(wrong.ended.stderr)
    assert wrong.light, "what is wrong is said before torch is loaded"
    assert carryover_cli("dump-backbone").rc == 2
