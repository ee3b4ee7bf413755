"""The gate: resampled metrics against scikit-learn's, intervals that cover what they promise, decisions and why."""

import math
import time

import numpy as np
import pytest

from carryover.carry.answers import Answers, Frame, Said
from carryover.carry.bootstrap import FAST, FEWER_RESAMPLES, RESAMPLES, differences, resampled
from carryover.carry.gate import Compared, Gate, compare
from carryover.ground.errors import WrongInput
from carryover.tasks.metrics import METRICS, Metric, Scored, find_metric, value

RNG = np.random.default_rng(1)
CLASSES = {"binary": ("no", "yes"), "multiclass": ("a", "b", "c", "d"), "regression": ()}
DENSE = ("object_detection", "semantic_segmentation")


def answers_of(problem_type: str, rows: int, *, better: float = 1.0, seed: int = 0, name: str = "new") -> Answers:
    """Two Models on the same rows: "model" sees the truth with a noise that is `better` times smaller."""
    rng = np.random.default_rng(seed)
    count = len(CLASSES[problem_type])
    if not count:
        truth = rng.normal(size=rows).round(1)
        said = {who: truth + rng.normal(size=rows) / by for who, by in (("model", better), ("baseline", 1.0))}
        return Answers(name, "d", Frame(), truth, {who: part.round(1) for who, part in said.items()})
    truth = rng.integers(count, size=rows)
    said = {}
    for who, by in (("model", better), ("baseline", 1.0)):
        # Rounded, so that there are equal probabilities as well.
        raw = (np.eye(count)[truth] * by + rng.gumbel(size=(rows, count))).round(1)
        said[who] = np.exp(raw) / np.exp(raw).sum(axis=1, keepdims=True)
    return Answers(name, "d", Frame(CLASSES[problem_type], 1), truth, said)


# Those of boxes and masks: test_bootstrap_dense.py.
PAIRS = [(name, kind) for name, metric in sorted(METRICS.items()) for kind in metric.problem_types if kind not in DENSE]


@pytest.mark.parametrize(("name", "problem_type"), PAIRS)
def test_resampled_at_once_is_the_metric_itself(name, problem_type):
    metric, scored = METRICS[name], answers_of(problem_type, 60).scored("model")
    counts = np.stack([np.bincount(RNG.integers(60, size=60), minlength=60) for _ in range(25)]).astype(float)
    # One class only, and one row only: both have their own words in the metrics.
    alone = np.where(scored.targets == scored.targets[0], 1.0, 0.0)
    counts = np.concatenate([counts, [alone, np.eye(60)[3] * 60]])
    with np.errstate(divide="ignore", invalid="ignore"):
        found = resampled(metric, scored)(counts)
    for row, got in zip(counts.astype(int), found, strict=True):
        drawn = np.repeat(np.arange(60), row)
        part = Scored(scored.targets[drawn], scored.predictions[drawn], scored.classes, scored.positive)
        want = value(metric, part)
        assert (got if math.isfinite(got) else math.nan) == pytest.approx(want, nan_ok=True, abs=1e-9)


def test_all_metrics_but_the_slow_one_are_resampled_at_once():
    assert set(METRICS) - set(FAST) == {"roc_auc_ovo"}
    slow = answers_of("multiclass", 80)
    assert len(differences(METRICS["roc_auc_ovo"], slow.scored("model"), slow.scored("baseline"))) == FEWER_RESAMPLES
    started = time.monotonic()
    large = answers_of("binary", 20_000)
    assert len(differences(METRICS["roc_auc"], large.scored("model"), large.scored("baseline"))) == RESAMPLES
    assert time.monotonic() - started < 60


def both(metric: Metric, answers: Answers) -> Compared:
    return compare(metric, answers, model="model", baseline="baseline")


def test_a_known_answer():
    """Ten of 100 rows are right for the Model alone, none for the baseline alone: mean 0.1, sd sqrt(.1 * .9 / 100)."""
    truth = np.zeros(100, int)
    right, wrong = np.array([0.9, 0.1]), np.array([0.1, 0.9])
    said = {"model": np.tile(right, (100, 1)), "baseline": np.array([wrong] * 10 + [right] * 90)}
    found = both(find_metric("accuracy", "binary"), Answers("x", "d", Frame(("a", "b")), truth, said))
    assert (found.model, found.baseline, found.resamples) == (1.0, 0.9, RESAMPLES)
    assert found.better == pytest.approx(0.1)
    assert found.low == pytest.approx(0.1 - 1.96 * 0.03, abs=0.012)
    assert found.high == pytest.approx(0.1 + 1.96 * 0.03, abs=0.012)
    again = both(find_metric("accuracy", "binary"), Answers("x", "d", Frame(("a", "b")), truth, said))
    assert again == found, "seeded"


