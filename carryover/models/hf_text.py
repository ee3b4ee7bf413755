"""Owns the family `hf_text`: text columns through any transformers encoder, by hub name or folder."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from carryover.data.config import DataConfig
from carryover.data.schema import Column, Schema
from carryover.ground.config import check, key
from carryover.ground.errors import WrongInput
from carryover.models import dump_hf, dump_samples, hf_source, text_ids
from carryover.models.dump import with_part
from carryover.models.family import SPARED, TRANSFORMERS
from carryover.models.text_augment import augmentation
from carryover.models.text_ids import Layout, TextPreprocessor, Treatment

if TYPE_CHECKING:
    from torch import nn

    from carryover.models.text_layers import TextEncoder

POOLING = ("cls", "mean")
PAIRS = ("joined", "siamese")
# Encoders with relative positions and tokenizers without a limit take any length; no text needs more than memory has.
UNBOUNDED = 512


@dataclass(frozen=True)
class HFTextConfig:
    """Recipe section `model.hf_text`."""

    checkpoint_name: str = key(
        "google/electra-base-discriminator",
        help="encoder and tokenizer: a hub name, or a folder that transformers wrote",
    )
    pretrained: bool = key(True, help="start from the checkpoint's weights; false for its shape with random weights")
    tokenizer_name: str = key(
        "hf_auto",
        help="what reads the checkpoint's tokenizer files: hf_auto, what they name; or a class of transformers",
        allowed=", ".join(hf_source.TOKENIZER_KINDS),
    )
    pooling_mode: str = key(
        "cls", help="a row's features: the first token's, or the mean over all", allowed="cls, mean"
    )
    pair_mode: str = key(
        "joined",
        help="several text columns as one sequence; or two of them as a pair that goes through the encoder one by one "
        "and is compared, for similarity and the like, best with pooling_mode mean",
        allowed="joined, siamese",
    )
    max_text_len: int = key(512, help="most tokens a row; 0 or less for the encoder's own limit, which always holds")
    insert_sep: bool = key(True, help="put a separator behind every column instead of one behind the last")
    text_segment_num: int = key(
        2, help="segment ids that the columns take in turn; bounded by the encoder's own number"
    )
    gradient_checkpointing: bool = key(
        False,
        help="less memory in training for a third more time: layers are computed again in the backward pass",
        identity=False,
    )
    stochastic_chunk: bool = key(
        False, help="in training, take a random stretch of a column that is too long instead of its start"
    )
    text_trivial_aug_maxscale: float = key(
        0.1,
        help="in training, each text gets one of: nothing, words swapped, words deleted, punctuation put in; of its "
        "words up to this share is touched; 0 for no augmentation. Synonyms, which AutoMM has too, need a download",
        allowed="0 <= x <= 1",
    )
    text_aug_detect_length: int = key(10, help="words that a text needs to be augmented", allowed="1 or more")
    text_train_augment_types: tuple[str, ...] | None = key(
        None,
        help="operations to choose from instead of all, e.g. [random_swap(0.05), insert_punc]: the number is the share "
        "of words, drawn up to text_trivial_aug_maxscale where there is none",
        allowed="random_swap, random_delete, insert_punc",
    )

    def __post_init__(self) -> None:
        scale, words = self.text_trivial_aug_maxscale, self.text_aug_detect_length
        check(0 <= scale <= 1, "text_trivial_aug_maxscale", scale, "0 up to 1")
        check(words >= 1, "text_aug_detect_length", words, "1 or more")
        if not self.text_train_augment_types:
            # An empty list means the same as none.
            object.__setattr__(self, "text_train_augment_types", None)
        augmentation(self.text_train_augment_types, max_scale=scale, detect_length=words)
        check(bool(self.checkpoint_name), "checkpoint_name", self.checkpoint_name, "a hub name or a folder")
        kinds = hf_source.TOKENIZER_KINDS
        check(self.tokenizer_name in kinds, "tokenizer_name", self.tokenizer_name, f"one of {', '.join(kinds)}")
        check(self.pooling_mode in POOLING, "pooling_mode", self.pooling_mode, f"one of {', '.join(POOLING)}")
        check(self.pair_mode in PAIRS, "pair_mode", self.pair_mode, f"one of {', '.join(PAIRS)}")
        check(self.text_segment_num > 0, "text_segment_num", self.text_segment_num, "a positive number")


class HFTextFamily:
    """The family; see the module."""

    name = "hf_text"
    Config = HFTextConfig
    imports = (*TRANSFORMERS, "tokenizers", "carryover.models.text_layers")
    spared = SPARED
    has_backbone = True

    def check(self, config: HFTextConfig) -> None:
        hf_source.check_source(config.checkpoint_name, pretrained=config.pretrained)

    def portable(self, config: HFTextConfig) -> HFTextConfig:
        # The same folder may lie elsewhere tomorrow, and the Model made from it must still have the same digest.
        name = hf_source.portable_name(config.checkpoint_name)
        return replace(config, checkpoint_name=name, gradient_checkpointing=False)

    def reads(self, schema: Schema, config: HFTextConfig) -> tuple[Column, ...]:
        found = tuple(schema.features("text"))
        if config.pair_mode == "siamese" and len(found) != 2:
            names = ", ".join(column.name for column in found) or "none"
            raise WrongInput(
                f"model.hf_text.pair_mode: siamese compares two text columns; there are {len(found)} ({names}). "
                "Set it to joined, or leave the others out of the data",
                trouble="wrong-families",
            )
        return found

    def preprocessor(self, config: HFTextConfig, schema: Schema, data: DataConfig) -> TextPreprocessor:
        encoder = hf_source.open_config(config.checkpoint_name)
        tokenizer, files = hf_source.open_tokenizer(config.checkpoint_name, config.tokenizer_name)
        names = tuple(column.name for column in self.reads(schema, config))
        layout = _layout(config, names, encoder, tokenizer)
        if layout.siamese and schema.problem_type == "regression":
            layout = replace(layout, cosine=_cosine_line(schema, data))
        return TextPreprocessor(layout, encoder, files, _treatment(config, data.text.normalize_text))

    def restore(self, config: HFTextConfig, files: Mapping[str, bytes]) -> TextPreprocessor:
        return text_ids.restore(files)

    def network(
        self, config: HFTextConfig, preprocessor: TextPreprocessor, *, num_outputs: int | None, pretrained: bool
    ) -> "TextEncoder":
        from carryover.models.text_layers import TextEncoder

        source = config.checkpoint_name if config.pretrained and pretrained else None
        encoder = hf_source.build_encoder(preprocessor.encoder, source)
        if config.gradient_checkpointing:
            hf_source.save_memory(encoder)
        return TextEncoder(encoder, preprocessor.layout, pooling=config.pooling_mode, num_outputs=num_outputs)

    def dump(self, config: HFTextConfig, branch: "TextEncoder", preprocessor: TextPreprocessor, folder: Path) -> None:
        dump_hf.write_encoder(branch.encoder, preprocessor.encoder, folder)
        dump_hf.write_files(preprocessor.tokenizer_files, folder)

    def opened(self, branch: "TextEncoder", folder: Path) -> "nn.Module":
        return with_part(branch, "encoder", dump_hf.opened_encoder(folder))

    def samples(self, preprocessor: TextPreprocessor) -> pa.Table:
        return pa.table({name: dump_samples.texts(place) for place, name in enumerate(preprocessor.layout.columns)})


def _layout(config: HFTextConfig, names: tuple[str, ...], encoder: Mapping[str, Any], tokenizer: Any) -> Layout:
    """Resolve what the recipe asks for against what the tokenizer and the encoder have.

    Raises:
        WrongInput: when a token that is needed is missing, ids lie outside the encoder's table, or no text would fit.
    """
    where = f"{hf_source.KEY}: '{config.checkpoint_name}'"
    separator = tokenizer.sep_token_id if tokenizer.sep_token_id is not None else tokenizer.eos_token_id
    if separator is None or tokenizer.pad_token_id is None:
        raise WrongInput(f"{where}: its tokenizer has no separator or no padding token, so it is not of a text encoder")
    largest = max(tokenizer.get_vocab().values())
    if largest >= encoder["vocab_size"]:
        raise WrongInput(f"{where}: its tokenizer has ids up to {largest}, its encoder takes {encoder['vocab_size']}")
    start = tokenizer.cls_token_id if tokenizer.cls_token_id is not None else tokenizer.bos_token_id
    kinds = encoder.get("type_vocab_size") or 0
    layout = Layout(
        columns=names,
        start=start,
        learned_start=start is None and config.pooling_mode == "cls",
        separator=separator,
        padding=tokenizer.pad_token_id,
        max_length=_max_length(config, hf_source.position_limit(encoder, tokenizer.model_max_length)),
        insert_sep=config.insert_sep,
        segments=min(config.text_segment_num, kinds) if kinds > 1 else 0,
        siamese=config.pair_mode == "siamese",
    )
    if layout.budget < layout.least:
        least = layout.max_length - layout.budget + layout.least
        raise WrongInput(
            f"model.hf_text.max_text_len: {layout.max_length} tokens leave no room for {len(names)} text columns and "
            f"their separators; it must be at least {least}",
            trouble="wrong-value",
        )
    return layout


def _cosine_line(schema: Schema, data: DataConfig) -> tuple[float, float]:
    """Return (slope, offset) such that a cosine of 0 means the least label and 1 the largest, in the scaled label."""
    known = schema.label_column.statistics
    shift, scale = data.label.shift_and_scale(known)
    least, most = float(known["min"]), float(known["max"])
    return (most - least) / scale, (least - shift) / scale


def _treatment(config: HFTextConfig, normalize: bool) -> Treatment:
    change = augmentation(
        config.text_train_augment_types,
        max_scale=config.text_trivial_aug_maxscale,
        detect_length=config.text_aug_detect_length,
    )
    return Treatment(normalize, config.stochastic_chunk, change if change.operations else None)


def _max_length(config: HFTextConfig, limit: int | None) -> int:
    asked = config.max_text_len if config.max_text_len > 0 else limit or UNBOUNDED
    return min(asked, limit or asked)


FAMILY = HFTextFamily()
