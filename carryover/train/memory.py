"""Owns what a run with remedies remembers of the Model that it extends, and gives each remedy its part of it.

Model in the run's store --+-- teacher     what lessons.py is told (lwf)
                           +-- pull        force in each step (l2_sp, ewc)
                           +-- blended     final weights (wise_ft)
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import nn

from carryover.models.export import Found, LoadedModel, load_model
from carryover.tasks.task import restore_task
from carryover.train.distiller import DistillerConfig, word_of
from carryover.train.loop import Validator
from carryover.train.outcome import open_parent
from carryover.train.parent import parent_from_json
from carryover.train.pull import Pull, before_training, pull_of
from carryover.train.remedy import RemedyConfig
from carryover.train.spec import Spec
from carryover.train.wise import Blend, blend

if TYPE_CHECKING:
    from torch import device as Device


@dataclass(frozen=True)
class Memory:
    """The Model that a run extends, as long as the recipe has a remedy."""

    config: RemedyConfig
    found: Found

    def teacher(self, distiller: DistillerConfig) -> DistillerConfig:
        """Return who teaches beside the labels: the Model where lwf is on, else whom the recipe names."""
        if not self.config.lwf:
            return distiller
        return DistillerConfig(
            teacher=word_of(self.found),
            hard_label_weight=1.0,
            soft_label_weight=self.config.lwf,
            temperature=self.config.lwf_temperature,
        )

    def pull(self, network: nn.Module, spec: Spec, *, seed: int) -> Pull | None:
        """Return the force on the network's weights; None where none is asked for."""
        if not (self.config.l2_sp or self.config.ewc):
            return None
        return pull_of(self.config, network, self._model(next(network.parameters()).device), spec.old_rows, seed=seed)

    def blended(
        self, network: nn.Module, new_rows: Validator | None, old_rows: Callable[[], Validator] | None
    ) -> Blend | None:
        """Put blended weights into a network that has its final ones; None where wise_ft is off. Collective."""
        if self.config.wise_ft == 1:
            return None
        old = before_training(self._model(next(network.parameters()).device).network, network)
        return blend(
            network,
            old.state_dict(),
            self.config.wise_ft,
            new_rows=new_rows,
            old_rows=old_rows() if old_rows else None,
        )

    def _model(self, device: "Device") -> LoadedModel:
        return load_model(self.found, num_outputs=restore_task(self.found.files()).num_outputs, device=device)


def memory_of(config: RemedyConfig, spec: Spec) -> Memory | None:
    """Return what a run remembers; None where no remedy is asked for.

    Raises:
        WrongInput: when the Model is no longer in the store.
    """
    parent = parent_from_json(spec.parent)
    return Memory(config, open_parent(parent, spec.home)) if config.asked and parent else None
