"""Promise 1 and 2: killed by SIGKILL at any instant, a restart goes on, and the final weights are the same bits.

    reference   one uninterrupted run, in a store of its own
    killed      start, kill everything, start again ... five times, then let it finish

The first kill falls anywhere between the start and the first commit; the others anywhere from a random commit on, so
that they hit steps, validation, the middle of a save and the moment between data and record alike.
"""

import functools
import json
import os
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from carryover.checkpoint import Ref, RunHome
from carryover.ground.storage import Store, open_store
from tests.conftest import CarryoverCli
from tests.support import processes
from tests.support.curves import told

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

KILLS = 5
EPOCHS = 4
WORDS_GOOD = "good great best love nice excellent wonderful happy perfect".split()
WORDS_BAD = "bad worst poor terrible awful hate waste boring slow broken".split()
THINGS = "movie film food place phone service product acting sound battery".split()


@dataclass(frozen=True)
class Trained:
    """A finished run: what it said of itself, its weights as bits, its curve (step, loss) and its validations."""

    result: dict
    weights: bytes
    tensors: dict[str, str]
    curve: list[tuple[int, float]]
    checks: list[tuple[int, float]]


@dataclass(frozen=True)
class Job:
    """One training run and where it lives."""

    cli: CarryoverCli
    folder: Path
    store: str
    dataset: str
    ranks: int
    model: Path
    kinds: dict[str, str] = field(default_factory=dict)

    def command(self) -> list[str]:
        recipe = {
            "seed": 7,
            "model.hf_text.checkpoint_name": self.model,
            "model.hf_text.max_text_len": 32,
            "data.categorical.minimum_cat_count": 10,
            "optimization.max_epochs": EPOCHS,
            "optimization.learning_rate": 0.003,
            "env.batch_size": 16,
            "env.per_gpu_batch_size": 4,
            "env.num_workers": 0,
            "env.num_workers_evaluation": 0,
            "checkpoint.every_steps": 2,
        }
        settings = [word for name, value in recipe.items() for word in ("--set", f"{name}={value}")]
        return self.cli.command(
            "train-ddp", "--dataset", self.dataset, "--store", self.store, "--output", self.folder / "out",
            "--nproc-per-node", self.ranks, *settings,
        )  # fmt: skip

    def start(self, attempt: int) -> processes.Tree:
        self.folder.mkdir(parents=True, exist_ok=True)
        return processes.start(self.command(), said=self.folder / f"attempt-{attempt}.txt", cwd=self.folder)

    def finish(self, attempt: int) -> Trained:
        """Runs to the end and reads what it left."""
        tree = self.start(attempt)
        rc = tree.process.wait(timeout=300)
        assert rc == 0, f"exit {rc}:\n{tree.text()[-5000:]}"
        result = json.loads((self.folder / "out" / "result.json").read_text())
        run = self.runs()
        commit = [record for record in _records(run) if record["kind"] == "commit"][-1]
        table = RunHome(run).objects.load_table(Ref.from_json(commit["table"]))
        tensors = {name: entry.digest for name, entry in table.tensors.items()}
        verified = self.cli("checkpoint", "verify", run.uri)
        assert verified.rc == 0, verified.stderr
        weights = open_store(result["uri"]).read("model.ckpt/model.safetensors")
        return Trained(result, weights, tensors, *_told(run, result["attempts"]))

    def runs(self) -> Store:
        """The home of the one run in this store."""
        (key,) = open_store(self.store).folders("runs")
        return open_store(self.store).sub(f"runs/{key}")

    def commits(self) -> int:
        """How many commits the run has now, by the store alone. A record never changes, so each is read once."""
        store = open_store(self.store)
        for key in store.folders("runs"):
            run = store.sub(f"runs/{key}")
            for name in run.names("log"):
                if name not in self.kinds:
                    self.kinds[name] = json.loads(run.read(f"log/{name}"))["kind"]
        return list(self.kinds.values()).count("commit")


def _told(run: Store, attempts: int) -> tuple[list[tuple[int, float]], list[tuple[int, float]]]:
    """Return the curve and the validations, of which TensorBoard's files tell the same: each step once, all of them."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    lines = told(run)
    curve = [(line["step"], line["loss"]) for line in lines if "loss" in line]
    checks = [(line["step"], line["val_roc_auc"]) for line in lines if "val_roc_auc" in line]
    shown = EventAccumulator(run.at("tensorboard"), size_guidance={"scalars": 0})
    shown.Reload()
    for tag, known in (("train/loss", curve), ("validation/roc_auc", checks)):
        found = shown.Scalars(tag)
        assert [point.step for point in found] == [step for step, _ in known] == sorted({step for step, _ in known})
        assert [point.value for point in found] == pytest.approx([value for _, value in known])
    of = {point.step: point.value for point in shown.Scalars("attempt")}
    assert list(of.values()) == sorted(of.values()) and max(of.values()) <= attempts
    return curve, checks


def _records(run: Store) -> list[dict]:
    return [json.loads(run.read(f"log/{name}")) for name in run.names("log")]


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Reviews made of known words, with a number and a category, so that every kind of branch trains."""
    chance = random.Random(0)
    path = tmp_path_factory.mktemp("kills") / "reviews.csv"
    lines = ["review,stars,shop,liked"]
    for _ in range(260):
        liked = chance.random() < 0.5
        words = " ".join(chance.choices(WORDS_GOOD if liked else WORDS_BAD, k=4) + chance.choices(THINGS, k=5))
        stars = round(chance.gauss(4 if liked else 2, 1.0), 3)
        lines.append(f"the {words} {chance.randrange(10**6)},{stars},{chance.choice('abc')},{'yes' if liked else 'no'}")
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture(scope="module")
def dataset(table: Path) -> str:
    """The prepared data set; all runs here read the same one."""
    cli = CarryoverCli(table.parent)
    arguments = ("--source", table, "--label", "liked", "--store", table.parent / "data", "--output", table.parent)
    prepared = cli("prepare-data", *arguments)
    assert prepared.rc == 0, prepared.stderr
    return json.loads((table.parent / "result.json").read_text())["uri"]


