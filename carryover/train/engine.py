"""Owns one optimizer step: forward and backward over a rank's micro-batches, scaling, clipping, the update.

The gradient of a step is the gradient of the mean loss over the whole global batch, however it is cut: each sample's
loss counts 1 / (samples of the global batch), and DistributedDataParallel's averaging over ranks is undone. Where the
recipe asks for a sum, each counts 1.
"""

import contextlib
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from carryover.data.loader import Batch
from carryover.data.order import mix
from carryover.ground import dist
from carryover.models.layers import frozen_names
from carryover.train.optim import build_optimizer, load_state_tensors, set_rate, state_tensors
from carryover.train.sections import Optimization

MODEL = "model"
# From three ranks on, the order in which DistributedDataParallel sums depends on its buckets.
_RANKS_THAT_NEED_PRIMING = 3


class Given(NamedTuple):
    """What a micro-batch is to a network in training: the features it reads, and what its loss compares with."""

    features: Mapping[str, Tensor]
    targets: Any


Prepare = Callable[[Batch, int], Given]


def as_it_is(batch: Batch, step: int) -> Given:
    """Return a batch's own features and targets."""
    return Given(batch.features, batch.targets)


class StepResult(NamedTuple):
    """What one step gives: the sum of this rank's sample losses (a scalar), and the gradient's norms.

    Attributes:
        norm: before clipping by it, None where that is off.
        tracked: what `optimization.track_grad_norm` asks for, by name; empty where that is off.
    """

    loss: Tensor
    norm: float | None
    tracked: Mapping[str, float]


class Engine:
    """A network with its optimizer on one rank.

    Args:
        network: bare network, on its device, with the weights to start from.
        loss: (outputs, targets) -> per-sample losses [b]; targets are what `prepare` gives.
        precision: "32", "bf16-mixed", "16-mixed" or "64".
        prepare: (batch on the device, step) -> what the network is given; a pure function of these.
        pull: adds to the gradients of the parameters, after those of the losses; the same on every rank.

    Attributes:
        before_update: called right before each update, None for nothing; until it returns, no parameter and no state of
            the optimizer is written: a copy that is taken beside a step is whole by then.
    """

    def __init__(
        self,
        network: nn.Module,
        loss: Callable[[Any, Any], Tensor],
        config: Optimization,
        *,
        precision: str,
        device: torch.device,
        seed: int,
        prepare: Prepare = as_it_is,
        pull: Callable[[], None] | None = None,
    ) -> None:
        # Weights come in the precision of their checkpoint, which a run may change.
        self.network = network.double() if precision == "64" else network.float()
        self.device = device
        self.dtype = torch.float64 if precision == "64" else None
        self._loss = loss
        self._prepare = prepare
        self._pull = pull
        self._config = config
        self._seed = seed
        self._mixed = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}.get(precision)
        self._wrapped = dist.wrap(self.network, device)
        self._optimizer = build_optimizer(self.network, config)
        scaled = precision == "16-mixed"
        self._scaler = torch.amp.GradScaler(device.type, enabled=scaled)  # pyright: ignore[reportPrivateImportUsage]
        self._primed = dist.world() < _RANKS_THAT_NEED_PRIMING
        self.before_update: Callable[[], None] | None = None

    def step(self, batches: Iterable[Batch], *, step: int, rate: float) -> StepResult:
        """Do optimizer step `step` (from 0) with learning rate `rate`. Collective."""
        self.network.train()
        set_rate(self._optimizer, rate)
        self._optimizer.zero_grad(set_to_none=True)
        seen = torch.zeros((), dtype=torch.float64, device=self.device)
        for batch in batches:
            self._prime(batch)
            losses = self._backward(batch, step)
            if batch.micro.counts:
                seen += losses.detach().sum().double()
        self._scaler.unscale_(self._optimizer)
        if self._pull:
            self._pull()
        tracked = self._tracked()
        norm = self._clip()
        if self.before_update:
            self.before_update()
        self._scaler.step(self._optimizer)
        self._scaler.update()
        return StepResult(seen, norm, tracked)

    def autocast(self) -> contextlib.AbstractContextManager[Any]:
        """Return the context in which the network computes, here and in validation."""
        if self._mixed is None:
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, dtype=self._mixed)

    def scaler_state(self) -> dict[str, Any]:
        """Return the loss scaler's state as plain values; empty where there is none."""
        return self._scaler.state_dict()

    def tensors(self) -> dict[str, Tensor]:
        """Return what a checkpoint holds: "model/<name>" and "optim/<parameter>/<what>" (the live tensors)."""
        return {**self.weights(), **state_tensors(self._optimizer, self.network)}

    def frozen(self) -> dict[str, Tensor]:
        """Return those of `tensors` that no step changes."""
        names = frozen_names(self.network)
        return {f"{MODEL}/{name}": value for name, value in self.network.state_dict().items() if name in names}

    def weights(self) -> dict[str, Tensor]:
        """Return "model/<name>" -> live tensor."""
        return {f"{MODEL}/{name}": value for name, value in self.network.state_dict().items()}

    def load_optimizer(self, tensors: Mapping[str, Tensor], scaler: dict[str, Any]) -> None:
        """Put back optimizer and scaler state; weights are loaded before the engine is made."""
        load_state_tensors(self._optimizer, self.network, tensors)
        if scaler and self._scaler.is_enabled():
            self._scaler.load_state_dict(scaler)

    def _backward(self, batch: Batch, step: int) -> Tensor:
        micro = batch.micro
        with self.autocast():
            given = self._prepare(batch.to(self.device, self.dtype), step)
        with dist.reduces(self._wrapped, micro.ends_step):
            # Dropout is a function of the micro-batch's place in the global batch, not of the rank or of the past.
            torch.manual_seed(int(mix(self._seed, step, micro.place) >> 1))
            with self.autocast():
                outputs = self._wrapped(given.features)
                losses = self._loss(outputs, given.targets)
            part = 1.0 if self._config.sums_loss else 1.0 / micro.size
            weight = dist.world() * part if micro.counts else 0.0
            self._scaler.scale(losses.sum() * weight).backward()
        return losses

    def _tracked(self) -> dict[str, float]:
        order = self._config.track_grad_norm
        if order == -1:
            return {}
        gradients = [parameter.grad for parameter in self.network.parameters() if parameter.grad is not None]
        return {f"gradient_norm_{order}": float(nn.utils.get_total_norm(gradients, float(order)))}

    def _clip(self) -> float | None:
        limit = self._config.gradient_clip_val
        if not limit:
            return None
        parameters = [parameter for parameter in self.network.parameters() if parameter.grad is not None]
        if self._config.gradient_clip_algorithm == "value":
            nn.utils.clip_grad_value_(parameters, limit)
            return None
        return float(nn.utils.clip_grad_norm_(parameters, limit))

    def _prime(self, batch: Batch) -> None:
        """Make DistributedDataParallel re-form its gradient buckets before the first real step of an attempt.

        It does so after its first backward pass, which changes the summing order; a resumed run would sum its first
        step in another order than the uninterrupted one did. One pass that counts for nothing settles it.
        """
        if self._primed:
            return
        self._primed = True
        buffers = {name: value.clone() for name, value in self.network.named_buffers()}
        whole = batch._replace(micro=batch.micro._replace(counts=False, ends_step=True))
        self._backward(whole, 0)
        self._optimizer.zero_grad(set_to_none=True)
        with torch.no_grad():
            for name, value in self.network.named_buffers():
                value.copy_(buffers[name])
