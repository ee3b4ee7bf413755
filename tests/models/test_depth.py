"""How deep each parameter lies, for encoders of every kind of structure."""

from typing import Any

import pytest
import timm
import torch
import transformers as hf
from torch import nn

from carryover.models.depth import depths
from carryover.models.layers import CategoricalMLP, Network, mlp

NARROW: dict[str, Any] = {"vocab_size": 20, "hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 32}
BERT: dict[str, Any] = {**NARROW, "num_hidden_layers": 3, "max_position_embeddings": 40, "pad_token_id": 0}
TEXT = {**NARROW, "num_hidden_layers": 2, "bos_token_id": 1, "eos_token_id": 2}
VISION = {**NARROW, "num_hidden_layers": 3, "image_size": 32, "patch_size": 16}
del VISION["vocab_size"]

# Encoder -> (blocks, a part of the name of something that stands before them, of the last block, behind them or "").
TEXTS = {
    "bert": (hf.BertConfig(**BERT), 3, "word_embeddings", "layer.2.", "pooler"),
    "deberta": (hf.DebertaV2Config(**BERT, relative_attention=True), 3, "rel_embeddings", "layer.2.", ""),
    "mpnet": (hf.MPNetConfig(**BERT), 3, "relative_attention_bias", "layer.2.", "pooler"),
    "albert": (hf.AlbertConfig(**BERT, embedding_size=8), 1, "mapping_in", "albert_layer_groups.0", "pooler"),
    "xlm": (hf.XLMConfig(vocab_size=20, emb_dim=16, n_layers=3, n_heads=2), 3, "embeddings", "norm2.2.", ""),
    "mobilebert": (hf.MobileBertConfig(num_hidden_layers=2), 2, "embeddings", "layer.1.ffn.0", "pooler"),
    "swin": (
        hf.SwinConfig(image_size=32, patch_size=4, embed_dim=16, depths=[2, 2], num_heads=[2, 2], window_size=4),
        4, "patch_embeddings", "layers.1.blocks.1.", "layernorm",
    ),
}  # fmt: skip


class Branch(nn.Module):
    """An encoder with the head of a branch."""

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.head = nn.Linear(2, 2)
        self.encoder = encoder


def of(encoder: nn.Module) -> dict[str, int]:
    found = depths(Network({"one": Branch(encoder)}, None, weight=0.0))
    assert {found.pop("one.head.weight"), found.pop("one.head.bias")} == {0}
    return {name.removeprefix("one.encoder."): depth for name, depth in found.items()}


def at(found: dict[str, int], part: str) -> set[int]:
    depth = {depth for name, depth in found.items() if part in name}
    assert depth, part
    return depth


@pytest.mark.parametrize("name", TEXTS)
def test_transformers(name: str) -> None:
    config, blocks, before, last, behind = TEXTS[name]
    with torch.device("meta"):
        found = of(hf.AutoModel.from_config(config))
    assert set(found.values()) | {0} == set(range(blocks + 2))
    assert at(found, before) == {blocks + 1}
    assert at(found, last) == {1}
    if behind:
        assert {depth for part, depth in found.items() if part.startswith(behind)} == {0}


def test_every_block_of_a_bert_is_one_step() -> None:
    found = of(hf.AutoModel.from_config(TEXTS["bert"][0]))
    assert [at(found, f"encoder.layer.{index}.") for index in range(3)] == [{3}, {2}, {1}]
    assert at(found, "embeddings.") == {4}


def test_the_encoder_of_an_encoder_decoder() -> None:
    sizes: dict[str, Any] = {f"{half}_{what}": n for half in ("encoder", "decoder") for what, n in
                             (("layers", 2), ("attention_heads", 2), ("ffn_dim", 32))}  # fmt: skip
    bart: Any = hf.AutoModel.from_config(hf.BartConfig(vocab_size=20, d_model=16, pad_token_id=0, **sizes))
    found = of(bart.get_encoder())
    assert at(found, "layernorm_embedding") == at(found, "embed_") == {3}
    assert (at(found, "layers.0."), at(found, "layers.1.")) == ({2}, {1})
    t5: Any = hf.AutoModel.from_config(
        hf.T5Config(vocab_size=20, d_model=16, d_kv=8, d_ff=32, num_layers=2, num_heads=2)
    )
    found = of(t5.get_encoder())
    assert (at(found, "embed_tokens"), at(found, "block.0."), at(found, "final_layer_norm")) == ({3}, {2}, {0})


@pytest.mark.parametrize("kind", ["CLIP", "Siglip"])
def test_two_towers_count_by_themselves(kind: str) -> None:
    found = of(getattr(hf, f"{kind}Model")(getattr(hf, f"{kind}Config")(text_config=TEXT, vision_config=VISION)))
    assert at(found, "text_model.embeddings") == at(found, "vision_model.encoder.layers.0.") == {3}
    assert at(found, "vision_model.embeddings") == {4}
    assert at(found, "text_model.encoder.layers.1.") == at(found, "vision_model.encoder.layers.2.") == {1}
    assert at(found, "logit_scale") == at(found, "final_layer_norm") == at(found, "post_layernorm") == {0}


@pytest.mark.parametrize(
    ("name", "deepest", "stem", "last"),
    [
        ("test_vit", 7, "patch_embed", "blocks.5."),
        ("resnet18", 9, "conv1.weight", "layer4.1."),
        ("mobilenetv3_small_050", 14, "conv_stem", "conv_head"),
        ("convnext_atto", 13, "stem", "stages.3.blocks.1."),
        # It has no layers by timm's own account: stages are found, and each of their 3 + 3 + 9 + 3 blocks counts.
        ("caformer_s18", 19, "stem", "stages.3.blocks.2."),
    ],
)
def test_timm(name: str, deepest: int, stem: str, last: str) -> None:
    with torch.device("meta"):
        found = of(timm.create_model(name, num_classes=0))
    assert set(found.values()) | {0} == set(range(deepest + 1))
    assert {depth for part, depth in found.items() if part.startswith(stem)} == {deepest}
    assert at(found, last) == {1}


class Blocks(nn.Module):
    """A feature tokenizer and transformer blocks, as a table's transformer has them."""

    def __init__(self) -> None:
        super().__init__()
        self.tokenizer = nn.Linear(3, 8)
        layers = [nn.TransformerEncoderLayer(8, 2, 16) for _ in range(3)]
        self.blocks = nn.ModuleList(layers)
        self.head = nn.Linear(8, 2)


def test_tables_fusion_and_branches_side_by_side() -> None:
    columns = [mlp([4, 8], activation="relu", normalization="layer_norm", drop_rate=0.0) for _ in range(3)]
    table = CategoricalMLP(
        [nn.Embedding(3, 4) for _ in range(3)],
        columns,
        mlp([24, 24, 8], activation="relu", normalization="layer_norm", drop_rate=0.0),
        out_features=8,
        num_outputs=2,
    )
    branches = {"table": table, "deep": Blocks(), "text": Branch(hf.AutoModel.from_config(TEXTS["bert"][0]))}
    found = depths(Network(branches, ("fusion", nn.Linear(2, 2)), weight=0.1))
    assert at(found, "table.") == at(found, "fusion.") == at(found, ".head.") == {0}
    assert [at(found, f"deep.blocks.{index}.") for index in range(3)] == [{3}, {2}, {1}]
    assert (at(found, "deep.tokenizer"), at(found, "text.encoder.embeddings")) == ({4}, {4})