@pytest.mark.parametrize(
    ("name", "problem_type"), [("accuracy", "binary"), ("roc_auc", "binary"), ("rmse", "regression")]
)
def test_the_interval_covers_the_true_difference_as_often_as_it_says(name, problem_type):
    metric = find_metric(name, problem_type)
    sign = 1 if metric.greater_is_better else -1
    large = answers_of(problem_type, 400_000, better=1.3, seed=99)
    truth = sign * (value(metric, large.scored("model")) - value(metric, large.scored("baseline")))
    covered = unpaired = 0
    for seed in range(200):
        one = answers_of(problem_type, 150, better=1.3, seed=seed)
        drawn = sign * differences(metric, one.scored("model"), one.scored("baseline"), resamples=400, seed=seed)
        low, high = np.percentile(drawn, (2.5, 97.5))
        covered += low <= truth <= high
        # The control: a point in the interval's middle half says nothing of 95 %.
        low, high = np.percentile(drawn, (25, 75))
        unpaired += low <= truth <= high
    assert 0.90 <= covered / 200 <= 0.99
    assert unpaired / 200 < 0.65


def test_pairing_makes_the_interval_narrow():
    """Two Models that err on the same rows are compared by the few on which they differ."""
    rng = np.random.default_rng(0)
    truth = np.zeros(500, int)
    shared = np.where(rng.random(500)[:, None] < 0.3, [0.1, 0.9], [0.9, 0.1])
    model = np.where(rng.random(500)[:, None] < 0.02, [0.9, 0.1], shared)
    metric = find_metric("accuracy", "binary")
    paired = both(metric, Answers("x", "d", Frame(("a", "b")), truth, {"model": model, "baseline": shared}))
    mixed = rng.permutation(500)
    loose = {"model": model, "baseline": shared[mixed]}
    apart = both(metric, Answers("x", "d", Frame(("a", "b")), truth, loose))
    assert apart.better == pytest.approx(paired.better)
    assert (paired.high - paired.low) < 0.5 * (apart.high - apart.low)


def decide(gate: Gate, *answers: Answers, metric: str = "accuracy", problem_type: str = "multiclass"):
    return gate.decide(find_metric(metric, problem_type), answers, model="model", baseline="baseline")


BETTER = answers_of("multiclass", 400, better=2.0, name="new")
WORSE = answers_of("multiclass", 400, better=0.5, name="old")
SAME = answers_of("multiclass", 400, seed=5, name="same")


def test_gain_and_forgetting_decide_each_alone_and_together():
    assert decide(Gate(min_gain=0.05), BETTER).accepted
    assert not decide(Gate(min_gain=0.05), WORSE).accepted
    assert decide(Gate(max_forgetting=0.05), WORSE, BETTER).accepted, "the new Dataset is not an old one"
    both = decide(Gate(min_gain=0.05, max_forgetting=0.0), BETTER, WORSE)
    assert not both.accepted
    assert both.reason.startswith("accuracy: forgetting +0.")
    assert "on old, not as asked (0 or less)" in both.reason
    assert "gain" not in both.reason, "what held is not why it was refused"
    fine = decide(Gate(min_gain=0.05, max_forgetting=0.05), BETTER, SAME)
    assert fine.accepted
    assert "on new, as asked (+0.05 or more)" in fine.reason
    assert "on same, as asked (+0.05 or less), though the interval does not exclude more" in fine.reason


def test_a_limit_holds_when_met_exactly_and_nothing_asked_accepts():
    found = decide(Gate(), BETTER)
    assert found.accepted
    assert "nothing was asked of it; gain +" in found.reason
    assert found.gain is not None
    assert decide(Gate(min_gain=found.gain.better), BETTER).accepted
    assert not decide(Gate(min_gain=found.gain.better + 1e-6), BETTER).accepted


def test_less_is_better_is_turned():
    numbers = answers_of("regression", 300, better=2.0)
    found = decide(Gate(min_gain=0.1), numbers, metric="rmse", problem_type="regression")
    assert found.accepted
    assert found.gain is not None
    assert found.gain.model < found.gain.baseline
    assert found.gain.better == pytest.approx(found.gain.baseline - found.gain.model)
    assert found.gain.low > 0
    lost = decide(Gate(max_forgetting=0.1), numbers, answers_of("regression", 300, better=0.5), metric="rmse",
                  problem_type="regression")  # fmt: skip
    assert not lost.accepted
    measured = lost.to_json()["forgetting"][0]
    assert measured["forgetting"] > 0.1
    assert measured["low"] < measured["forgetting"] < measured["high"]


