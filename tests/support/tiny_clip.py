"""Tiny CLIP and SigLIP models as the folders that transformers opens, with weights, a tokenizer and a processor."""

import json
from pathlib import Path
from typing import Any

from tests.support.tiny_bert import COMMON

# SigLIP 2's tokenizer spells words, with this mark for a space.
WORDS = [*COMMON, "photo", "cat", "dog", "yes", "no", ".", *"abcdefghijklmnopqrstuvwxyz", "▁"]
NARROW: dict[str, Any] = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
LENGTH = 32


def save_tiny_clip(folder: Path, kind: str = "clip", *, tokenizer: bool = True, **vision: Any) -> Path:
    """Write one of width 16 that reads images of 16 x 16 pixels and texts of up to 32 tokens.

    Args:
        kind: clip, siglip or siglip2.
        vision: keys for the config of its vision part.
    """
    import torch
    import transformers as hf

    ends = {"bos_token_id": 2, "eos_token_id": 3, "pad_token_id": 0}
    config = hf.AutoConfig.for_model(
        kind,
        text_config={**NARROW, **ends, "vocab_size": 128, "max_position_embeddings": LENGTH, "projection_size": 16},
        vision_config={**NARROW, "image_size": 16, "patch_size": 8, "num_patches": 4, **vision},
        projection_dim=12,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        model = hf.AutoModel.from_config(config)
        for name, value in model.named_parameters():
            # Their own start is so small that all embeddings are nearly the same.
            if value.dim() > 1:
                torch.nn.init.normal_(value, std=0.3)
            elif name == "logit_bias":
                torch.nn.init.constant_(value, -3.0)
    model.save_pretrained(folder)
    processor = {"image_processor_type": "CLIPImageProcessor", "image_mean": [0.4, 0.5, 0.6], "image_std": [0.2] * 3}
    (folder / "preprocessor_config.json").write_text(json.dumps(processor))
    if tokenizer:
        _save_tokenizer(folder, kind)
    return folder


def _save_tokenizer(folder: Path, kind: str) -> None:
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    special = ["<pad>", "<unk>", "<start>", "<end>"]
    vocabulary = {word: number for number, word in enumerate(dict.fromkeys([*special, *WORDS]))}
    made: Any = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    names = {"unk_token": "<unk>", "pad_token": "<pad>", "eos_token": "<end>"}
    if kind == "clip":
        made.normalizer = normalizers.Lowercase()
    fast = PreTrainedTokenizerFast(tokenizer_object=made, bos_token="<start>", padding_side="right", **names)
    fast.save_pretrained(folder)
