"""One optimizer step: the same gradient however the batch is cut, the same bits when it is done again."""

import json
import math

import pytest
import torch
from torch import nn

from carryover.checkpoint.snapshot import restore, snapshot
from carryover.tasks.losses import FocalLossConfig
from carryover.train.optim import OPTIMIZERS, build_optimizer, set_rate
from carryover.train.parts import load_weights
from carryover.train.sections import Optimization
from carryover.train.state import RunState
from tests.train.engines import (
    ROWS,
    copies,
    engine,
    global_batch,
    gradients,
    loss,
    net,
    same_bits,
)

PRECISIONS = ("32", "64", "bf16-mixed", "16-mixed")


def close(one: dict, other: dict, *, rtol: float = 1e-4, atol: float = 1e-6) -> None:
    assert one.keys() == other.keys()
    for name in one:
        torch.testing.assert_close(one[name], other[name], rtol=rtol, atol=atol, msg=name)


@pytest.mark.parametrize("micro", [1, 3, 5, 16, 17])
def test_the_gradient_does_not_depend_on_the_cut(micro: int) -> None:
    whole, cut = engine(gradient_clip_val=0.0), engine(gradient_clip_val=0.0)
    one = whole.step(global_batch(80, size=64, micro=64), step=0, rate=0.01)
    other = cut.step(global_batch(80, size=64, micro=micro), step=0, rate=0.01)
    assert float(one.loss) == pytest.approx(float(other.loss), rel=1e-6)
    close(gradients(whole), gradients(cut))
    # The batch at the epoch's end has 16 rows; its gradient is that of their mean loss.
    network = net()
    (batch,) = global_batch(80, size=64, micro=64)
    loss(network(batch.features), batch.targets).mean().backward()
    want = {name: value.grad for name, value in network.named_parameters()}
    close(gradients(whole), want)
    assert float(one.loss) == pytest.approx(float(loss(net()(batch.features), batch.targets).detach().sum()), rel=1e-6)


def test_a_stand_in_counts_for_nothing() -> None:
    made = engine(gradient_clip_val=0.0)
    (batch,) = global_batch(94, size=8, micro=8, rank=1, world=2)
    assert not batch.micro.counts
    assert float(made.step([batch], step=0, rate=0.01).loss) == 0.0
    assert all(not value.any() for value in gradients(made).values())


@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_step_done_again_has_the_same_bits(precision: str) -> None:
    one, other = (engine(net(drop=0.3), precision=precision) for _ in range(2))
    torch.manual_seed(99)  # What the world's generator was before plays no part.
    for made in (one, other):
        for step in range(3):
            made.step(global_batch(16 * step, size=16, micro=4), step=step, rate=0.01)
            torch.rand(7)
    assert same_bits(copies(one), copies(other))


def test_dropout_is_a_function_of_seed_step_and_place() -> None:
    def loss_at(step: int, position: int = 0) -> float:
        return float(engine(net(drop=0.5)).step(global_batch(position, size=8, micro=8), step=step, rate=0.01).loss)

    assert loss_at(0) == loss_at(0)
    assert loss_at(0) != loss_at(1)
    (first, second) = global_batch(0, size=16, micro=8)
    moved = second._replace(micro=second.micro._replace(place=0))
    made = [engine(net(drop=0.5)).step([batch], step=0, rate=0.01).loss for batch in (second, moved, first)]
    assert float(made[0]) != float(made[1])


@pytest.mark.parametrize("precision", ["32", "16-mixed"])
def test_clipping_the_norm(precision: str) -> None:
    free, clipped = (
        engine(precision=precision, gradient_clip_val=0.0),
        engine(precision=precision, gradient_clip_val=0.05),
    )
    batch = global_batch(0, size=32, micro=8)
    assert free.step(batch, step=0, rate=0.01).norm is None
    norm = clipped.step(batch, step=0, rate=0.01).norm
    whole = math.sqrt(sum(float(value.square().sum()) for value in gradients(free).values()))
    assert norm == pytest.approx(whole, rel=1e-3)
    assert norm is not None
    assert norm > 0.05
    now = math.sqrt(sum(float(value.square().sum()) for value in gradients(clipped).values()))
    assert now == pytest.approx(0.05, rel=1e-3)


@pytest.mark.parametrize(
    ("order", "name"), [(2, "gradient_norm_2"), (1.5, "gradient_norm_1.5"), ("inf", "gradient_norm_inf")]
)
def test_a_norm_of_the_gradient_is_told_before_clipping(order: float | str, name: str) -> None:
    free = engine(gradient_clip_val=0.0)
    assert free.step(global_batch(0, size=32, micro=8), step=0, rate=0.01).tracked == {}
    whole = torch.cat([value.flatten() for value in gradients(free).values()])
    made = engine(gradient_clip_val=0.01, track_grad_norm=order)
    tracked = made.step(global_batch(0, size=32, micro=8), step=0, rate=0.01).tracked
    assert tracked == {name: pytest.approx(float(torch.linalg.vector_norm(whole, float(order))), rel=1e-5)}


