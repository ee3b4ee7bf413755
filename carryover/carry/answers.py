"""Owns what several Models said of the same rows of one Dataset, put onto one list of classes so that scores compare.

Model         no   yes            0.2  0.8               0.2  0.8  0.0
an older one  no   yes            0.6  0.4        -->    0.6  0.4  0.0       "maybe" is wrong for it in any case
a grown one   no   yes  maybe     0.1  0.2  0.7          0.1  0.2  0.7
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from carryover.data.schema import Scalar
from carryover.models.columns import as_text
from carryover.tasks.metrics import Scored


@dataclass(frozen=True)
class Frame:
    """What answers are put onto.

    Attributes:
        classes: as text, those of the Model first and in its order; () for a regression.
        positive: index of the positive class, as the Model has it.
    """

    classes: tuple[str, ...] = ()
    positive: int = 1

    @classmethod
    def of(
        cls, classes: Sequence[Scalar] | None, others: Iterable[Sequence[Scalar] | None], *, positive: int | None = None
    ) -> "Frame":
        """Return the classes of the Model, then those that only the others know; `positive` is the Model's."""
        every = [as_text(one) for known in [classes, *others] for one in known or ()]
        return cls(tuple(dict.fromkeys(every)), 1 if positive is None else positive)

    def place(self, predictions: np.ndarray, classes: Sequence[Scalar] | None) -> np.ndarray:
        """Return probabilities float64[N, C] of the frame's classes from those of a Model's own; numbers as they are.

        A class that the Model does not know has probability 0.
        """
        own = tuple(as_text(one) for one in classes or ())
        if own == self.classes:
            return predictions
        wide = np.zeros((len(predictions), len(self.classes)))
        wide[:, [self.classes.index(one) for one in own]] = predictions
        return wide

    def scored(self, truth: np.ndarray, predictions: np.ndarray) -> Scored:
        """Return what a metric takes; `predictions` are placed."""
        return Scored(truth, predictions, len(self.classes), self.positive)


@dataclass(frozen=True)
class Said:
    """What one Model said of a Dataset.

    Attributes:
        rows: which rows they are, int64[N].
        predictions: of its own classes float64[N, C], or numbers float64[N].
        classes: its own, None for a regression.
        truth: class indices of its own int64[N], or numbers float64[N]; None where labels were not read.
        positive: index of its positive class.
    """

    rows: np.ndarray
    predictions: np.ndarray
    classes: tuple[Scalar, ...] | None
    truth: np.ndarray | None = None
    positive: int | None = None


@dataclass(frozen=True)
class Answers:
    """What Models said of the same rows of one Dataset.

    Attributes:
        name, digest: of the Dataset.
        truth: class indices of the frame int64[N], or numbers float64[N].
        said: by digest of the Model: placed predictions, float64[N, C] or float64[N].
    """

    name: str
    digest: str
    frame: Frame
    truth: np.ndarray
    said: Mapping[str, np.ndarray]

    @classmethod
    def of_models(
        cls, name: str, digest: str, model: Said, others: Mapping[str, Said], *, model_digest: str
    ) -> "Answers":
        """Return the answers of a Model, which has read the labels, and of others to the same rows.

        A row that one of them could not use was replaced by its neighbour there, so it is left out for all.
        """
        assert model.truth is not None
        frame = Frame.of(model.classes, [one.classes for one in others.values()], positive=model.positive)
        every = {model_digest: model, **others}
        kept = np.logical_and.reduce([one.rows == model.rows for one in every.values()])
        said = {key: frame.place(one.predictions[kept], one.classes) for key, one in every.items()}
        return cls(name, digest, frame, model.truth[kept], said)

    def scored(self, model: str) -> Scored:
        """Return one Model's answers as a metric takes them."""
        return self.frame.scored(self.truth, self.said[model])
