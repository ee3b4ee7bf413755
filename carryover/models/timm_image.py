"""Owns the family `timm_image`: image columns through any timm model, by name or folder."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from carryover.data.config import DataConfig
from carryover.data.schema import Column, Schema
from carryover.ground.config import check, key
from carryover.ground.digests import canonical
from carryover.ground.errors import WrongInput
from carryover.models import dump_samples, dump_timm, hf_source, pixels, timm_source
from carryover.models.dump import with_part
from carryover.models.pixels import IMAGES, NORMS, TRANSFORMS, Pixels
from carryover.models.timm_source import ImageModel

if TYPE_CHECKING:
    from torch import nn

    from carryover.models.image_layers import ImageEncoder

MIXING = ("all_images", "all_logits")


@dataclass(frozen=True)
class TimmImageConfig:
    """Recipe section `model.timm_image`."""

    checkpoint_name: str = key(
        "swin_base_patch4_window7_224",
        help="a name of timm's (with or without tag), a hub name, or a folder that timm wrote",
    )
    pretrained: bool = key(True, help="start from the checkpoint's weights; false for its shape with random weights")
    train_transforms: tuple[str, ...] = key(
        pixels.TRAIN, help="what happens to an image in training, in order", allowed=TRANSFORMS
    )
    val_transforms: tuple[str, ...] = key(
        pixels.VALIDATION, help="what happens to an image in validation and prediction, in order", allowed=TRANSFORMS
    )
    image_size: int | None = key(None, help="side of the square that the model reads, in pixels; None: the model's own")
    image_norm: str | None = key(
        None, help="mean and deviation that pixels are scaled with; None: the model's own", allowed=", ".join(NORMS)
    )
    mix_choice: str = key(
        "all_logits",
        help="several images of a row: average what the model says of each, or average the images first",
        allowed=", ".join(MIXING),
    )
    max_image_num_per_column: int = key(
        1, help="images of a column that are read: the first ones that can be", allowed="1 or more"
    )
    use_learnable_image: bool = key(False, help="learn an image that stands where a row has none")

    def __post_init__(self) -> None:
        check(bool(self.checkpoint_name), "checkpoint_name", self.checkpoint_name, "a name or a folder")
        pixels.check_image_keys(self)
        check(self.mix_choice in MIXING, "mix_choice", self.mix_choice, f"one of {', '.join(MIXING)}")


@dataclass(frozen=True)
class TimmImagePreprocessor:
    """Gives what `Pixels` gives; carries what the network is built from."""

    pixels: Pixels
    model: ImageModel

    def __call__(self, rows: pa.Table, *, training: bool, keys: np.ndarray) -> dict[str, np.ndarray]:
        return self.pixels(rows, training=training, keys=keys)

    def files(self) -> dict[str, bytes]:
        return {"pixels.json": canonical(self.pixels.to_json()), "config.json": canonical(asdict(self.model))}


class TimmImageFamily:
    """The family; see the module."""

    name = "timm_image"
    imports = ("timm", "torchvision.transforms.v2", "carryover.models.image_layers")
    has_backbone = True
    Config = TimmImageConfig

    def check(self, config: TimmImageConfig) -> None:
        timm_source.check_source(config.checkpoint_name, pretrained=config.pretrained)

    def portable(self, config: TimmImageConfig) -> TimmImageConfig:
        return replace(config, checkpoint_name=hf_source.portable_name(config.checkpoint_name))

    def reads(self, schema: Schema, config: TimmImageConfig) -> tuple[Column, ...]:
        return tuple(column for column in schema.features() if column.type in IMAGES)

    def preprocessor(self, config: TimmImageConfig, schema: Schema, data: DataConfig) -> TimmImagePreprocessor:
        model = timm_source.open_model(config.checkpoint_name)
        size = config.image_size or model.size()
        mean, std = NORMS[config.image_norm] if config.image_norm else model.norm() or NORMS["imagenet"]
        made = Pixels(
            columns=tuple(column.name for column in self.reads(schema, config)),
            size=size,
            mean=mean,
            std=std,
            train=config.train_transforms,
            validation=config.val_transforms,
            most=config.max_image_num_per_column,
            skip=data.image.missing_value_strategy == "skip",
        )
        made.check()
        return TimmImagePreprocessor(made, model.sized(size))

    def restore(self, config: TimmImageConfig, files: Mapping[str, bytes]) -> TimmImagePreprocessor:
        stored = json.loads(files["pixels.json"])
        return TimmImagePreprocessor(pixels.pixels_from_json(stored), ImageModel(**json.loads(files["config.json"])))

    def network(
        self,
        config: TimmImageConfig,
        preprocessor: TimmImagePreprocessor,
        *,
        num_outputs: int | None,
        pretrained: bool,
    ) -> "ImageEncoder":
        from carryover.models.image_layers import ImageEncoder, Scaling

        source = config.checkpoint_name if config.pretrained and pretrained else None
        encoder = timm_source.build_encoder(preprocessor.model, source)
        read = preprocessor.pixels
        try:
            return ImageEncoder(
                encoder,
                Scaling(read.mean, read.std),
                read.size,
                average=config.mix_choice,
                learned=config.use_learnable_image,
                num_outputs=num_outputs,
            )
        except (RuntimeError, AssertionError) as error:
            # Only the trial with an image of this size runs anything that can fail.
            line = " ".join(str(error).split())[:200]
            raise WrongInput(
                f"model.timm_image.image_size: '{config.checkpoint_name}' does not take {read.size}: {line}"
            ) from error

    def dump(
        self, config: TimmImageConfig, branch: "ImageEncoder", preprocessor: TimmImagePreprocessor, folder: Path
    ) -> None:
        dump_timm.write(branch.encoder, preprocessor.model, preprocessor.pixels, folder)

    def opened(self, branch: "ImageEncoder", folder: Path) -> "nn.Module":
        return with_part(branch, "encoder", dump_timm.opened(folder))

    def samples(self, preprocessor: TimmImagePreprocessor) -> pa.Table:
        return pa.table({name: dump_samples.images(place) for place, name in enumerate(preprocessor.pixels.columns)})


FAMILY = TimmImageFamily()
