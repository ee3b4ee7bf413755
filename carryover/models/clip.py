"""Owns the family `clip`: image and text columns, or one kind of them, through a CLIP or SigLIP model."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from carryover.data.config import DataConfig
from carryover.data.schema import Column, Schema
from carryover.ground.config import check, key
from carryover.ground.digests import canonical
from carryover.models import clip_source, columns, dump_hf, dump_samples, hf_source, pixels, text_ids
from carryover.models.clip_source import Config
from carryover.models.dump import with_part
from carryover.models.family import TRANSFORMERS
from carryover.models.pixels import IMAGES, NORMS, TRANSFORMS, Pixels
from carryover.models.text_augment import augmentation
from carryover.models.text_ids import TextPreprocessor, Treatment

if TYPE_CHECKING:
    from torch import nn

    from carryover.models.clip_layers import ClipEncoder

SECTION = "model.clip"


@dataclass(frozen=True)
class ClipConfig:
    """Recipe section `model.clip`."""

    checkpoint_name: str = key(
        "openai/clip-vit-base-patch32",
        help="a CLIP, SigLIP or SigLIP 2 model of transformers: a hub name, or a folder that transformers wrote",
    )
    pretrained: bool = key(True, help="start from the checkpoint's weights; false for its shape with random weights")
    train_transforms: tuple[str, ...] = key(
        pixels.TRAIN, help="what happens to an image in training, in order", allowed=TRANSFORMS
    )
    val_transforms: tuple[str, ...] = key(
        pixels.VALIDATION, help="what happens to an image in validation and prediction, in order", allowed=TRANSFORMS
    )
    image_size: int | None = key(
        None, help="side of the square that the model reads, in pixels, of whole patches; None: the model's own"
    )
    image_norm: str | None = key(
        None, help="mean and deviation that pixels are scaled with; None: the model's own", allowed=", ".join(NORMS)
    )
    max_image_num_per_column: int = key(
        1, help="images of a column that are read: the first ones that can be; averaged", allowed="1 or more"
    )
    use_learnable_image: bool = key(False, help="learn an image that stands where a row has none")
    tokenizer_name: str = key(
        "hf_auto",
        help="what reads the checkpoint's tokenizer files: hf_auto, what they name; or a class of transformers",
        allowed=", ".join(clip_source.TOKENIZER_KINDS),
    )
    max_text_len: int = key(77, help="most tokens a row; 0 or less for the encoder's own limit, which always holds")
    stochastic_chunk: bool = key(
        False, help="in training, take a random stretch of a column that is too long instead of its start"
    )
    text_trivial_aug_maxscale: float = key(
        0.0, help="as in model.hf_text: share of a text's words that training changes; 0 for no augmentation",
        allowed="0 <= x <= 1",
    )  # fmt: skip
    text_aug_detect_length: int = key(10, help="words that a text needs to be augmented", allowed="1 or more")
    text_train_augment_types: tuple[str, ...] | None = key(
        None, help="as in model.hf_text: operations to choose from instead of all",
        allowed="random_swap, random_delete, insert_punc",
    )  # fmt: skip

    def __post_init__(self) -> None:
        check(bool(self.checkpoint_name), "checkpoint_name", self.checkpoint_name, "a hub name or a folder")
        pixels.check_image_keys(self)
        words = self.text_aug_detect_length
        kinds = clip_source.TOKENIZER_KINDS
        check(self.tokenizer_name in kinds, "tokenizer_name", self.tokenizer_name, f"one of {', '.join(kinds)}")
        scale = self.text_trivial_aug_maxscale
        check(0 <= scale <= 1, "text_trivial_aug_maxscale", scale, "0 up to 1")
        check(words >= 1, "text_aug_detect_length", words, "1 or more")
        if not self.text_train_augment_types:
            # An empty list means the same as none.
            object.__setattr__(self, "text_train_augment_types", None)
        augmentation(self.text_train_augment_types, max_scale=scale, detect_length=words)


@dataclass(frozen=True)
class ClipPreprocessor:
    """Gives what `Pixels` and `TextPreprocessor` give, and "has_text" bool[B]: whether a row has any text.

    Attributes:
        config: of the checkpoint.
        pixels, texts: None where no column is an image, or a text.
    """

    config: Config
    pixels: Pixels | None
    texts: TextPreprocessor | None

    def __call__(self, rows: pa.Table, *, training: bool, keys: np.ndarray) -> dict[str, np.ndarray]:
        arrays: dict[str, np.ndarray] = {}
        if self.pixels is not None:
            arrays |= self.pixels(rows, training=training, keys=keys)
        if self.texts is not None:
            arrays |= self.texts(rows, training=training, keys=keys)
            read = [columns.texts(rows, name) for name in self.texts.layout.columns]
            any_text = [any(text and text.strip() for text in row) for row in zip(*read, strict=True)]
            arrays["has_text"] = np.array(any_text, dtype=np.bool_)
        return arrays

    def files(self) -> dict[str, bytes]:
        shown = {} if self.pixels is None else {"pixels.json": canonical(self.pixels.to_json())}
        written = {} if self.texts is None else self.texts.files()
        return {**written, **shown, "config.json": canonical(dict(self.config.plain))}


class ClipFamily:
    """The family; see the module."""

    name = "clip"
    imports = (*TRANSFORMERS, "tokenizers", "torchvision.transforms.v2", "carryover.models.clip_layers")
    Config = ClipConfig
    has_backbone = True

    def check(self, config: ClipConfig) -> None:
        clip_source.check_source(config.checkpoint_name, pretrained=config.pretrained)

    def portable(self, config: ClipConfig) -> ClipConfig:
        return replace(config, checkpoint_name=hf_source.portable_name(config.checkpoint_name))

    def reads(self, schema: Schema, config: ClipConfig) -> tuple[Column, ...]:
        return tuple(column for column in schema.features() if column.type in (*IMAGES, "text"))

    def preprocessor(self, config: ClipConfig, schema: Schema, data: DataConfig) -> ClipPreprocessor:
        source = clip_source.open_config(config.checkpoint_name)
        read = self.reads(schema, config)
        shown = tuple(column.name for column in read if column.type in IMAGES)
        written = tuple(column.name for column in read if column.type == "text")
        made = _pixels(config, source, shown, skip=data.image.missing_value_strategy == "skip") if shown else None
        texts = text_preprocessor(config, source, written, normalize=data.text.normalize_text) if written else None
        return ClipPreprocessor(source, made, texts)

    def restore(self, config: ClipConfig, files: Mapping[str, bytes]) -> ClipPreprocessor:
        stored = files.get("pixels.json")
        return ClipPreprocessor(
            Config(json.loads(files["config.json"])),
            None if stored is None else pixels.pixels_from_json(json.loads(stored)),
            text_ids.restore(files) if "text.json" in files else None,
        )

    def network(
        self, config: ClipConfig, preprocessor: ClipPreprocessor, *, num_outputs: int | None, pretrained: bool
    ) -> "ClipEncoder":
        from carryover.models.clip_layers import ClipEncoder

        return ClipEncoder(
            whole_model(config, preprocessor.config, pretrained=pretrained),
            preprocessor.config,
            pixels=preprocessor.pixels,
            layout=None if preprocessor.texts is None else preprocessor.texts.layout,
            learned=config.use_learnable_image,
            num_outputs=num_outputs,
        )

    def dump(self, config: ClipConfig, branch: "ClipEncoder", preprocessor: ClipPreprocessor, folder: Path) -> None:
        towers = {name: branch.get_submodule(path) for name, path in _towers(branch).items()}
        dump_hf.write_towers(towers, preprocessor.config.plain, folder)
        if preprocessor.texts is not None:
            dump_hf.write_files(preprocessor.texts.tokenizer_files, folder)
        if preprocessor.pixels is not None:
            dump_hf.write_image_processor(preprocessor.config, preprocessor.pixels, folder)

    def opened(self, branch: "ClipEncoder", folder: Path) -> "nn.Module":
        model, changed = dump_hf.opened(folder), branch
        for name, path in _towers(branch).items():
            changed = with_part(changed, path, getattr(model, name))
        return changed

    def samples(self, preprocessor: ClipPreprocessor) -> pa.Table:
        shown = preprocessor.pixels.columns if preprocessor.pixels is not None else ()
        written = preprocessor.texts.layout.columns if preprocessor.texts is not None else ()
        arrays = {name: dump_samples.images(place) for place, name in enumerate(shown)}
        return pa.table({**arrays, **{name: dump_samples.texts(place) for place, name in enumerate(written)}})


def _towers(branch: "ClipEncoder") -> dict[str, str]:
    """Return the parts of transformers' model that a branch has -> where they are in it."""
    known = {
        "vision_model": "images.encoder.vision_model",
        "visual_projection": "images.encoder.projection",
        "text_model": "texts.text_model",
        "text_projection": "texts.projection",
    }
    # (SigLIP has no projections; what stands for them has no weights.)
    return {
        name: path for name, path in known.items() if any(own.startswith(f"{path}.") for own in branch.state_dict())
    }


