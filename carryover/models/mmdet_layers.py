"""Owns the torch module around a detector of mmdet: its losses in training, its boxes in evaluation.

    training     pixels, shape, truth --detector.loss--> one number a micro-batch, the same for each of its pictures
    evaluation   pixels, shape, scale --detector.predict--> [B, K, 6]  x1, y1, x2, y2, score, class index

A detector's loss is a mean over a micro-batch (over its positive boxes), so that a picture has no loss of its own.
mmdet would take that mean over all ranks; here each rank's micro-batch stands for itself, as without ranks.
"""

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from carryover.ground.console import warn
from carryover.ground.errors import WrongInput
from carryover.models import mmdet_config
from carryover.models.family import Output
from carryover.models.layers import unreached
from carryover.models.mmdet_config import SCOPE
from carryover.models.pixels import seeded

NO_SCORE = -1.0
_BOX = 6
_FAR = 1e6
# Parts that give what is asked for; all others prepare for them.
_HEADS = ("bbox_head", "roi_head", "rpn_head")


class Detector(nn.Module):
    """A detector of mmdet as a branch; reads "pixels", "size", "shape", "scale", and "truth" in training.

    Args:
        config: what the detector was built from, see mmdet_config.py.
        most: boxes of a picture that evaluation gives at most.
        frozen: parameters with one of these words in their name do not train.

    Attributes:
        backbones: paths of its parts but the heads, which are pretrained on any classes.
        heads: paths of its heads.
        dumped: paths of what its dump holds.
    """

    dumped = ("detector",)
    # Detectors are not joined with other branches.
    out_features = 0

    def __init__(self, detector: Any, config: Mapping[str, Any], *, most: int, frozen: Sequence[str] = ()) -> None:
        super().__init__()
        self.config = config
        self.detector = detector
        self.most = most
        parts = [name for name, part in detector.named_children() if next(part.parameters(), None) is not None]
        self.heads = tuple(f"detector.{name}" for name in parts if name in _HEADS)
        self.backbones = tuple(f"detector.{name}" for name in parts if name not in _HEADS)
        # Some freeze their first stages only when they are told to train.
        self.detector.train()
        self._freeze(frozen)

    def forward(self, features: Mapping[str, Tensor]) -> Output:
        device = features["pixels"].device
        if device.type == "cuda" and not _has_cuda_operators():
            raise WrongInput(
                "model.mmdet_image: mmcv is built for the CPU alone here, so no detector runs on a GPU; build it "
                "with CUDA (docs/detection.md), or set env.accelerator: cpu",
                trouble="missing-package",
            )
        # It notes its device by itself, and is not told when a module around it moves.
        self.detector._set_device(device)
        with alone():
            if self.training:
                losses = self._losses(features)
                return Output(losses.unsqueeze(1), None, losses)
            found = self._found(features)
        return Output(found.flatten(1), found)

    def of_classes(self) -> list[str]:
        """Return the names of the tensors that have a place for each class: where the classes are others, these are."""
        classes = (*mmdet_config.classes_of(self.config), "one more")
        more = build(mmdet_config.with_classes(self.config, classes), initialized=False).state_dict()
        own = self.detector.state_dict()
        return [f"detector.{name}" for name, value in own.items() if value.shape != more[name].shape]

    def _losses(self, features: Mapping[str, Tensor]) -> Tensor:
        """Return the loss of the micro-batch, once for each picture [B]."""
        samples = self._samples(features)
        for sample, truth in zip(samples, features["truth"], strict=True):
            _put_truth(sample, truth)
        # Some draw from numpy or Python, which nobody has seeded.
        with seeded(int(torch.randint(2**62, ()))):
            found = self.detector.loss(*self._prepared(features, samples))
            total, _ = self.detector.parse_losses(found)
        left = unreached(self, total)
        if left:
            # A batch without boxes reaches no box's head; each parameter needs a gradient at each step.
            total = total + sum(parameter.sum() for parameter in left) * 0
        return total.expand(len(features["pixels"]))

    def _found(self, features: Mapping[str, Tensor]) -> Tensor:
        """Return the boxes that it finds [B, K, 6], in pixels of the stored pictures."""
        samples = self._samples(features)
        inputs, samples = self._prepared(features, samples)
        found = [_as_boxes(sample.pred_instances, self.most) for sample in self.detector.predict(inputs, samples)]
        most = max(1, *(len(boxes) for boxes in found))
        boxes = inputs.new_full((len(found), most, _BOX), NO_SCORE, dtype=torch.float32)
        for place, own in enumerate(found):
            boxes[place, : len(own)] = own
        return boxes

    def _samples(self, features: Mapping[str, Tensor]) -> list[Any]:
        from mmdet.structures import DetDataSample

        samples = []
        sizes, shapes, scales = (features[name].tolist() for name in ("size", "shape", "scale"))
        for size, shape, scale in zip(sizes, shapes, scales, strict=True):
            known = {"ori_shape": tuple(size), "img_shape": tuple(shape), "scale_factor": tuple(scale), "img_id": 0}
            samples.append(DetDataSample(metainfo=known))
        return samples

    def _prepared(self, features: Mapping[str, Tensor], samples: list[Any]) -> tuple[Tensor, list[Any]]:
        """Return what the detector's own preprocessing makes of pictures: scaled, and filled up to one size."""
        shapes = features["shape"].tolist()
        pictures = [picture[:, :high, :wide] for picture, (high, wide) in zip(features["pixels"], shapes, strict=True)]
        made = self.detector.data_preprocessor({"inputs": pictures, "data_samples": samples}, self.training)
        dtype = next(self.detector.parameters()).dtype
        return made["inputs"].to(dtype), made["data_samples"]

    def _freeze(self, words: Sequence[str]) -> None:
        names = [name for name, _ in self.detector.named_parameters()]
        for word in words:
            if not any(word in name for name in names):
                parts = ", ".join(sorted({name.partition(".")[0] for name in names}))
                raise WrongInput(
                    f"model.mmdet_image.frozen_layers: no parameter has {word!r} in its name; they start with {parts}",
                    trouble="wrong-value",
                )
        for name, parameter in self.detector.named_parameters():
            if any(word in name for word in words):
                parameter.requires_grad_(False)


