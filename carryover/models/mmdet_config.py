"""Owns config.py, in which mmdet says what a detector is: read as plain values, fitted to the data's classes, written.

    default_scope = 'mmdet'
    model = {'type': 'YOLOX', 'backbone': {...}, 'bbox_head': {'num_classes': 3, ...}, ...}
    test_dataloader = {'dataset': {'type': 'CocoDataset', 'metainfo': {'classes': (...)}, 'pipeline': [...]}, ...}

mmdet runs such a file as code. Here it is only parsed: values and calls of `dict` are read, anything else is refused.
Needs neither torch nor mmdet.
"""

import ast
import copy
import pprint
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from carryover.ground.errors import WrongInput

SCOPE = "mmdet"
# What is kept of a config; all else is about a training of its own.
_KEPT = ("model", "test_dataloader")
_TESTED = {"LoadAnnotations", "LoadImageFromFile", "PackDetInputs", "Pad", "Resize"}
# Parts of a detector -> why one with them can't be trained here.
_REFUSED = {
    "mask_head": "it learns masks too, and the data have boxes; take the detector of the same name without masks "
    "(faster-rcnn, cascade-rcnn, rtmdet without -ins)",
    "semantic_head": "it learns masks too, and the data have boxes",
    "panoptic_head": "it learns masks and no boxes",
    "language_model": "it reads a text beside the picture, which is not there",
}
_REFUSED_TYPES = {
    "DynamicRoIHead": "it keeps what it saw beside its weights, so that no run could be resumed exactly",
    "EQLV2Loss": "its loss talks to the other ranks by itself",
    "SSDHead": "mmdet 3.3 can train it and can't predict with it",
    "TOODHead": "it assigns boxes by the epoch that mmdet's own training tells it, which is not there",
    "DIIHead": "its loss divides by the boxes of a micro-batch, and a picture may have none",
    "RPN": "it proposes boxes without classes",
}
_PRETRAINED = "Pretrained"
# What keeps stages as they are -> what lets them train.
_LOOSE = {"frozen_stages": -1, "norm_eval": False, "requires_grad": True}
_META = ("img_id", "img_path", "ori_shape", "img_shape", "scale_factor")


@dataclass(frozen=True)
class Canvas:
    """How a picture becomes what a detector reads, as the config's test pipeline says it.

    Attributes:
        scale: width and height that the picture is fitted into (its long side into the longer one where `keep_ratio`).
        keep_ratio: whether it keeps its shape; else it is stretched to `scale`.
        pad: "" for none, "square", or "size" for `pad_size`; more is added to the right and below.
        pad_size: width and height.
        pad_divisor: of padded sides; 0 for any.
        pad_value: blue, green and red of what is added.
    """

    scale: tuple[int, int]
    keep_ratio: bool = True
    pad: str = ""
    pad_size: tuple[int, int] = (0, 0)
    pad_divisor: int = 0
    pad_value: tuple[float, float, float] = (0.0, 0.0, 0.0)

    def steps(self) -> list[dict[str, Any]]:
        """Return the steps of a test pipeline that do it."""
        steps: list[dict[str, Any]] = [{"type": "Resize", "scale": self.scale, "keep_ratio": self.keep_ratio}]
        how: dict[str, Any] = {"square": {"pad_to_square": True}, "size": {"size": self.pad_size}}.get(self.pad, {})
        if self.pad_divisor:
            how = {**how, "size_divisor": self.pad_divisor}
        return [*steps, {"type": "Pad", **how, "pad_val": {"img": self.pad_value}}] if how else steps


def parsed(text: str, *, where: str) -> dict[str, Any]:
    """Return the values of a config file by name.

    Raises:
        WrongInput: for a file that is more than values: bases of it, imports, names of other values.
    """
    try:
        body = ast.parse(text).body
        found: dict[str, Any] = {}
        for line in body:
            if isinstance(line, ast.Expr) and isinstance(line.value, ast.Constant):
                continue
            if not isinstance(line, ast.Assign) or len(line.targets) != 1 or not isinstance(line.targets[0], ast.Name):
                raise ValueError(f"line {line.lineno}")
            found[line.targets[0].id] = _value(line.value)
    except (SyntaxError, ValueError, RecursionError) as error:
        raise WrongInput(
            f"{where}: is more than plain values ({error}), and nothing of it was run; give the config as mmengine's "
            "Config.dump writes it"
        ) from None
    return found


