"""Owns the final weights: those of the best checkpoint, or the mean of several (Wortsman et al., arXiv:2203.05482).

    candidates      the commits of the best checks, best first; one that can't be read is left out, with a line
    best            the first of them
    uniform_soup    the mean of all
    greedy_soup     from the first on, each joins where the mean with it scores no worse; one that doesn't is skipped

Rank 0 reads, and averages in float64; all ranks get the mean and score it together. Nothing of it is saved on the way:
a run that was killed while it cooked has the same candidates still, and they give the same soup.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from carryover.checkpoint.home import RunHome
from carryover.checkpoint.layout import Damaged
from carryover.checkpoint.snapshot import restore
from carryover.ground import dist
from carryover.ground.console import say, warn
from carryover.ground.errors import RunAgain
from carryover.models.layers import frozen_names
from carryover.train.engine import MODEL
from carryover.train.loop import Validator
from carryover.train.state import RunState
from carryover.train.stop import Stop

GREEDY, UNIFORM, BEST = "greedy_soup", "uniform_soup", "best"


@dataclass(frozen=True)
class Final:
    """Which weights a network ended with.

    Attributes:
        steps: of the checkpoints that they are the mean of, best first; the run's last step where there was no check.
        score: on the validation split; None where there is none.
    """

    steps: tuple[int, ...]
    score: float | None


class Mean:
    """A running mean of weights, on rank 0; what is no real number is that of the first."""

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}
        self._first: dict[str, Tensor] = {}
        self.count = 0

    def with_one(self, weights: Mapping[str, Tensor]) -> "Mean":
        """Return the mean with one more; this one stays as it is."""
        more = Mean()
        more.count, more._first = self.count + 1, self._first or dict(weights)
        for name, value in weights.items():
            if value.is_floating_point():
                wide = value.double()
                more._sums[name] = wide if self.count == 0 else self._sums[name] + wide
        return more

    def weights(self) -> dict[str, Tensor]:
        """Return the mean in the weights' own dtypes."""
        means = {name: (value / self.count).to(self._first[name].dtype) for name, value in self._sums.items()}
        return {**self._first, **means}


def choose_weights(
    home: RunHome,
    network: nn.Module,
    state: RunState,
    validator: Validator | None,
    *,
    method: str,
    count: int,
    stop: Stop,
) -> Final:
    """Put the final weights into the network, the same on every rank. Collective.

    Args:
        count: `optimization.top_k`.

    Raises:
        RunAgain: when a stop is asked for meanwhile; the same command begins the soup anew.
    """
    steps = [] if validator is None else state.candidates(1 if method == BEST else count)
    if validator is None or steps in ([], [state.step]):
        return Final((state.step,), state.best_score if steps else None)
    kitchen = _Kitchen(home, network, validator, stop)
    if method == BEST or len(steps) == 1:
        taken, score = kitchen.uniform(steps), state.best_score
    elif method == UNIFORM:
        taken = kitchen.uniform(steps)
        score = kitchen.score() if taken else None
    else:
        taken, score = kitchen.greedy(steps)
    if not taken:
        if dist.rank() == 0:
            warn(f"none of the best checkpoints can be used; the Model gets the weights of step {state.step}")
        return Final((state.step,), None)
    if dist.rank() == 0 and method != BEST:
        shown = "undefined" if score is None or score != score else f"{score:.4f}"
        say(f"{method} of step {', '.join(map(str, taken))}: {shown} (the best alone {state.best_score:.4f})")
    return Final(tuple(taken), score if score == score else None)


class _Kitchen:
    """What the methods share: reading on rank 0, giving to all, scoring together."""

    def __init__(self, home: RunHome, network: nn.Module, validator: Validator, stop: Stop) -> None:
        self._home = home
        self._network = network
        self._validator = validator
        self._stop = stop
        self._device = next(network.parameters()).device
        frozen = frozen_names(network)
        # What no checkpoint differs in need not be read.
        self._live = {name: value for name, value in network.state_dict().items() if name not in frozen}

    def uniform(self, steps: list[int]) -> list[int]:
        """Put the mean of all into the network; return the steps that could be read."""
        mean, taken = Mean(), []
        for step in steps:
            weights = self._read(step)
            if self._any(weights is not None):
                taken.append(step)
                mean = mean.with_one(weights) if weights else mean
        if taken:
            self._serve(mean)
        return taken

    def greedy(self, steps: list[int]) -> tuple[list[int], float]:
        """Put the greedy soup into the network; return its steps and its score."""
        mean, taken, best = Mean(), [], float("nan")
        for step in steps:
            weights = self._read(step)
            if not self._any(weights is not None):
                continue
            more = mean.with_one(weights) if weights else mean
            self._serve(more)
            score = self.score()
            if not taken or self._no_worse(score, best):
                mean, best = more, score
                taken.append(step)
        if taken:
            self._serve(mean)
        return taken, best

    def score(self) -> float:
        """Return the score of the weights in the network. Collective."""
        score = self._validator.score()
        if self._any(self._stop.wanted):
            # Together: a rank that has ended would look like a lost one.
            dist.barrier()
            raise RunAgain(
                "stopped on request while the best checkpoints were averaged; the same command goes on",
                trouble="preempted",
            )
        return score

    def _no_worse(self, score: float, best: float) -> bool:
        if best != best:
            return score == score
        return score >= best if self._validator.greater_is_better else score <= best

    def _read(self, step: int) -> dict[str, Tensor] | None:
        """Return a checkpoint's weights by the state_dict's names; None on other ranks, and where it is damaged."""
        if dist.rank():
            return None
        found = [record for record in self._home.commits() if record.step == step]
        try:
            if found:
                tensors = restore(self._home.read_tensors(found[-1], tuple(f"{MODEL}/{name}" for name in self._live)))
                return {name: tensors[f"{MODEL}/{name}"] for name in self._live}
            lost = "it is no longer kept"
        except Damaged as error:
            lost = str(error)
        warn(f"the weights of step {step}, among the best, can't be used and are left out: {lost}")
        return None

    def _serve(self, mean: Mean) -> None:
        """Put a mean into the network, on every rank."""
        weights = mean.weights() if dist.rank() == 0 else {}
        with torch.no_grad():
            for name, live in self._live.items():
                if weights:
                    live.copy_(weights[name])
                dist.from_first(live)

    def _any(self, wish: bool) -> bool:
        return bool(dist.sum_over_ranks(torch.tensor([float(wish)], device=self._device)) > 0)
