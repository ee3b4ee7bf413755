"""Owns what a CLIP or SigLIP checkpoint is: the kinds that are read, and the sizes, norms and tokens each is made for.

    clip              text: [start] words [end], read to the first end         images: any size, positions interpolated
    siglip            text: words [end], filled up to the full length, lower   the same
    siglip2 (NaFlex)  text: as siglip                                          squares of whole patches

Torch-free; what needs transformers imports it when called (hf_source.py).
"""

import copy
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from carryover.ground.errors import WrongInput
from carryover.models import hf_source
from carryover.models.pixels import NORMS
from carryover.models.text_ids import TOKENIZER, Layout

KEY = "model.clip.checkpoint_name"
KINDS = ("clip", "siglip", "siglip2")
TOKENIZER_KINDS = ("hf_auto", "clip")


@dataclass(frozen=True)
class Config:
    """A checkpoint's config.json, with answers.

    Attributes:
        plain: the config as a mapping that says nothing of where it came from.
    """

    plain: Mapping[str, Any]

    @property
    def kind(self) -> str:
        """Return one of `KINDS`."""
        return self.plain["model_type"]

    @property
    def max_text_length(self) -> int:
        """Return the most tokens that its text encoder reads; SigLIP reads exactly that many."""
        return int(self.plain["text_config"]["max_position_embeddings"])

    @property
    def image_size(self) -> int:
        """Return the side of the square images that it was made for, in pixels."""
        vision = self.plain["vision_config"]
        if self.kind == "siglip2":
            return round(vision["num_patches"] ** 0.5) * vision["patch_size"]
        return int(vision["image_size"])

    @property
    def norm(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Return mean and deviation of the pixels that checkpoints of its kind were made for."""
        return NORMS["clip" if self.kind == "clip" else "inception"]

    def check_size(self, size: int) -> None:
        """Raise WrongInput for images that are not made of whole patches."""
        patch = int(self.plain["vision_config"]["patch_size"])
        if size % patch:
            near = max(patch, round(size / patch) * patch)
            raise WrongInput(
                f"model.clip.image_size: {size} is not made of patches of {patch} pixels; {near} is near",
                trouble="wrong-value",
            )


def check_source(name: str, *, pretrained: bool) -> None:
    """Check without torch that a checkpoint can be opened, as far as a look at a folder tells; raises WrongInput."""
    kind = hf_source.check_source(name, pretrained=pretrained, key=KEY, tokenizer=False)
    if kind:
        _check_kind(name, kind)


def open_config(name: str) -> Config:
    """Return what a checkpoint is, wherever it is.

    Raises:
        WrongInput: when it cannot be opened or is of another kind.
    """
    plain = copy.deepcopy(hf_source.open_config(name, key=KEY))
    _check_kind(name, plain["model_type"])
    for part in ("text_config", "vision_config"):
        for place in ("_name_or_path", "transformers_version"):
            plain[part].pop(place, None)
    return Config(plain)


def _check_kind(name: str, kind: str) -> None:
    if kind not in KINDS:
        raise WrongInput(
            f"{KEY}: '{name}' is a '{kind}', and this family reads {', '.join(KINDS)}; hf_text reads encoders of text, "
            "timm_image those of images"
        )


def open_texts(name: str, kind: str, config: Config, columns: tuple[str, ...], most: int) -> tuple[Layout, Any]:
    """Return how texts become ids, and the tokenizer's files.

    Args:
        kind: of `TOKENIZER_KINDS`.
        most: tokens that a row may have, with start and end; 0 or less for the encoder's own limit.

    Raises:
        WrongInput: when there is no such tokenizer, it does not fit the encoder, or no text would fit.
    """
    # What transformers takes for SigLIP's own needs SentencePiece; the checkpoints have a fast one too.
    fast = "PreTrainedTokenizerFast" if config.kind == "siglip" and kind == "hf_auto" else kind
    tokenizer, files = hf_source.open_tokenizer(name, fast, key=KEY)
    ids = tokenizer.get_vocab().values()
    if not set(ids) - set(tokenizer.all_special_ids):
        # Where there are no files, transformers makes one that knows no word.
        raise WrongInput(f"{KEY}: '{name}' has no tokenizer, and there are texts to read: {', '.join(columns)}")
    largest, known = max(ids), config.plain["text_config"]["vocab_size"]
    if largest >= known:
        raise WrongInput(f"{KEY}: '{name}': its tokenizer has ids up to {largest}, its encoder takes {known}")
    end = tokenizer.eos_token_id if tokenizer.eos_token_id is not None else tokenizer.sep_token_id
    if end is None:
        raise WrongInput(f"{KEY}: '{name}': its tokenizer has no token for the end of a text")
    start = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else tokenizer.cls_token_id
    layout = Layout(
        columns=columns,
        start=start if config.kind == "clip" else None,
        learned_start=False,
        separator=end,
        padding=end if tokenizer.pad_token_id is None else tokenizer.pad_token_id,
        max_length=min(most, config.max_text_length) if most > 0 else config.max_text_length,
        # What stands behind the first end is not read.
        insert_sep=False,
        segments=0,
    )
    if layout.budget < layout.least:
        least = layout.max_length - layout.budget + layout.least
        raise WrongInput(
            f"model.clip.max_text_len: {layout.max_length} tokens leave no room for {len(columns)} text columns; it "
            f"must be at least {least}",
            trouble="wrong-value",
        )
    return layout, files if config.kind == "clip" else _canonical(files, name)


def _canonical(files: Mapping[str, bytes], name: str) -> dict[str, bytes]:
    """Return a tokenizer's files such that it reads a text as SigLIP has seen it: in small letters.

    The first SigLIP saw no punctuation either. CLIP's tokenizers do that themselves; SigLIP's leave it to classes of
    Python that a Model does not carry.
    """
    from tokenizers import Regex, Tokenizer, normalizers
    from transformers.models.auto.tokenization_auto import get_tokenizer_config

    steps: list[Any] = [normalizers.Lowercase()]
    if str(get_tokenizer_config(os.path.expanduser(name)).get("tokenizer_class")).startswith("SiglipTokenizer"):
        steps += [normalizers.Replace(Regex("[!-/:-@\\[-`{-~]"), ""), normalizers.Replace(Regex(r"\s+"), " ")]
        steps.append(normalizers.Strip())
    tokenizer: Any = Tokenizer.from_str(files[TOKENIZER].decode())
    if tokenizer.normalizer is not None:
        steps.append(tokenizer.normalizer)
    tokenizer.normalizer = normalizers.Sequence(steps)
    return {**files, TOKENIZER: tokenizer.to_str().encode()}