def test_confident_asks_the_interval_too():
    few = answers_of("multiclass", 40, better=1.3, seed=2)
    measured = both(find_metric("accuracy", "multiclass"), few).better
    found = decide(Gate(min_gain=measured - 0.02), few)
    assert found.accepted
    assert "the interval does not exclude less" in found.reason
    strict = decide(Gate(min_gain=measured - 0.02, confident=True), few)
    assert not strict.accepted
    assert strict.reason.endswith("but --confident was asked and the interval does not exclude less")
    assert decide(Gate(min_gain=0.0, confident=True), BETTER).accepted
    assert not decide(Gate(max_forgetting=0.001, confident=True), BETTER, SAME).accepted


def test_a_score_that_is_missing_never_opens_the_gate():
    """One class of two has no row: no ROC curve, so nothing can be shown."""
    truth = np.zeros(30, int)
    said = {"model": np.tile([0.9, 0.1], (30, 1)), "baseline": np.tile([0.8, 0.2], (30, 1))}
    blind = Answers("one class", "d", Frame(("a", "b")), truth, said)
    for gate, answers in [(Gate(min_gain=-1.0), [blind]), (Gate(max_forgetting=1.0), [BINARY, blind])]:
        found = decide(gate, *answers, metric="roc_auc", problem_type="binary")
        assert not found.accepted
        assert "on one class" not in found.reason
        assert "one class: no score of" in found.reason
    assert decide(Gate(min_gain=-1.0), BINARY, blind, metric="roc_auc", problem_type="binary").accepted


BINARY = answers_of("binary", 200)


def test_rows_of_a_class_that_the_baseline_does_not_know_are_wrong_for_it():
    frame = Frame.of(["no", "yes", "maybe"], [["yes", "no"]])
    assert frame.classes == ("no", "yes", "maybe")
    placed = frame.place(np.array([[0.8, 0.2], [0.3, 0.7]]), ["yes", "no"])
    assert placed.tolist() == [[0.2, 0.8, 0.0], [0.7, 0.3, 0.0]]
    truth = np.array([2, 0])
    said = {"model": np.eye(3)[truth], "baseline": placed}
    found = both(find_metric("accuracy", "multiclass"), Answers("x", "d", frame, truth, said))
    assert (found.model, found.baseline) == (1.0, 0.5)
    # Numbers and texts that mean the same class meet; what only the baseline knows comes last.
    assert Frame.of([1, 2], [["2", "3"]]).classes == ("1", "2", "3")


def test_a_row_that_one_model_could_not_use_is_left_out_for_all():
    """An image that cannot be read is replaced by the next row, for those Models alone that look at it."""
    right, wrong = np.array([0.9, 0.1]), np.array([0.1, 0.9])
    mine = Said(np.arange(4), np.tile(right, (4, 1)), ("a", "b"), np.zeros(4, int), 1)
    theirs = Said(np.array([0, 2, 2, 3]), np.array([right, wrong, wrong, right]), ("a", "b"))
    found = Answers.of_models("x", "d", mine, {"baseline": theirs}, model_digest="model")
    assert found.truth.tolist() == [0, 0, 0]
    scored = both(find_metric("accuracy", "binary"), found)
    assert (scored.rows, scored.model, scored.baseline) == (3, 1.0, pytest.approx(2 / 3))


def test_wrong_words():
    for arguments, words in [
        ({"min_gain": math.nan}, "--min-gain: nan is not possible"),
        ({"max_forgetting": math.inf}, "--max-forgetting: inf is not possible"),
        ({"confident": True}, "--confident: says how"),
    ]:
        with pytest.raises(WrongInput, match=words):
            Gate(**arguments)
    Gate(max_forgetting=0.1).check_datasets(2)
    with pytest.raises(WrongInput, match="there is no old Dataset"):
        Gate(max_forgetting=0.1).check_datasets(1)


def test_what_is_written_of_a_decision():
    found = decide(Gate(min_gain=0.05, max_forgetting=0.05), BETTER, SAME).to_json()
    assert found["accepted"] is True
    assert found["metric"] == "accuracy"
    gain = found["gain"]
    assert gain["gain"] == pytest.approx(gain["model"] - gain["baseline"])
    assert gain["low"] < gain["gain"] < gain["high"]
    assert [one["name"] for one in found["forgetting"]] == ["same"]
    assert isinstance(decide(Gate(), BETTER).gain, Compared)
