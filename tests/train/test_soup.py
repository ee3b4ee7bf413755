"""The final weights: the mean of the best checkpoints, whole again after a kill and without what is damaged."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from carryover.checkpoint.pack import RawTensor
from carryover.checkpoint.snapshot import restore
from carryover.data.manifest import DatasetCard
from carryover.ground.errors import RunAgain
from carryover.train import check
from carryover.train.soup import Mean
from carryover.train.state import RunState
from tests.train.attempts import Killed, Run, dataset

# Six checks in two epochs.
OFTEN = {"optimization.val_check_interval": 0.34, "checkpoint.every_steps": 100}
CHECKS = 6


@pytest.fixture(scope="module")
def card(tmp_path_factory: pytest.TempPathFactory) -> DatasetCard:
    return dataset(tmp_path_factory.mktemp("dataset"))


@pytest.fixture
def scripted(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Give validations these scores, in turn; notes the weights that each saw."""
    plan: dict[str, Any] = {"scores": [], "seen": []}

    class Scripted(check.SplitValidator):
        def score(self) -> float:
            super().score()
            plan["seen"].append({name: value.clone() for name, value in self._engine.network.state_dict().items()})
            return plan["scores"][len(plan["seen"]) - 1]

    monkeypatch.setattr(check, "SplitValidator", Scripted)
    return plan


def make(card: DatasetCard, folder: Path, **changes: Any) -> Run:
    folder.mkdir(exist_ok=True)
    values = {f"optimization.{name}": value for name, value in changes.items()}
    return Run(card, str(folder / "store"), {**OFTEN, **values}, folder)


def final(run: Run) -> dict[str, Tensor]:
    raw: dict[str, RawTensor] = run.home.read_tensors(run.finish(), "model/")
    return {name.removeprefix("model/"): value for name, value in restore(raw).items()}


def mean(*found: dict[str, Tensor]) -> dict[str, Tensor]:
    return {
        name: torch.stack([one[name].double() for one in found]).mean(0).to(found[0][name].dtype) for name in found[0]
    }


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_greedy_skips_what_makes_it_worse_and_goes_on(card: DatasetCard, tmp_path: Path, scripted: dict) -> None:
    run = make(card, tmp_path, top_k=4)
    # Best first: checks 4, 2, 6, 1. With 2 it is worse, with 6 as good, with 1 better.
    scripted["scores"] = [0.6, 0.8, 0.1, 0.9, 0.2, 0.7, 0.91, 0.85, 0.91, 0.93]
    run.go()
    seen = scripted["seen"]
    assert len(seen) == CHECKS + 4
    assert same(seen[CHECKS], seen[3])
    assert same(seen[CHECKS + 1], mean(seen[3], seen[1]))
    assert same(seen[CHECKS + 2], mean(seen[3], seen[5]))
    assert same(final(run), mean(seen[3], seen[5], seen[0]))
    finish = run.finish()
    steps = [step for _, step in run.state()["top"]]
    assert finish.body["metrics"]["model_steps"] == [steps[0], steps[2], steps[3]]
    assert (finish.step, finish.body["metrics"]["val_roc_auc"]) == (steps[0], 0.93)
    # The best checkpoints stay without being asked for by checkpoint.keep_best.
    assert set(steps) <= {record.step for record in run.home.commits()}


@pytest.mark.parametrize(
    ("method", "parts", "score"), [("uniform_soup", (3, 1, 5), 0.5), ("best", (3,), 0.9), ("greedy_soup", (3,), 0.9)]
)
def test_uniform_best_and_a_greedy_soup_of_one(
    card: DatasetCard, tmp_path: Path, scripted: dict, method: str, parts: tuple, score: float
) -> None:
    run = make(card, tmp_path, top_k_average_method=method)
    soup = {"uniform_soup": [0.5], "best": [], "greedy_soup": [0.9, float("nan"), 0.0]}[method]
    scripted["scores"] = [0.6, 0.8, 0.1, 0.9, 0.2, 0.7, *soup]
    run.go()
    seen = scripted["seen"]
    assert len(seen) == CHECKS + len(soup)
    assert same(final(run), mean(*(seen[part] for part in parts)))
    assert run.finish().body["metrics"]["val_roc_auc"] == score


