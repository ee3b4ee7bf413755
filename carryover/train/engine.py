"""Owns one optimizer step: forward and backward over a rank's micro-batches, scaling, clipping, the update.

The gradient of a step is the gradient of the mean loss over the whole global batch, however it is cut: each sample's
loss counts 1 / (samples of the global batch), and DistributedDataParallel's averaging over ranks is undone. Where the
recipe asks for a sum, each counts 1.

A step waits for nothing that only people want to know: a loss and a norm stay on the device until somebody reads them.
What a bare loop would not do is done once, when the engine is made, or not at all (benchmarks/step.py counts it).
"""

import contextlib
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from carryover.data.loader import Batch
from carryover.data.order import key
from carryover.ground import dist
from carryover.models.layers import frozen_names
from carryover.train.optim import build_optimizer, load_state_tensors, set_rate, state_tensors, update_of
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
    """What one step gives, still on the device: this rank's losses, and the gradient's norms.

    Attributes:
        sums: of the sample losses of each micro-batch that counts, scalars.
        norm: before clipping by it, a scalar; None where that is off.
        tracked: what `optimization.track_grad_norm` asks for, by name, scalars; empty where that is off.
    """

    sums: tuple[Tensor, ...]
    norm: Tensor | None
    tracked: Mapping[str, Tensor]

    @property
    def loss(self) -> Tensor:
        """The sum of this rank's sample losses, a float64 scalar."""
        return sum((one.double() for one in self.sums), torch.zeros((), dtype=torch.float64))


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
        self._pull = pull
        self._config = config
        self._sums_loss = config.sums_loss
        self._seed = seed
        self._mixed = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}.get(precision)
        self._world = dist.world()
        self._wrapped = dist.wrap(self.network, device)
        self._optimizer = build_optimizer(self.network, config)
        self._update = update_of(self._optimizer)
        # The optimizer has these very objects: a parameter that came later would not be trained.
        self._parameters = dict(self.network.named_parameters())
        self._trained = [parameter for parameter in self._parameters.values() if parameter.requires_grad]
        self._prepare, self._losses = self._cast(prepare), self._cast(self._forward)
        # What a loader gives is on the CPU, in the precision of 32 bits.
        self._moves = self.dtype is not None or device.type != "cpu"
        self._reseed = _seeder(device)
        self._shares: dict[tuple[float, torch.dtype], Tensor] = {}
        self._scaled = precision == "16-mixed"
        self._scaler = torch.amp.GradScaler(  # pyright: ignore[reportPrivateImportUsage]
            device.type, enabled=self._scaled
        )
        self._primed = self._world < _RANKS_THAT_NEED_PRIMING
        # A network that was just opened may be in evaluation mode in its parts only.
        self.network.train()
        self.before_update: Callable[[], None] | None = None

    def step(self, batches: Iterable[Batch], *, step: int, rate: float) -> StepResult:
        """Do optimizer step `step` (from 0) with learning rate `rate`. Collective."""
        if not self.network.training:
            self.network.train()
        set_rate(self._optimizer, rate)
        self._forget()
        sums: list[Tensor] = []
        for batch in batches:
            if not self._primed:
                self._prime(batch)
            losses = self._backward(batch, step)
            if batch.micro.counts:
                sums.append(losses.detach().sum())
        if self._scaled:
            self._scaler.unscale_(self._optimizer)
        if self._pull:
            self._pull()
        tracked = self._tracked()
        norm = self._clip()
        if self.before_update:
            self.before_update()
        if self._scaled:
            self._scaler.step(self._optimizer)
            self._scaler.update()
        else:
            self._update()
        return StepResult(tuple(sums), norm, tracked)

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
        return {**self.weights(), **state_tensors(self._optimizer, self._parameters)}

    def frozen(self) -> dict[str, Tensor]:
        """Return those of `tensors` that no step changes."""
        names = frozen_names(self.network)
        return {f"{MODEL}/{name}": value for name, value in self.network.state_dict().items() if name in names}

    def weights(self) -> dict[str, Tensor]:
        """Return "model/<name>" -> live tensor."""
        return {f"{MODEL}/{name}": value for name, value in self.network.state_dict().items()}

    def load_optimizer(self, tensors: Mapping[str, Tensor], scaler: dict[str, Any]) -> None:
        """Put back optimizer and scaler state; weights are loaded before the engine is made."""
        load_state_tensors(self._optimizer, self._parameters, tensors)
        if scaler and self._scaler.is_enabled():
            self._scaler.load_state_dict(scaler)

    def _backward(self, batch: Batch, step: int) -> Tensor:
        """Add a micro-batch's part to the gradients; return its losses [b]."""
        micro = batch.micro
        given = self._prepare(batch.to(self.device, self.dtype) if self._moves else batch, step)
        # Dropout is a function of the micro-batch's place in the global batch, not of the rank or of the past.
        seed = key(self._seed, step, micro.place) >> 1
        part = 1.0 if self._sums_loss else 1.0 / micro.size
        weight = self._world * part if micro.counts else 0.0
        if micro.ends_step or self._world == 1:
            return self._pass(given, seed, weight)
        with dist.apart(self._wrapped):
            return self._pass(given, seed, weight)

    def _pass(self, given: Given, seed: int, weight: float) -> Tensor:
        self._reseed(seed)
        losses = self._losses(given)
        losses.backward(self._share(losses, weight))
        return losses

    def _forward(self, given: Given) -> Tensor:
        return self._loss(self._wrapped(given.features), given.targets)

    def _cast(self, compute: Callable[..., Any]) -> Callable[..., Any]:
        """Return a function that computes in the precision that is asked for."""
        return compute if self._mixed is None else torch.autocast(self.device.type, dtype=self._mixed)(compute)

    def _share(self, losses: Tensor, weight: float) -> Tensor:
        """Return the gradient of `losses.sum() * weight`, scaled, by the losses: the same number for each of them."""
        share = self._shares.get((weight, losses.dtype))
        if share is None:
            share = torch.tensor(weight, dtype=losses.dtype, device=losses.device)
            self._shares[weight, losses.dtype] = share
        return (self._scaler.scale(share) if self._scaled else share).expand_as(losses)

    def _forget(self) -> None:
        for parameter in self._trained:
            parameter.grad = None

    def _tracked(self) -> dict[str, Tensor]:
        order = self._config.track_grad_norm
        if order == -1:
            return {}
        gradients = [parameter.grad for parameter in self._trained if parameter.grad is not None]
        return {f"gradient_norm_{order}": nn.utils.get_total_norm(gradients, float(order))}

    def _clip(self) -> Tensor | None:
        limit = self._config.gradient_clip_val
        if not limit:
            return None
        if self._config.gradient_clip_algorithm == "value":
            nn.utils.clip_grad_value_(self._trained, limit)
            return None
        return nn.utils.clip_grad_norm_(self._trained, limit)

    def _prime(self, batch: Batch) -> None:
        """Make DistributedDataParallel re-form its gradient buckets before the first real step of an attempt.

        It does so after its first backward pass, which changes the summing order; a resumed run would sum its first
        step in another order than the uninterrupted one did. One pass that counts for nothing settles it.
        """
        self._primed = True
        buffers = {name: value.clone() for name, value in self.network.named_buffers()}
        whole = batch._replace(micro=batch.micro._replace(counts=False, ends_step=True))
        self._backward(whole, 0)
        self._forget()
        with torch.no_grad():
            for name, value in self.network.named_buffers():
                value.copy_(buffers[name])


def _seeder(device: torch.device) -> Callable[[int], object]:
    """Return what sets the generators that a network on this device draws from, as `torch.manual_seed` would.

    That one sets those of all accelerators, and costs more than a small network's forward pass.
    """
    if device.type == "cpu":
        return torch.default_generator.manual_seed
    if device.type != "cuda":
        return torch.manual_seed
    torch.cuda.init()
    index = torch.cuda.current_device() if device.index is None else device.index
    ours = torch.cuda.default_generators[index]

    def both(seed: int) -> None:
        # Some layers draw a number on the CPU, wherever they are.
        torch.default_generator.manual_seed(seed)
        ours.manual_seed(seed)

    return both