def _value(node: ast.expr) -> Any:
    if isinstance(node, ast.Call):
        if not isinstance(node.func, ast.Name) or node.func.id != "dict" or node.args:
            raise ValueError(f"line {node.lineno}")
        # A keyword without a name is a `**other`.
        return {_named(keyword): _value(keyword.value) for keyword in node.keywords}
    if isinstance(node, ast.Dict):
        if None in node.keys:
            raise ValueError(f"line {node.lineno}")
        return {_value(key): _value(value) for key, value in zip(node.keys, node.values, strict=True) if key}
    if isinstance(node, (ast.List, ast.Tuple)):
        values = [_value(part) for part in node.elts]
        return values if isinstance(node, ast.List) else tuple(values)
    try:
        return ast.literal_eval(node)
    except ValueError:
        raise ValueError(f"line {node.lineno}") from None


def _named(keyword: ast.keyword) -> str:
    if keyword.arg is None:
        raise ValueError(f"line {keyword.value.lineno}")
    return keyword.arg


def written(config: Mapping[str, Any]) -> str:
    """Return the text of a config file; `parsed` gives the same values back."""
    lines = (f"{name} = {pprint.pformat(value, width=110, sort_dicts=False)}\n" for name, value in config.items())
    return "".join(lines)


def plain(value: Any, *, where: str = "config") -> Any:
    """Return a value of mmengine's as Python's own; raises WrongInput for one that no file could hold."""
    if isinstance(value, Mapping):
        return {str(name): plain(part, where=f"{where}.{name}") for name, part in value.items()}
    if isinstance(value, (list, tuple)):
        parts = [plain(part, where=where) for part in value]
        return parts if isinstance(value, list) else tuple(parts)
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise WrongInput(f"{where}: is a {type(value).__name__} and no plain value")


def detector_config(whole: Mapping[str, Any], *, where: str) -> dict[str, Any]:
    """Return what is kept of a config: the model, and how it is tried.

    Raises:
        WrongInput: for what is no config of a detector, or of one that can't be trained here.
    """
    model = whole.get("model")
    if not isinstance(model, Mapping) or "type" not in model:
        raise WrongInput(f"{where}: has no model = dict(type=...); is it a config of mmdet?")
    for path, part in _parts(model):
        name = path.rpartition(".")[2]
        why = _REFUSED.get(name, "") or _REFUSED_TYPES.get(str(part.get("type", "")), "")
        if why:
            raise WrongInput(f"{where}: '{part.get('type', name)}' is not possible: {why}")
    if not _class_counts(model):
        raise WrongInput(f"{where}: '{model['type']}' has no num_classes in a head; it is no detector of classes")
    return {"default_scope": SCOPE, **{name: whole[name] for name in _KEPT if name in whole}}


def canvas_of(config: Mapping[str, Any], *, size: int | None, where: str) -> Canvas:
    """Return how the config's test pipeline prepares a picture.

    Args:
        size: side of the square to read instead of its own size.

    Raises:
        WrongInput: for a pipeline with other steps than those that are done here.
    """
    found: dict[str, Mapping[str, Any]] = {}
    for step in _pipeline(config, where):
        kind = str(step.get("type", "")).removeprefix(f"{SCOPE}.")
        if kind not in _TESTED:
            raise WrongInput(f"{where}: its test pipeline has the step '{kind}', which is not done here")
        found[kind] = step
    resize, pad = found.get("Resize"), found.get("Pad", {})
    if resize is None or not isinstance(resize.get("scale"), (list, tuple)):
        raise WrongInput(f"{where}: its test pipeline has no Resize with a scale of width and height")
    scale = (size, size) if size else _pair(resize["scale"])
    kind = "square" if pad.get("pad_to_square") else "size" if pad.get("size") else ""
    value: Any = pad.get("pad_val", 0)
    value = value.get("img", 0) if isinstance(value, Mapping) else value
    return Canvas(
        scale=scale,
        keep_ratio=bool(resize.get("keep_ratio", False)),
        pad=kind,
        pad_size=((size, size) if size else _pair(pad["size"])) if kind == "size" else (0, 0),
        pad_divisor=int(pad.get("size_divisor") or 0),
        pad_value=_color(value),
    )


