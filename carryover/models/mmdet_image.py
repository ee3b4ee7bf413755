"""Owns the family `mmdet_image`: one image column through any detector of mmdet 3, by name, config file or folder."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from carryover.data.boxes import WIDTH, numbers_of
from carryover.data.config import DataConfig
from carryover.data.images import NotUsable
from carryover.data.order import mix
from carryover.data.schema import Column, Schema
from carryover.ground.config import check, key
from carryover.ground.console import warn
from carryover.ground.digests import canonical
from carryover.models import columns, dump_mmdet, dump_samples, hf_source, mmdet_config, mmdet_pixels, mmdet_source
from carryover.models.dump import with_part
from carryover.models.mmdet_config import Canvas
from carryover.models.pixels import IMAGES

if TYPE_CHECKING:
    from torch import nn

    from carryover.models.mmdet_layers import Detector

PROBLEM = "object_detection"
DESCRIPTION = "detector.json"
BOX_FORMATS = ("xyxy", "xywh")
_TURN = 0xB0C5


@dataclass(frozen=True)
class MmdetImageConfig:
    """Recipe section `model.mmdet_image`."""

    checkpoint_name: str = key(
        "yolov3_mobilenetv2_8xb24-320-300e_coco",
        help="the name of a config of mmdet 3 (yolox_s, rtmdet_tiny_8xb32-300e_coco, ...), a folder with config.py and "
        "*.pth, or a config file",
    )
    pretrained: bool = key(
        True,
        help="start from the checkpoint's weights; false for its shape with random weights, where no stage stays as it "
        "is unless a folder's or file's own config says so",
    )
    train_transforms: tuple[str, ...] = key(
        ("random_horizontal_flip",),
        help="what happens to a picture and its boxes in training, in order, before it is resized",
        allowed=", ".join(mmdet_pixels.TURNS),
    )
    image_size: int | None = key(
        None, help="side of the square that pictures are fitted into, in pixels; None: the config's own size"
    )
    max_predictions: int = key(
        300, help="boxes that a picture's prediction has at most, those of the highest scores", allowed="1 or more"
    )
    output_bbox_format: str = key(
        "xyxy",
        help="how tables of predictions tell a box: two corners, or one with width and height",
        allowed=", ".join(BOX_FORMATS),
        identity=False,
    )
    frozen_layers: tuple[str, ...] = key(
        (), help="parameters that don't train: those whose name has one of these words in it ('backbone')"
    )

    def __post_init__(self) -> None:
        check(bool(self.checkpoint_name), "checkpoint_name", self.checkpoint_name, "a name, a folder or a file")
        mmdet_pixels.check_transforms(self.train_transforms, "train_transforms")
        size, most = self.image_size, self.max_predictions
        check(size is None or size >= 32, "image_size", size, "32 or more")
        check(most >= 1, "max_predictions", most, "1 or more")
        told = self.output_bbox_format
        check(told in BOX_FORMATS, "output_bbox_format", told, " or ".join(BOX_FORMATS))
        check(all(self.frozen_layers), "frozen_layers", list(self.frozen_layers), "words that are not empty")


@dataclass(frozen=True)
class MmdetImagePreprocessor:
    """Gives what `mmdet_pixels.batch` gives; carries the config that the network is built from.

    Attributes:
        column: name of the image column; the first image of a row that can be read is taken.
        label: name of the column of boxes; its `classes` are counted in this order.
        train: names of transforms, see mmdet_pixels.py.
        skip: in training, raise NotUsable for rows whose image is missing or cannot be read; else it is black.
        config: text of config.py, see mmdet_config.py.
    """

    column: str
    label: str
    classes: tuple[str, ...]
    canvas: Canvas
    train: tuple[str, ...]
    skip: bool
    config: str

    def __call__(self, rows: pa.Table, *, training: bool, keys: np.ndarray) -> dict[str, np.ndarray]:
        columns.require(rows, [self.column, *([self.label] if training else [])])
        pictures = [_first(value) for value in rows.column(self.column).to_pylist()]
        unusable = [row for row, picture in enumerate(pictures) if picture is None]
        if unusable and training and self.skip:
            raise NotUsable(unusable, f"an image of {self.column} is missing or cannot be read")
        boxes = self._boxes(rows.column(self.label).to_pylist()) if training else [_NO_BOXES] * len(pictures)
        found: list[mmdet_pixels.Fitted] = []
        for picture, own, seed in zip(pictures, boxes, keys.tolist(), strict=True):
            if picture is None:
                self._say_unreadable()
                found.append(mmdet_pixels.nothing(self.canvas))
                continue
            if training:
                turn = int(mix(np.uint64(seed), _TURN))  # pyright: ignore[reportArgumentType]
                picture, own = mmdet_pixels.turned(picture, own, self.train, key=turn)
            found.append(mmdet_pixels.fit(picture, own, self.canvas))
        return mmdet_pixels.batch(found, training=training)

    def _boxes(self, pictures: list[Any]) -> list[np.ndarray]:
        """Return each picture's boxes, float32 [m, 6]."""
        indices = {name: index for index, name in enumerate(self.classes)}
        return [numbers_of(boxes, indices, label=self.label) for boxes in pictures]

    def _say_unreadable(self) -> None:
        if self.column not in _SAID:
            _SAID.add(self.column)
            warn(f"column '{self.column}': an image is missing or cannot be decoded; such images are black")

    def grown(self, classes: Sequence[object]) -> "MmdetImagePreprocessor":
        """Return the same for more classes behind its own."""
        names = tuple(map(columns.as_text, classes))
        return replace(
            self, classes=names, config=mmdet_config.written(mmdet_config.with_classes(self.described(), names))
        )

    def described(self) -> dict[str, Any]:
        """Return the config as values."""
        return mmdet_config.parsed(self.config, where=mmdet_source.CONFIG)

    def files(self) -> dict[str, bytes]:
        described = {name: value for name, value in asdict(self).items() if name != "config"}
        return {DESCRIPTION: canonical(described), mmdet_source.CONFIG: self.config.encode()}


