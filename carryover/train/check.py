"""Owns the validation of a training: score and loss of the network on the validation split, all ranks together."""

from carryover.data import loader
from carryover.data.loader import MicroBatches
from carryover.data.rows import Rows
from carryover.ground import dist
from carryover.tasks.losses import Loss, check_loss
from carryover.tasks.metrics import Metric
from carryover.train.engine import Engine
from carryover.train.environment import Env
from carryover.train.parts import Parts
from carryover.train.recipe import Recipe
from carryover.train.validate import gathered, predict, scores


def validator_of(split: Rows, parts: Parts, engine: Engine, recipe: Recipe, metric: Metric) -> "SplitValidator":
    """Return what checks a training on its validation rows."""
    # Labels are whole here, whatever mixes them in training, and no teacher is asked.
    loss = check_loss(parts.task, recipe.optimization.loss(parts.task))
    return SplitValidator(split, parts, engine, recipe.env, metric, loss)


class SplitValidator:
    """Scores the network on the validation split, all ranks together.

    Attributes:
        loss: mean over the split's rows in the newest pass, the same on every rank; None where none is measured.
    """

    def __init__(
        self, split: Rows, parts: Parts, engine: Engine, env: Env, metric: Metric, loss: Loss | None = None
    ) -> None:
        self.loss: float | None = None
        self._loss = loss
        self.greater_is_better = metric.greater_is_better
        # A run that only tries all out looks at as many batches as it takes steps.
        self._rows = min(len(split), env.dev_steps * env.batch_size or len(split))
        self._parts = parts
        self._engine = engine
        self._metric = metric
        self._micro_size = max(1, round(env.per_gpu_batch_size * env.eval_batch_size_ratio))
        self._workers = env.num_workers_evaluation
        self._batches = MicroBatches(
            split,
            parts.preprocessing,
            parts.task.targets,
            training=False,
            by_length=parts.preprocessing.padded if env.group_by_length else (),
        )

    def score(self) -> float:
        """Return the metric on the whole split, the same on every rank. Collective."""
        dist.share_buffers(self._engine.network)
        micros = loader.evaluation_micros(
            rows=self._rows, micro_size=self._micro_size, rank=dist.rank(), world=dist.world()
        )
        mine = predict(
            self._engine.network,
            loader.load(micros, self._batches, workers=self._workers, pinned=self._engine.device.type == "cuda"),
            self._parts.task,
            device=self._engine.device,
            dtype=self._engine.dtype,
            autocast=self._engine.autocast,
            loss=self._loss,
        )
        whole = gathered(mine, self._engine.device)
        self.loss = whole.mean_loss
        return scores(self._parts.task, [self._metric], whole)[self._metric.name]