def fitted(config: Mapping[str, Any], *, classes: Sequence[str], canvas: Canvas, frozen: bool = True) -> dict[str, Any]:
    """Return a config for other classes and another canvas, which fetches no weights by itself.

    Args:
        frozen: whether stages that the config keeps as they are stay so; with random weights none may.
    """
    model = _without_pretrained(config["model"])
    preprocessor = model.get("data_preprocessor")
    if isinstance(preprocessor, dict):
        # Resizing a batch at random asks the other ranks how.
        preprocessor.pop("batch_augments", None)
    if not frozen:
        for _, part in _parts(model):
            part.update({name: value for name, value in _LOOSE.items() if name in part})
    pipeline = [
        {"type": "LoadImageFromFile"},
        *canvas.steps(),
        {"type": "PackDetInputs", "meta_keys": _META},
    ]
    dataset = {"type": "CocoDataset", "metainfo": {}, "ann_file": "", "pipeline": pipeline, "test_mode": True}
    loose = {"default_scope": SCOPE, "model": model, "test_dataloader": {"batch_size": 1, "dataset": dataset}}
    return with_classes(loose, classes)


def with_classes(config: Mapping[str, Any], classes: Sequence[str]) -> dict[str, Any]:
    """Return a fitted config for these classes."""
    changed = copy.deepcopy(dict(config))
    for part in _class_counts(changed["model"]):
        part["num_classes"] = len(classes)
    changed["test_dataloader"]["dataset"]["metainfo"] = {"classes": tuple(classes)}
    return changed


def classes_of(config: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the classes that a config's test data have, () where it does not say."""
    found = _dataset(config).get("metainfo", {}).get("classes", ())
    return tuple(map(str, found)) if isinstance(found, (list, tuple)) else ()


def _pair(value: Sequence[Any]) -> tuple[int, int]:
    width, height = value
    return int(width), int(height)


def _color(value: Any) -> tuple[float, float, float]:
    blue, green, red = value if isinstance(value, (list, tuple)) else (value,) * 3
    return float(blue), float(green), float(red)


def _dataset(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the innermost data set of a config's test loader; wrappers stand around it."""
    found: Any = config.get("test_dataloader", {}).get("dataset", {})
    while isinstance(found, Mapping) and "pipeline" not in found and ("dataset" in found or found.get("datasets")):
        found = found["dataset"] if "dataset" in found else found["datasets"][0]
    return found if isinstance(found, Mapping) else {}


def _pipeline(config: Mapping[str, Any], where: str) -> Sequence[Mapping[str, Any]]:
    found = _dataset(config).get("pipeline")
    if not isinstance(found, (list, tuple)):
        raise WrongInput(f"{where}: has no test_dataloader with a pipeline, which says how pictures are prepared")
    return found


def _parts(model: Any, path: str = "model") -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield every dict in a model's config with its path."""
    if isinstance(model, dict):
        yield path, model
        for name, part in model.items():
            yield from _parts(part, f"{path}.{name}")
    elif isinstance(model, (list, tuple)):
        for part in model:
            yield from _parts(part, path)


def _class_counts(model: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the parts of heads that say how many classes there are; what only proposes boxes has one of its own."""
    heads = [part for name, part in model.items() if name.endswith("head") and name != "rpn_head"]
    return [part for head in heads for _, part in _parts(head) if "num_classes" in part]


def _without_pretrained(value: Any) -> Any:
    """Return a copy without the words that fetch weights of backbones."""
    if isinstance(value, Mapping):
        kept = {name: _without_pretrained(part) for name, part in value.items() if not _fetches(name, part)}
        return kept
    if isinstance(value, (list, tuple)):
        parts = [_without_pretrained(part) for part in value]
        return parts if isinstance(value, list) else tuple(parts)
    return value


def _fetches(name: str, part: Any) -> bool:
    own = name == "init_cfg" and isinstance(part, Mapping) and part.get("type") == _PRETRAINED
    return own or (name == "pretrained" and isinstance(part, str))
