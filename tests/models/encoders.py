"""Tiny random encoders of several architectures with word-level tokenizers, as folders that transformers reads."""

from pathlib import Path
from typing import Any

WORDS = "good bad great poor film food it was very not one two three four five six".split()
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
ARCHITECTURES = ("bart", "bert", "distilbert", "electra", "longformer", "mpnet", "roberta", "t5")


def save_tokenizer(folder: Path, *, start: bool) -> int:
    """Writes a word-level tokenizer with a truncation and padding of its own; returns the number of ids."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    vocabulary = {word: number for number, word in enumerate([*SPECIAL, *WORDS])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.enable_truncation(6)
    tokenizer.enable_padding(length=6)
    names: dict[str, Any] = {"unk_token": "[UNK]", "pad_token": "[PAD]"}
    names |= {"cls_token": "[CLS]", "sep_token": "[SEP]"} if start else {"eos_token": "[SEP]"}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names).save_pretrained(folder)
    return len(vocabulary)


def save_encoder(folder: Path, architecture: str) -> Path:
    """Writes one tiny model with seeded random weights and dropout, and its tokenizer, into `folder`."""
    import torch
    import transformers as hf

    size = save_tokenizer(folder, start=architecture != "t5")
    wide: dict[str, Any] = {"vocab_size": size, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    bert: dict[str, Any] = {**wide, "intermediate_size": 32, "max_position_embeddings": 40, "pad_token_id": 0}
    halves: dict[str, Any] = {f"{half}_{what}": n for half in ("encoder", "decoder") for what, n in
              (("layers", 1), ("attention_heads", 2), ("ffn_dim", 32))}  # fmt: skip
    configs = {
        "bert": lambda: hf.BertConfig(**bert),
        "electra": lambda: hf.ElectraConfig(**bert, embedding_size=8),
        "roberta": lambda: hf.RobertaConfig(**bert, type_vocab_size=1),
        "mpnet": lambda: hf.MPNetConfig(**bert),
        "longformer": lambda: hf.LongformerConfig(**bert, attention_window=4),
        "distilbert": lambda: hf.DistilBertConfig(
            vocab_size=size, dim=16, n_layers=2, n_heads=2, hidden_dim=32, max_position_embeddings=40
        ),
        "t5": lambda: hf.T5Config(vocab_size=size, d_model=16, d_kv=8, d_ff=32, num_layers=2, num_heads=2),
        "bart": lambda: hf.BartConfig(
            vocab_size=size, d_model=16, max_position_embeddings=40, encoder_layerdrop=0.5, pad_token_id=0, **halves
        ),
    }
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        hf.AutoModel.from_config(configs[architecture]()).save_pretrained(folder)
    return folder