@pytest.fixture(scope="module")
def references(table: Path, dataset: str, tiny_bert: Path) -> Callable[[int], Trained]:
    """The uninterrupted run of so many ranks; the local test and the S3 test compare with the same one."""

    @functools.cache
    def of(ranks: int) -> Trained:
        folder = table.parent / f"reference-{ranks}"
        job = Job(CarryoverCli(table.parent), folder, str(folder / "store"), dataset, ranks, tiny_bert)
        return job.finish(0)

    return of


def _seed() -> int:
    """Fixed, so that a failure can be repeated; CARRYOVER_KILL_SEED asks for other instants."""
    return int(os.environ.get("CARRYOVER_KILL_SEED", "20261120"))


def _kill_five_times(job: Job, *, seed: int, total: int) -> None:
    """Starts and kills the job five times; `total` is how many commits an uninterrupted run makes."""
    chance = random.Random(seed)
    for kill in range(KILLS):
        before = job.commits()
        tree = job.start(kill)
        if kill == 0:
            instant = chance.uniform(0, 12)
            ended = not tree.wait_until(lambda at=tree.started + instant: time.monotonic() > at or job.commits() > 0)
            where = f"{instant:.2f} s after the start"
        else:
            # A busy machine saves far less often than every other step: an attempt may end soon after a few commits.
            more = chance.randint(1, max(1, min(2, (total - before) // (KILLS - kill + 1))))
            delay = chance.uniform(0, 0.25)
            ended = not tree.wait_until(lambda goal=before + more: job.commits() >= goal)
            time.sleep(delay)
            where = f"{delay:.3f} s after commit {before + more} of about {total}"
        assert not ended, f"attempt {kill} ended by itself:\n{tree.text()[-3000:]}"
        tree.kill()
        assert tree.process.returncode == -9, f"attempt {kill} had ended before it was killed:\n{tree.text()[-3000:]}"
        print(f"seed {seed}: kill {kill + 1}: {where}; {job.commits()} commits in the log")


def _assert_same_bits(killed: Trained, reference: Trained) -> None:
    different = [name for name, digest in reference.tensors.items() if killed.tensors.get(name) != digest]
    assert different == []
    assert killed.tensors.keys() == reference.tensors.keys()
    assert any(name.startswith("model/") for name in reference.tensors)
    assert any(name.startswith("optim/") for name in reference.tensors)
    assert killed.weights == reference.weights
    assert (killed.curve, killed.checks) == (reference.curve, reference.checks), "no gap, and no point twice"
    assert killed.result["metrics"] == reference.result["metrics"]
    assert killed.result["step_count"] == reference.result["step_count"]


def _total(reference: Trained) -> int:
    return reference.result["step_count"] // 2


# One rank is less than two, and other tests kill it too: for the long suite.
@pytest.mark.parametrize("ranks", [pytest.param(1, marks=pytest.mark.torture), 2])
def test_killed_five_times_the_weights_are_the_same_bits(
    tmp_path: Path, dataset: str, tiny_bert: Path, references: Callable[[int], Trained], ranks: int
) -> None:
    reference = references(ranks)
    job = Job(CarryoverCli(tmp_path), tmp_path, str(tmp_path / "store"), dataset, ranks, tiny_bert)
    _kill_five_times(job, seed=_seed() + ranks, total=_total(reference))
    killed = job.finish(KILLS)
    # The first kill may come before the run claims anything; the others come after commits of different attempts.
    assert KILLS <= killed.result["attempts"] <= KILLS + 1
    assert killed.result["run_key"] == reference.result["run_key"]
    _assert_same_bits(killed, reference)


@pytest.mark.parametrize("ranks", [pytest.param(1, marks=pytest.mark.torture), 2])
def test_killed_five_times_with_the_store_on_s3(
    tmp_path: Path,
    dataset: str,
    tiny_bert: Path,
    references: Callable[[int], Trained],
    s3_store_uri: str,
    ranks: int,
) -> None:
    reference = references(ranks)
    job = Job(CarryoverCli(tmp_path), tmp_path, s3_store_uri, dataset, ranks, tiny_bert)
    _kill_five_times(job, seed=_seed() + 10 + ranks, total=_total(reference))
    _assert_same_bits(job.finish(KILLS), reference)


def test_ranks_die_with_their_launcher(tmp_path: Path, dataset: str, tiny_bert: Path) -> None:
    """Killing only the command that the user started leaves no rank behind that would train on as a zombie."""
    job = Job(CarryoverCli(tmp_path), tmp_path, str(tmp_path / "store"), dataset, 2, tiny_bert)
    tree = job.start(0)
    try:
        assert tree.wait_until(lambda: job.commits() >= 1)
        assert len(tree.living()) >= 3
        tree.kill_one(tree.process.pid)
        tree.process.wait()
        deadline = time.monotonic() + 15
        while tree.living() and time.monotonic() < deadline:
            time.sleep(0.05)
        assert tree.living() == []
    finally:
        tree.kill()