def build(config: Mapping[str, Any], *, initialized: bool = True) -> Any:
    """Return the detector that a config describes (mmdet_config.py), in training mode, with random weights.

    They take torch's global random numbers.

    Args:
        initialized: whether the weights are to start as mmdet says; else nothing but their shapes counts.

    Raises:
        WrongInput: when mmdet can't build it.
    """
    from mmdet.registry import MODELS
    from mmengine.config import ConfigDict
    from mmengine.model import revert_sync_batchnorm

    model = ConfigDict(config["model"])
    try:
        with _scope(), quiet():
            detector: Any = MODELS.build(model)
            if initialized:
                detector.init_weights()
    except (KeyError, TypeError, AssertionError, ValueError, ImportError) as error:
        line = " ".join(str(error).split())[:300]
        raise WrongInput(
            f"model.mmdet_image.checkpoint_name: mmdet can't build '{model.get('type')}': {line}"
        ) from error
    # Batch norms over all ranks would be collectives of their own.
    return revert_sync_batchnorm(detector)


def load(detector: Any, tensors: Mapping[str, Tensor], *, name: str) -> None:
    """Put the weights of a checkpoint into a detector; those that depend on the classes may be of other shapes.

    Raises:
        WrongInput: for weights of another detector.
    """
    own = detector.state_dict()
    fitting = {key: value for key, value in tensors.items() if key in own and value.shape == own[key].shape}
    lacking = [key for key in own if key not in fitting and not key.startswith(_HEADS)]
    lacking = [key for key in lacking if not key.endswith("num_batches_tracked")]
    if lacking or not fitting:
        example = f", e.g. {lacking[0]}" if lacking else ""
        raise WrongInput(
            f"model.mmdet_image.checkpoint_name: the weights of '{name}' lack {len(lacking)} tensors of the detector"
            f"{example}; they are of another one"
        )
    new = [key for key in own if key not in fitting and not key.endswith("num_batches_tracked")]
    if new:
        warn(f"{name}: {len(new)} tensors of its heads are for other classes and start anew, e.g. {new[0]}")
    detector.load_state_dict({**own, **fitting})


@contextmanager
def alone() -> Iterator[None]:
    """Let mmdet's losses see no other rank inside the block: a rank may have more micro-batches than another."""
    from mmdet.utils import dist_utils

    before = dist_utils.dist
    dist_utils.dist = SimpleNamespace(is_available=lambda: False, is_initialized=lambda: False)
    try:
        with _scope(), warnings.catch_warnings():
            # It spells some of torch's functions as they were.
            warnings.simplefilter("ignore")
            yield
    finally:
        dist_utils.dist = before


@cache
def _has_cuda_operators() -> bool:
    from mmcv.ops import get_compiling_cuda_version

    return get_compiling_cuda_version() != "not available"


@contextmanager
def quiet() -> Iterator[None]:
    """Keep from the log what mmengine tells of each tensor that it fills, and of each file that it reads."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


@contextmanager
def _scope() -> Iterator[None]:
    """Let names of parts mean mmdet's inside the block."""
    import mmdet.models  # noqa: F401 - it fills the registry
    from mmengine.registry import DefaultScope

    with DefaultScope.overwrite_default_scope(SCOPE):
        yield


def _put_truth(sample: Any, truth: Tensor) -> None:
    """Give a sample its true boxes [M, 6]; crowds are neither right nor wrong to find."""
    from mmengine.structures import InstanceData

    for name, crowd in (("gt_instances", False), ("ignored_instances", True)):
        kept = truth[(truth[:, 4] >= 0) & ((truth[:, 5] > 0) == crowd)]
        setattr(sample, name, InstanceData(bboxes=kept[:, :4].contiguous(), labels=kept[:, 4].long()))


def _as_boxes(found: Any, most: int) -> Tensor:
    """Return what mmdet found in a picture as [K, 6], the highest scores first."""
    order = torch.argsort(found.scores, descending=True, stable=True)[:most]
    # Sides are powers, which overflow at the start of some trainings; not-a-number stays, so that it is seen.
    parts = (found.bboxes[order].clamp(-_FAR, _FAR), found.scores[order, None], found.labels[order, None])
    return torch.cat([part.float() for part in parts], dim=1)