def test_a_sum_of_losses_has_the_samples_times_the_gradient_of_their_mean() -> None:
    focal = {"loss_func": "focal_loss", "gradient_clip_val": 0.0}
    mean, total = engine(**focal), engine(**focal, focal_loss=FocalLossConfig(reduction="sum"))
    for made in (mean, total):
        made.step(global_batch(80, size=64, micro=5), step=0, rate=0.01)
    close({name: 16 * value for name, value in gradients(mean).items()}, gradients(total))


def test_clipping_each_value() -> None:
    made = engine(gradient_clip_val=0.003, gradient_clip_algorithm="value")
    assert made.step(global_batch(0, size=32, micro=8), step=0, rate=0.01).norm is None
    largest = [float(value.abs().max()) for value in gradients(made).values()]
    assert max(largest) == pytest.approx(0.003)


def test_norms_and_biases_have_no_decay_and_frozen_parameters_no_place() -> None:
    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = net()
            self.scale = nn.Parameter(torch.ones(3))
            self.table = nn.Embedding(4, 2)
            self.frozen = nn.Linear(2, 2).requires_grad_(False)

    network = Odd()
    optimizer = build_optimizer(network, Optimization(weight_decay=0.5))
    names = {id(parameter): name for name, parameter in network.named_parameters()}
    found = [
        (group["weight_decay"], {names[id(parameter)] for parameter in group["params"]})
        for group in optimizer.param_groups
    ]
    weights = {"net.first.weight", "net.middle.weight", "net.last.weight", "table.weight"}
    rest = {"net.first.bias", "net.norm.weight", "net.norm.bias", "net.middle.bias", "scale"}
    assert found == [(0.5, weights), (0.0, rest)]


class Stacked(nn.Module):
    """Places, an embedding, two blocks, a head."""

    def __init__(self) -> None:
        super().__init__()
        self.cls_token = nn.Parameter(torch.zeros(1, 1, 8))
        self.position_embeddings = nn.Embedding(5, 8)
        self.words = nn.Embedding(5, 8)
        self.blocks = nn.ModuleList(nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0) for _ in range(2))
        self.head = nn.Linear(8, 2)


@pytest.mark.parametrize(
    ("config", "want"),
    [
        ({"lr_decay": 0.5}, {"words": 0.125, "blocks.0": 0.25, "blocks.1": 0.5, "head": 1.0}),
        ({"lr_decay": 1.0}, dict.fromkeys(("words", "blocks.0", "blocks.1", "head"), 1.0)),
        (
            {"lr_choice": "two_stages", "lr_mult": 3.0},
            {"words": 1.0, "blocks.0": 1.0, "blocks.1": 1.0, "head": 3.0},
        ),
        ({"lr_choice": "", "lr_mult": 3.0}, dict.fromkeys(("words", "blocks.0", "blocks.1", "head"), 1.0)),
    ],
    ids=["layerwise_decay", "off", "two_stages", "one"],
)
def test_each_layer_has_its_rate(config: dict, want: dict) -> None:
    network = Stacked()
    optimizer = build_optimizer(network, Optimization(**config))
    set_rate(optimizer, 0.01)
    rates = {id(value): group["lr"] for group in optimizer.param_groups for value in group["params"]}
    decays = {id(value): group["weight_decay"] for group in optimizer.param_groups for value in group["params"]}
    named = dict(network.named_parameters())
    assert len(rates) == len(named)
    for part, scale in want.items():
        found = {rates[id(value)] for name, value in named.items() if name.startswith(part)}
        assert list(found) == [pytest.approx(0.01 * scale)]
    bare = {name for name, value in named.items() if not decays[id(value)]}
    assert {"cls_token", "position_embeddings.weight", "blocks.0.norm1.weight", "head.bias"} <= bare
    assert not {"words.weight", "head.weight", "blocks.1.linear1.weight"} & bare


def test_the_rate_of_a_layer_is_what_moves_it() -> None:
    """One step of plain descent: each weight moves by its layer's part of the rate times its gradient."""
    network = Stacked()
    optimizer = build_optimizer(network, Optimization(optim_type="sgd", lr_decay=0.5, weight_decay=0.0))
    set_rate(optimizer, 0.1)
    before = {name: value.detach().clone() for name, value in network.named_parameters()}
    for value in network.parameters():
        value.grad = torch.ones_like(value)
    optimizer.step()
    moved = {name: float((before[name] - value).detach().mean()) for name, value in network.named_parameters()}
    assert moved["head.weight"] == pytest.approx(0.1, rel=1e-4)
    assert moved["blocks.1.linear1.weight"] == pytest.approx(0.05, rel=1e-4)
    assert moved["blocks.0.linear1.weight"] == pytest.approx(0.025, rel=1e-4)
    assert moved["words.weight"] == pytest.approx(0.0125, rel=1e-4)


