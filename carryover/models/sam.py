"""Owns the family `sam`: a class for every pixel of a picture, by SAM ("Segment Anything") without prompts."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from carryover.data.config import DataConfig
from carryover.data.schema import Column, Schema
from carryover.ground.config import check, key
from carryover.ground.digests import canonical
from carryover.ground.errors import WrongInput
from carryover.models import dump_hf, dump_sam, dump_samples, hf_source, sam_pixels, sam_source
from carryover.models.dump import with_part
from carryover.models.family import TRANSFORMERS
from carryover.models.pixels import IMAGES, NORMS
from carryover.models.sam_pixels import PicturesAndMasks
from carryover.models.sam_source import Config

if TYPE_CHECKING:
    from torch import nn

    from carryover.models.sam_layers import Segmenter

PROBLEM = "semantic_segmentation"
_ALIKE, _MODULE = ", ".join(sam_pixels.ALIKE), "module:Class(...) of torchvision's v2 transforms"


@dataclass(frozen=True)
class SamConfig:
    """Recipe section `model.sam`."""

    checkpoint_name: str = key(
        "facebook/sam-vit-huge",
        help="a SAM model of transformers: a hub name (facebook/sam-vit-base, -large, -huge), or a folder that "
        "transformers wrote",
    )
    pretrained: bool = key(True, help="start from the checkpoint's weights; false for its shape with random weights")
    train_transforms: tuple[str, ...] = key(
        sam_pixels.TRAIN,
        help="what happens to a picture and its mask alike in training, in order; before all else",
        allowed=f"{_ALIKE}, {_MODULE}",
    )
    img_transforms: tuple[str, ...] = key(
        sam_pixels.IMAGE,
        help="what makes a picture the square that the model reads, in training and after it",
        allowed=f"resize_to_square, {_MODULE} that leave all where it is",
    )
    gt_transforms: tuple[str, ...] = key(
        sam_pixels.MASK,
        help="what makes a mask the same square, in training",
        allowed=f"resize_gt_to_square, {_MODULE} that leave all where it is",
    )
    image_size: int | None = key(
        None,
        help="side of that square in pixels, of whole patches (of 16); None: the model's own (1024). Another one "
        "interpolates its positions: faster, and coarser",
    )
    frozen_layers: tuple[str, ...] = key(
        ("mask_decoder.iou_prediction_head", "prompt_encoder"),
        help="what has one of these in its name in the model does not train: vision_encoder, mask_decoder, "
        "vision_encoder.layers.0., ... What nothing depends on never does: prompts, SAM's own masks",
        allowed="parts of names",
    )
    num_mask_tokens: int = key(
        1,
        help="masks that the decoder draws in all, at least one for each class (of two classes: for the second); a "
        "class that has several takes the best of them at each pixel",
        allowed="1 or more",
    )
    ignore_label: int = key(
        sam_pixels.IGNORED,
        help="id of the pixels that count for nothing; prepare-data --ignore-label N stores any other as this one",
        allowed=str(sam_pixels.IGNORED),
    )

    def __post_init__(self) -> None:
        check(bool(self.checkpoint_name), "checkpoint_name", self.checkpoint_name, "a hub name or a folder")
        sam_pixels.check_transforms(self.train_transforms, sam_pixels.ALIKE, "train_transforms")
        sam_pixels.check_transforms(self.img_transforms, sam_pixels.IMAGE, "img_transforms")
        sam_pixels.check_transforms(self.gt_transforms, sam_pixels.MASK, "gt_transforms")
        check(self.image_size is None or self.image_size > 0, "image_size", self.image_size, "a positive number")
        check(all(self.frozen_layers), "frozen_layers", list(self.frozen_layers), "parts of names, none of them empty")
        check(self.num_mask_tokens >= 1, "num_mask_tokens", self.num_mask_tokens, "1 or more")
        if self.ignore_label != sam_pixels.IGNORED:
            raise WrongInput(
                f"ignore_label: {self.ignore_label} is not possible; datasets store what is ignored as "
                f"{sam_pixels.IGNORED}: run prepare-data with --ignore-label {self.ignore_label}, and leave this out"
            )


@dataclass(frozen=True)
class SamPreprocessor:
    """Gives what `PicturesAndMasks` gives; carries what the network is built from."""

    read: PicturesAndMasks
    model: Config

    def __call__(self, rows: pa.Table, *, training: bool, keys: np.ndarray) -> dict[str, np.ndarray]:
        return self.read(rows, training=training, keys=keys)

    def files(self) -> dict[str, bytes]:
        return {"pixels.json": canonical(self.read.to_json()), "config.json": canonical(dict(self.model.plain))}


class SamFamily:
    """The family; see the module."""

    name = "sam"
    imports = (*TRANSFORMERS, "torchvision.transforms.v2", "carryover.models.sam_layers")
    has_backbone = True
    reads_label = True
    Config = SamConfig

    def check(self, config: SamConfig) -> None:
        sam_source.check_source(config.checkpoint_name, pretrained=config.pretrained)

    def portable(self, config: SamConfig) -> SamConfig:
        return replace(config, checkpoint_name=hf_source.portable_name(config.checkpoint_name))

    def reads(self, schema: Schema, config: SamConfig) -> tuple[Column, ...]:
        if schema.problem_type != PROBLEM:
            return ()
        found = tuple(column for column in schema.features() if column.type in IMAGES)
        if len(found) > 1:
            names = ", ".join(column.name for column in found)
            raise WrongInput(
                f"model.sam: a mask belongs to one picture, and there are several columns of them ({names}); leave all "
                "but one out (prepare-data --column-type COLUMN=null)",
                trouble="wrong-families",
            )
        return found

    def preprocessor(self, config: SamConfig, schema: Schema, data: DataConfig) -> SamPreprocessor:
        source = sam_source.open_config(config.checkpoint_name)
        model = source.sized(config.image_size or source.image_size)
        mean, std = hf_source.open_norm(config.checkpoint_name, NORMS["imagenet"])
        assert schema.classes is not None
        read = PicturesAndMasks(
            image=self.reads(schema, config)[0].name,
            label=schema.label,
            classes=tuple(int(value) for value in schema.classes),
            size=model.image_size,
            mean=mean,
            std=std,
            train=config.train_transforms,
            picture=config.img_transforms,
            mask=config.gt_transforms,
            skip=data.image.missing_value_strategy == "skip",
        )
        read.check()
        return SamPreprocessor(read, model)

    def restore(self, config: SamConfig, files: Mapping[str, bytes]) -> SamPreprocessor:
        read = PicturesAndMasks.from_json(json.loads(files["pixels.json"]))
        return SamPreprocessor(read, Config(json.loads(files["config.json"])))

    def network(
        self, config: SamConfig, preprocessor: SamPreprocessor, *, num_outputs: int | None, pretrained: bool
    ) -> "Segmenter":
        from carryover.models.image_layers import Scaling
        from carryover.models.sam_layers import Segmenter

        if num_outputs is None:
            raise WrongInput(
                "model.names: 'sam' tells the pixels of a picture apart, and nothing can be joined with it",
                trouble="wrong-families",
            )
        source = config.checkpoint_name if config.pretrained and pretrained else None
        return Segmenter(
            sam_source.build_model(preprocessor.model, source),
            Scaling(preprocessor.read.mean, preprocessor.read.std),
            frozen=config.frozen_layers,
            num_outputs=num_outputs,
            tokens=config.num_mask_tokens,
        )

    def dump(self, config: SamConfig, branch: "Segmenter", preprocessor: SamPreprocessor, folder: Path) -> None:
        dump_sam.write(branch.model, preprocessor.read, folder)

    def opened(self, branch: "Segmenter", folder: Path) -> "nn.Module":
        return with_part(branch, "model", dump_hf.opened(folder))

    def samples(self, preprocessor: SamPreprocessor) -> pa.Table:
        return pa.table({preprocessor.read.image: dump_samples.images(0)})


FAMILY = SamFamily()