def whole_model(config: ClipConfig, source: Config, *, pretrained: bool) -> Any:
    """Return transformers' model with both towers, in float32; `pretrained` as in `Family.network`."""
    name = config.checkpoint_name if config.pretrained and pretrained else None
    return hf_source.build_encoder(source.plain, name, key=clip_source.KEY)


def text_preprocessor(
    config: ClipConfig, source: Config, names: tuple[str, ...], *, normalize: bool
) -> TextPreprocessor:
    """Return what makes ids of these columns."""
    change = augmentation(
        config.text_train_augment_types,
        max_scale=config.text_trivial_aug_maxscale,
        detect_length=config.text_aug_detect_length,
    )
    layout, files = clip_source.open_texts(
        config.checkpoint_name, config.tokenizer_name, source, names, config.max_text_len
    )
    treatment = Treatment(normalize, config.stochastic_chunk, change if change.operations else None)
    return TextPreprocessor(layout, source.plain, files, treatment)


def _pixels(config: ClipConfig, source: Config, names: tuple[str, ...], *, skip: bool) -> Pixels:
    size = config.image_size or source.image_size
    source.check_size(size)
    mean, std = (
        NORMS[config.image_norm] if config.image_norm else hf_source.open_norm(config.checkpoint_name, source.norm)
    )
    made = Pixels(
        columns=names,
        size=size,
        mean=mean,
        std=std,
        train=config.train_transforms,
        validation=config.val_transforms,
        most=config.max_image_num_per_column,
        skip=skip,
        section=SECTION,
    )
    made.check()
    return made


FAMILY = ClipFamily()