@pytest.mark.parametrize("optim_type", OPTIMIZERS)
@pytest.mark.parametrize("precision", PRECISIONS)
def test_the_state_goes_through_a_checkpoint_by_name(optim_type: str, precision: str) -> None:
    """Three steps, a checkpoint as bytes and JSON, three more: the same as six in one go."""

    def steps(made, first: int, last: int) -> None:
        for step in range(first, last):
            made.step(global_batch(16 * step % ROWS, size=16, micro=4), step=step, rate=0.01 / (step + 1))

    straight = engine(net(drop=0.2), precision=precision, optim_type=optim_type)
    steps(straight, 0, 6)

    stopped = engine(net(drop=0.2), precision=precision, optim_type=optim_type)
    steps(stopped, 0, 3)
    tensors = snapshot(stopped.tensors())
    kept = {name: (raw.dtype, raw.shape, bytes(raw.data)) for name, raw in tensors.items()}
    state = json.loads(json.dumps(RunState(step=3, scaler=stopped.scaler_state()).as_json(), allow_nan=False))
    steps(stopped, 3, 6)  # It trains on; what was saved must not move with it (bytes above are a copy).

    raw = {name: type(next(iter(tensors.values())))(*value) for name, value in kept.items()}
    network = net(drop=0.2, seed=8)
    load_weights(network, {name: value for name, value in restore(raw).items() if name.startswith("model/")})
    resumed = engine(network, precision=precision, optim_type=optim_type)
    optimizer = {name: value for name, value in restore(raw).items() if name.startswith("optim/")}
    resumed.load_optimizer(optimizer, RunState.from_json(state).scaler)
    assert resumed.scaler_state() == state["scaler"]
    steps(resumed, 3, 6)
    assert same_bits(copies(straight), copies(resumed))
    assert same_bits(copies(straight), copies(stopped))
    moments = {"adafactor": "row_var", "adam": "exp_avg_sq", "adamw": "exp_avg_sq", "sgd": "momentum_buffer"}
    what = moments[optim_type]
    assert f"optim/first.weight/{what}" in kept


@pytest.mark.parametrize("precision", PRECISIONS)
def test_each_precision_learns(precision: str) -> None:
    made = engine(precision=precision)
    batch = global_batch(0, size=32, micro=16)
    losses = [float(made.step(batch, step=step, rate=0.02).loss) / 32 for step in range(40)]
    assert losses[0] == pytest.approx(1.1, abs=0.2)
    assert losses[-1] < 0.8 * losses[0]
    dtype = torch.float64 if precision == "64" else torch.float32
    assert {value.dtype for value in made.network.parameters()} == {dtype}
    with made.autocast():
        got = torch.ones(2, 2, dtype=dtype) @ torch.ones(2, 2, dtype=dtype)
    want = {"32": torch.float32, "64": torch.float64, "bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}
    assert got.dtype == want[precision]


def test_the_scaler_steps_over_what_overflows_and_says_so_in_the_state() -> None:
    made = engine(precision="16-mixed")
    before = copies(made)
    (batch,) = global_batch(0, size=8, micro=8)
    huge = batch._replace(features={"x": batch.features["x"] * float("inf")})
    result = made.step([huge], step=0, rate=0.01)
    assert not math.isfinite(result.norm or 0.0)
    after = copies(made)
    weights = [name for name, _ in made.network.named_parameters()]
    assert all(torch.equal(before[f"model/{name}"], after[f"model/{name}"]) for name in weights)
    assert made.scaler_state()["scale"] == 2.0**15
    other = engine(precision="16-mixed")
    other.load_optimizer({}, json.loads(json.dumps(made.scaler_state())))
    assert other.scaler_state() == made.scaler_state()
    assert engine(precision="32").scaler_state() == {}


@pytest.mark.parametrize(
    ("before", "after"), [("32", "64"), ("64", "32"), ("16-mixed", "bf16-mixed"), ("32", "16-mixed")]
)
def test_a_run_may_go_on_in_another_precision(before: str, after: str) -> None:
    made = engine(precision=before)
    for step in range(3):
        made.step(global_batch(0, size=16, micro=8), step=step, rate=0.01)
    saved = copies(made)
    network = net(seed=5)
    load_weights(network, {name: value for name, value in saved.items() if name.startswith("model/")})
    other = engine(network, precision=after)
    other.load_optimizer({name: v for name, v in saved.items() if name.startswith("optim/")}, made.scaler_state())
    one = other.step(global_batch(0, size=16, micro=8), step=3, rate=0.01)
    two = made.step(global_batch(0, size=16, micro=8), step=3, rate=0.01)
    assert float(one.loss) == pytest.approx(float(two.loss), rel=0.02)
    close(
        {name: value.float() for name, value in copies(made).items() if name.startswith("model/")},
        {name: value.float() for name, value in copies(other).items() if name.startswith("model/")},
        rtol=0.05,
        atol=0.01,
    )


def test_the_rate_is_the_one_asked_for_not_the_restored_one() -> None:
    made = engine(optim_type="sgd", gradient_clip_val=0.0)
    made.step(global_batch(0, size=16, micro=16), step=0, rate=0.5)
    before = copies(made)
    made.step(global_batch(0, size=16, micro=16), step=1, rate=0.0)
    assert same_bits(
        {n: v for n, v in before.items() if n.startswith("model/") and n != "model/steps"},
        {n: v for n, v in copies(made).items() if n.startswith("model/") and n != "model/steps"},
    )