_NO_BOXES = np.zeros((0, WIDTH), np.float32)
# Each process says it once a column.
_SAID: set[str] = set()


def _first(value: Any) -> np.ndarray | None:
    """Return the first readable picture of a row."""
    stored = value if isinstance(value, list) else [value]
    return next((picture for data in stored if data and (picture := mmdet_pixels.decoded(data)) is not None), None)


class MmdetImageFamily:
    """The family; see the module."""

    name = "mmdet_image"
    has_backbone = True
    reads_label = True
    # Starts of the names of its heads; in their place other families have one that is called so.
    heads = ("detector.bbox_head.", "detector.roi_head.", "detector.rpn_head.")
    Config = MmdetImageConfig

    def check(self, config: MmdetImageConfig) -> None:
        mmdet_source.check_source(config.checkpoint_name, pretrained=config.pretrained)

    def portable(self, config: MmdetImageConfig) -> MmdetImageConfig:
        local = mmdet_source.is_local(config.checkpoint_name)
        return replace(config, checkpoint_name=hf_source.LOCAL) if local else config

    def reads(self, schema: Schema, config: MmdetImageConfig) -> tuple[Column, ...]:
        if schema.problem_type != PROBLEM:
            return ()
        return tuple(column for column in schema.features() if column.type in IMAGES)[:1]

    def preprocessor(self, config: MmdetImageConfig, schema: Schema, data: DataConfig) -> MmdetImagePreprocessor:
        name = config.checkpoint_name
        described = mmdet_source.open_config(name)
        canvas = mmdet_config.canvas_of(described, size=config.image_size, where=name)
        classes = tuple(map(columns.as_text, schema.classes or ()))
        # A config that a person brought says itself what stays as it is; its weights may come later (transfer).
        frozen = config.pretrained or mmdet_source.is_local(name)
        fitted = mmdet_config.fitted(described, classes=classes, canvas=canvas, frozen=frozen)
        return MmdetImagePreprocessor(
            column=self.reads(schema, config)[0].name,
            label=schema.label,
            classes=classes,
            canvas=canvas,
            train=config.train_transforms,
            skip=data.image.missing_value_strategy == "skip",
            config=mmdet_config.written(fitted),
        )

    def restore(self, config: MmdetImageConfig, files: Mapping[str, bytes]) -> MmdetImagePreprocessor:
        stored = json.loads(files[DESCRIPTION])
        canvas = Canvas(**{name: _tuple(value) for name, value in stored.pop("canvas").items()})
        plain = {name: _tuple(value) for name, value in stored.items()}
        return MmdetImagePreprocessor(**plain, canvas=canvas, config=files[mmdet_source.CONFIG].decode())

    def network(
        self,
        config: MmdetImageConfig,
        preprocessor: MmdetImagePreprocessor,
        *,
        num_outputs: int | None,
        pretrained: bool,
    ) -> "Detector":
        from carryover.models import mmdet_layers

        mmdet_source.check_installed()
        described = preprocessor.described()
        detector = mmdet_layers.build(described)
        if config.pretrained and pretrained:
            mmdet_layers.load(detector, mmdet_source.read_weights(config.checkpoint_name), name=config.checkpoint_name)
        return mmdet_layers.Detector(detector, described, most=config.max_predictions, frozen=config.frozen_layers)

    def dump(
        self, config: MmdetImageConfig, branch: "Detector", preprocessor: MmdetImagePreprocessor, folder: Path
    ) -> None:
        dump_mmdet.write(branch.detector, preprocessor.config, preprocessor.classes, folder)

    def opened(self, branch: "Detector", folder: Path) -> "nn.Module":
        return with_part(branch, "detector", dump_mmdet.opened(folder))

    def samples(self, preprocessor: MmdetImagePreprocessor) -> pa.Table:
        whole = [images for images in dump_samples.images(0).to_pylist() if images]
        return pa.table({preprocessor.column: pa.array(whole, pa.list_(pa.binary()))})


def _tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


FAMILY = MmdetImageFamily()