def test_a_smaller_score_may_be_the_better_one(card: DatasetCard, tmp_path: Path, scripted: dict) -> None:
    run = make(card, tmp_path, top_k=2, val_metric="log_loss")
    scripted["scores"] = [0.6, 0.8, 0.1, 0.9, 0.2, 0.7, 0.1, 0.15]
    run.go()
    assert same(final(run), scripted["seen"][2])
    assert [score for score, _ in run.state()["top"]] == [0.1, 0.2]


def test_killed_while_it_cooks_it_ends_with_the_same_model(card: DatasetCard, tmp_path: Path) -> None:
    straight, broken = make(card, tmp_path / "straight", top_k=4), make(card, tmp_path / "broken", top_k=4)
    straight.go()
    batches = straight.state()["step"]
    for after in (batches + 1, 2):
        # The wish to stop is asked for once a step, and once behind each score of the soup.
        with pytest.raises(Killed):
            broken.go(kill_after=after)
        assert broken.home.finish_record() is None
        assert broken.state()["step"] == batches
    with pytest.raises(RunAgain, match="stopped on request while the best checkpoints were averaged"):
        broken.go(stop_after=3)
    broken.go()
    assert broken.finish().body["model"] == straight.finish().body["model"] != ""
    assert same(final(broken), final(straight))
    assert len(straight.finish().body["metrics"]["model_steps"]) >= 1


def test_a_damaged_candidate_is_left_out(
    card: DatasetCard, tmp_path: Path, scripted: dict, capfd: pytest.CaptureFixture[str]
) -> None:
    run = make(card, tmp_path, top_k_average_method="uniform_soup")
    scripted["scores"] = [0.6, 0.8, 0.1, 0.9, 0.2, 0.7, 0.5, 0.5]
    with pytest.raises(Killed):
        # At the first step behind the last one: everything is saved, and the soup begins.
        run.go(kill_after=2 * -(-run.card.splits["train"].rows // 16) + 1)
    bad = run.state()["top"][1][1]
    records = {record.step: record for record in run.home.commits()}
    kept = {ref.digest for step, record in records.items() if step != bad for ref in record.objects}
    for digest in {ref.digest for ref in records[bad].objects} - kept:
        path = Path(run.home.store.uri, "objects", digest)
        path.write_bytes(path.read_bytes()[:-1])
    run.go()
    seen = scripted["seen"]
    assert f"the weights of step {bad}, among the best, can't be used and are left out" in capfd.readouterr().err
    assert same(final(run), mean(seen[3], seen[5]))
    assert bad not in run.finish().body["metrics"]["model_steps"]


def test_without_a_usable_candidate_the_last_weights_are_final(
    card: DatasetCard, tmp_path: Path, scripted: dict, capfd: pytest.CaptureFixture[str]
) -> None:
    run = make(card, tmp_path)
    scripted["scores"] = [float("nan")] * CHECKS
    run.go()
    assert run.state()["top"] == []
    assert run.finish().body["metrics"] | {"val_roc_auc": None} == run.finish().body["metrics"]
    assert run.finish().step == run.state()["step"]


def test_a_mean_is_exact_and_takes_what_is_no_number_from_the_first() -> None:
    parts = [{"w": torch.tensor([0.1, value]), "n": torch.tensor(int(value))} for value in (1.0, 2.0, 4.0)]
    made = Mean()
    for part in parts:
        made = made.with_one(part)
    # What never changed (frozen weights) stays what it was, to the last bit.
    assert torch.equal(made.weights()["w"], torch.tensor([0.1, 7 / 3]))
    assert made.weights()["n"] == 1
    assert same(Mean().with_one(parts[0]).weights(), parts[0])


@pytest.mark.parametrize("greater", [True, False])
def test_the_best_of_many_checks_are_known(greater: bool) -> None:
    state, scores, worth = RunState(), [0.3, 0.5, 0.5, float("nan"), 0.1, 0.9, 0.4], []
    for step, score in enumerate(scores, 1):
        state.step = step
        worth.append(state.record(score, greater_is_better=greater, keep=3))
    want = [(0.9, 6), (0.5, 2), (0.5, 3)] if greater else [(0.1, 5), (0.3, 1), (0.4, 7)]
    assert state.top == want
    assert worth == [True, True, True, False, not greater, greater, not greater]
    assert state.candidates(2) == [step for _, step in want[:2]]
    assert RunState.from_json(state.as_json()) == state
    # A state from before there was a list knows the best check alone.
    assert RunState(best_step=4).candidates(3) == [4]
    assert RunState().candidates(3) == []
