"""Owns what several Models said of the same rows of one Dataset, put onto one list of classes so that scores compare.

Model         no   yes            0.2  0.8               0.2  0.8  0.0
an older one  no   yes            0.6  0.4        -->    0.6  0.4  0.0       "maybe" is wrong for it in any case
a grown one   no   yes  maybe     0.1  0.2  0.7          0.1  0.2  0.7

A found box names its class by index, which is mapped; an older detector finds no box of a class that it lacks.
Confusion matrices of pixels have the truth in them, so they compare only where the classes are the same.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from carryover.data.schema import Scalar
from carryover.models.columns import as_text
from carryover.tasks.metrics import DETECTION, SEGMENTATION, Scored

_BOX_CLASS = 5


@dataclass(frozen=True)
class Frame:
    """What answers are put onto.

    Attributes:
        classes: as text, those of the Model first and in its order; () for a regression.
        positive: index of the positive class, as the Model has it.
        problem_type: of the Model; "" where probabilities or numbers are meant.
    """

    classes: tuple[str, ...] = ()
    positive: int = 1
    problem_type: str = ""

    @classmethod
    def of(
        cls,
        classes: Sequence[Scalar] | None,
        others: Iterable[Sequence[Scalar] | None],
        *,
        positive: int | None = None,
        problem_type: str = "",
    ) -> "Frame":
        """Return the classes of the Model, then those that only the others know; `positive` is the Model's."""
        every = [as_text(one) for known in [classes, *others] for one in known or ()]
        return cls(tuple(dict.fromkeys(every)), 1 if positive is None else positive, problem_type)

    def place(self, predictions: np.ndarray, classes: Sequence[Scalar] | None) -> np.ndarray:
        """Return what a Model said, of its own classes, as of the frame's; numbers as they are.

        A class that the Model does not know has probability 0, and no box.
        """
        own = tuple(as_text(one) for one in classes or ())
        if own == self.classes:
            return predictions
        places = [self.classes.index(one) for one in own]
        return PLACED.get(self.problem_type, _probabilities)(predictions, places, len(self.classes))

    def scored(self, truth: np.ndarray, predictions: np.ndarray) -> Scored:
        """Return what a metric takes; `predictions` are placed."""
        return Scored(truth, predictions, len(self.classes), self.positive)


@dataclass(frozen=True)
class Said:
    """What one Model said of a Dataset.

    Attributes:
        rows: which rows they are, int64[N].
        predictions: as `Task.predictions` gives them, of its own classes.
        classes: its own, None for a regression.
        truth: as `Task.truth` gives it, of its own classes; None where labels were not read.
        positive: index of its positive class.
        problem_type: its own.
    """

    rows: np.ndarray
    predictions: np.ndarray
    classes: tuple[Scalar, ...] | None
    truth: np.ndarray | None = None
    positive: int | None = None
    problem_type: str = ""


@dataclass(frozen=True)
class Answers:
    """What Models said of the same rows of one Dataset.

    Attributes:
        name, digest: of the Dataset.
        truth: as `Scored.targets`, of the frame's classes.
        said: by digest of the Model: placed predictions, as `Scored.predictions`.
    """

    name: str
    digest: str
    frame: Frame
    truth: np.ndarray
    said: Mapping[str, np.ndarray]
    # What is computed from an answer once, COCO's matching of boxes, serves all its scores.
    _scored: dict[str, Scored] = field(default_factory=dict, init=False, repr=False, compare=False)

    @classmethod
    def of_models(
        cls, name: str, digest: str, model: Said, others: Mapping[str, Said], *, model_digest: str
    ) -> "Answers":
        """Return the answers of a Model, which has read the labels, and of others to the same rows.

        A row that one of them could not use was replaced by its neighbour there, so it is left out for all.
        """
        assert model.truth is not None
        frame = Frame.of(
            model.classes,
            [one.classes for one in others.values()],
            positive=model.positive,
            problem_type=model.problem_type,
        )
        every = {model_digest: model, **others}
        kept = np.logical_and.reduce([one.rows == model.rows for one in every.values()])
        said = {key: frame.place(one.predictions[kept], one.classes) for key, one in every.items()}
        return cls(name, digest, frame, model.truth[kept], said)

    def scored(self, model: str) -> Scored:
        """Return one Model's answers as a metric takes them."""
        if model not in self._scored:
            self._scored[model] = self.frame.scored(self.truth, self.said[model])
        return self._scored[model]


def _probabilities(predictions: np.ndarray, places: Sequence[int], classes: int) -> np.ndarray:
    wide = np.zeros((len(predictions), classes))
    wide[:, list(places)] = predictions
    return wide


def _boxes(predictions: np.ndarray, places: Sequence[int], classes: int) -> np.ndarray:
    """Return boxes [N, K, 6] with each one's class where it stands in the frame; what fills up stays -1."""
    placed = predictions.copy()
    own = placed[..., _BOX_CLASS].astype(np.int64)
    placed[..., _BOX_CLASS] = np.where(own >= 0, np.asarray(places)[own], -1)
    return placed


def _pixels(predictions: np.ndarray, places: Sequence[int], classes: int) -> np.ndarray:
    raise AssertionError("confusion matrices of other classes can't be compared; check_earlier refuses them")


PLACED: dict[str, Callable[[np.ndarray, Sequence[int], int], np.ndarray]] = {
    DETECTION: _boxes,
    SEGMENTATION: _pixels,
}
