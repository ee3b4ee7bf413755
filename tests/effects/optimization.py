"""What the keys of optimization do."""

from typing import Any

import torch
from torch import nn

from carryover.data.schema import Column, Schema
from carryover.models.family import Outputs
from carryover.tasks.task import make_task
from carryover.train.limits import limits_of
from carryover.train.optim import build_optimizer
from carryover.train.schedule import first_curve
from carryover.train.state import RunState
from tests.effects.effect import Effect, Flat, recipe, trained, weights

ROWS = 40


class Stacked(nn.Module):
    """An embedding, two blocks and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(3, 4)
        self.blocks = nn.ModuleList(nn.TransformerEncoderLayer(4, 2, 8) for _ in range(2))
        self.head = nn.Linear(4, 2)


def groups(settings: Flat) -> list[Any]:
    """Return the optimizer's groups: rate, decay and number of parameters."""
    config = recipe(settings).optimization
    with torch.random.fork_rng(devices=[]):
        optimizer = build_optimizer(Stacked(), config)
    return [(group["scale"], group["weight_decay"], len(group["params"])) for group in optimizer.param_groups]


def rates(settings: Flat) -> list[float]:
    """Return the learning rates of a training of 4 epochs, or as asked, of 3 steps each."""
    made = recipe({"optimization.max_epochs": 4, **settings})
    limits = limits_of(made.optimization, made.env, made.resume, rows=ROWS, validates=True, time_limit=None)
    start = RunState()
    total = limits.total_steps(start)
    curve = first_curve(made.optimization, total, at_epoch=lambda epoch: limits.step_of_epoch(start, epoch))
    return [curve.rate(step) for step in range(total)]


def checks(settings: Flat) -> list[int]:
    """Return the steps at which there was a validation."""
    lines = trained({"optimization.max_epochs": 3, "optimization.val_metric": "roc_auc", **settings}).curve()
    return [line["step"] for line in lines if "val_roc_auc" in line]


def metrics(settings: Flat) -> set[str]:
    """Return the names of all that the curve has."""
    return {name for line in trained({"optimization.log_every_n_steps": 1, **settings}).curve() for name in line}


def logged(settings: Flat) -> list[int]:
    """Return the steps of which the curve has a loss."""
    return [line["step"] for line in trained(settings).curve() if "loss" in line]


def score_names(settings: Flat) -> list[str]:
    """Return the names of the validation's scores."""
    return sorted(name for name in metrics(settings) if name.startswith("val_"))


def losses(settings: Flat) -> list[float]:
    """Return the losses of three samples by their logits."""
    made = recipe(settings)
    task = make_task(_SCHEMA, made.data, loss_func=made.optimization.loss_func)
    logits = torch.tensor([[1.0, 0.0], [0.5, 2.0], [-1.0, 1.0]])
    return made.optimization.loss(task)(Outputs(logits), torch.tensor([0, 1, 0])).tolist()


def made_of(settings: Flat) -> Any:
    """Return the steps that the final weights are the mean of, and their digest."""
    run = trained({**_OFTEN, **settings})
    return run.finish().body["metrics"]["model_steps"], run.finish().body["model"]


def last_checks(settings: Flat) -> list[int]:
    """Return the steps of the validations of a training that ends in the middle of an epoch."""
    return checks({"optimization.max_steps": 5, "optimization.val_check_interval": 1.0, **settings})


_SCHEMA = Schema("y", "binary", ("a", "b"), (Column("y", "categorical", "string", {}),))
_FOCAL = {"optimization.loss_func": "focal_loss"}
_OFTEN = {"optimization.max_epochs": 3, "optimization.val_check_interval": 1}
_UNIFORM = {"optimization.top_k_average_method": "uniform_soup"}
_POLYNOMIAL = {"optimization.lr_schedule": "polynomial_decay"}
_STEPS = {"optimization.lr_schedule": "multi_step", "optimization.lr_milestones": [2]}
# Rates this high make every check after the first one a bad one.
_WILD = {"optimization.learning_rate": 50.0, "optimization.gradient_clip_val": 0.0}
EFFECTS: dict[str, Effect] = {
    "optimization.learning_rate": Effect(0.02, weights),
    "optimization.optim_type": Effect("adafactor", weights),
    "optimization.weight_decay": Effect(0.5, weights),
    "optimization.lr_choice": Effect("two_stages", groups),
    "optimization.lr_decay": Effect(0.5, groups),
    "optimization.lr_mult": Effect(10.0, groups, {"optimization.lr_choice": "two_stages"}),
    "optimization.lr_schedule": Effect("linear_decay", rates),
    "optimization.end_lr": Effect(0.001, rates, _POLYNOMIAL),
    "optimization.lr_power": Effect(2.0, rates, _POLYNOMIAL),
    "optimization.lr_milestones": Effect([3], rates, _STEPS),
    "optimization.lr_gamma": Effect(0.5, rates, _STEPS),
    "optimization.warmup_steps": Effect(3, rates),
    "optimization.max_epochs": Effect(2, rates),
    "optimization.max_steps": Effect(2, rates),
    "optimization.patience": Effect(1, checks, _WILD),
    "optimization.val_metric": Effect("accuracy", score_names),
    "optimization.val_check_interval": Effect(1, checks),
    "optimization.check_val_every_n_epoch": Effect(2, checks),
    "optimization.skip_final_val": Effect(True, last_checks),
    "optimization.gradient_clip_val": Effect(0.01, weights),
    "optimization.gradient_clip_algorithm": Effect("value", weights, {"optimization.gradient_clip_val": 0.01}),
    "optimization.track_grad_norm": Effect("inf", metrics),
    "optimization.log_every_n_steps": Effect(1, logged),
    "optimization.loss_func": Effect("focal_loss", losses),
    "optimization.focal_loss.alpha": Effect([1.0, 3.0], losses, _FOCAL),
    "optimization.focal_loss.gamma": Effect(0.5, losses, _FOCAL),
    "optimization.focal_loss.reduction": Effect("sum", weights, {**_FOCAL, "optimization.optim_type": "sgd"}),
    "optimization.label_smoothing": Effect(0.1, losses),
    "optimization.top_k": Effect(2, made_of, _UNIFORM),
    "optimization.top_k_average_method": Effect("best", made_of),
}
