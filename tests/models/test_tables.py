"""The families of tables beyond their defaults: tokens, attention, norms, and weights that others trained."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import torch
from safetensors.torch import save_file

from carryover.data.config import DataConfig
from carryover.ground.errors import WrongInput
from carryover.models.assembly import build_config, build_network, build_preprocessing, choose
from carryover.models.ft_layers import Attention, Block
from carryover.models.layers import BatchNorm
from tests.models.test_networks import KEYS, ROWS, SCHEMA, assemble, batch, check_gradients, check_restored

TINY = {"token_dim": 8, "hidden_size": 16, "ffn_hidden_size": 12, "num_blocks": 2, "attention_num_heads": 4}
FT = [
    {},
    {"embedding_arch": ["positional", "linear", "relu"], "normalization": "rms_norm", "pooling_mode": "mean"},
    {"embedding_arch": ["linear", "leaky_relu", "layernorm", "shared_linear"], "ffn_activation": "relu"},
    {"embedding_arch": ["autodis"], "ffn_activation": "reglu", "attention_num_heads": 1, "num_blocks": 1},
    {"additive_attention": True, "residual_dropout": 0.2, "head_activation": "gelu"},
    {"additive_attention": True, "share_qv_weights": True, "data_types": ["categorical"]},
    {"data_types": ["numerical"]},
]


def tiny(**keys: Any) -> dict[str, Any]:
    return {"names": ["ft_transformer"], "ft_transformer": {**TINY, **keys}}


@pytest.mark.parametrize("keys", FT)
def test_tokens_of_every_kind(keys: dict[str, Any]) -> None:
    assembly, preprocessing, network = assemble(tiny(**keys))
    inputs = batch(preprocessing)
    assert network(inputs).logits.shape == (4, 3)
    check_gradients(network, inputs)
    check_restored(assembly, preprocessing, network)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        check_gradients(network, inputs)
    check_gradients(network.double(), batch(preprocessing, torch.float64))


@pytest.mark.parametrize("keys", [{}, {"pooling_mode": "mean"}])
def test_without_a_head_of_its_own_every_part_still_learns(keys: dict[str, Any]) -> None:
    """In a fusion without losses of the branches."""
    names = ["ft_transformer", "numerical_mlp", "fusion_mlp"]
    model = {"names": names, "ft_transformer": {**TINY, **keys}, "fusion_mlp": {"weight": 0}}
    assembly, preprocessing, network = assemble(model)
    assert network.get_submodule("ft_transformer").head is None
    check_gradients(network, batch(preprocessing))
    check_restored(assembly, preprocessing, network)


def test_automms_null_of_a_fusion() -> None:
    names = ["numerical_mlp", "categorical_mlp", "fusion_mlp"]
    _, preprocessing, network = assemble({"names": names, "fusion_mlp": {"weight": None, "adapt_in_features": None}})
    assert network(batch(preprocessing)).auxiliary == ()
    assert network.get_submodule("fusion_mlp.fusion_mlp.0").weight.shape == (128, 128 + 64)


def test_attention_is_pytorchs_own() -> None:
    torch.manual_seed(0)
    mine, theirs = Attention(16, 4, 0.0), torch.nn.MultiheadAttention(16, 4, batch_first=True)
    parts = [mine.W_q, mine.W_k, mine.W_v]
    weights = {
        "in_proj_weight": torch.cat([part.weight for part in parts]),
        "in_proj_bias": torch.cat([part.bias for part in parts]),
        **{f"out_proj.{name}": value for name, value in mine.W_out.state_dict().items()},
    }
    theirs.load_state_dict(weights)
    tokens = torch.randn(3, 5, 16)
    torch.testing.assert_close(mine(tokens), theirs(tokens, tokens, tokens, need_weights=False)[0])


def test_which_columns_it_reads() -> None:
    read = choose(build_config(tiny(data_types=["numerical"])), SCHEMA).branches[0].columns
    assert read == ("price", "stock")
    bare = type(SCHEMA)("y", "multiclass", SCHEMA.classes, (SCHEMA.column("stock"), SCHEMA.column("y")))
    assert choose(build_config(tiny()), bare).branches[0].columns == ("stock",)
    with pytest.raises(WrongInput, match="'ft_transformer' has nothing to read"):
        choose(build_config(tiny(requires_all_dtypes=True)), bare)


def test_additive_attention_by_itself_from_many_columns_on() -> None:
    def kinds(columns: int) -> set[str]:
        many = tuple(type(SCHEMA.columns[0])(f"n{i}", "numerical", "double", {}) for i in range(columns))
        schema = type(SCHEMA)("y", "multiclass", SCHEMA.classes, (*many, SCHEMA.column("y")))
        keys = {"additive_attention": "auto", "share_qv_weights": "auto"}
        _, _, network = assemble(tiny(**keys), schema)
        return {type(block.attention).__name__ for block in network.modules() if isinstance(block, Block)}

    assert kinds(300) == {"Attention"}
    assert kinds(301) == {"AdditiveAttention"}


WRONG = [
    ({"hidden_size": 18}, "hidden_size: 18 is not possible; it must be a multiple of attention_num_heads, 4"),
    ({"embedding_arch": ["relu"]}, "embedding_arch: .* a list of one of autodis, linear, positional; then any of"),
    ({"embedding_arch": ["positional"], "token_dim": 7}, "token_dim: 7 is not possible; it must be even"),
    ({"share_qv_weights": True}, "share_qv_weights: True is not possible"),
    ({"data_types": ["text"]}, "data_types: .* a list of categorical and numerical"),
    ({"checkpoint_name": "/no/such/file"}, "checkpoint_name: /no/such/file is no file, and no folder with"),
]


@pytest.mark.parametrize(("keys", "words"), WRONG)
def test_wrong_keys(keys: dict[str, Any], words: str) -> None:
    with pytest.raises(WrongInput, match=f"^model.ft_transformer.{words}"):
        choose(build_config(tiny(**keys)), SCHEMA)


def blocks_of(network: torch.nn.Module) -> dict[str, torch.Tensor]:
    return network.get_submodule("ft_transformer.transformer").state_dict()


def with_weights(place: Path, **keys: Any) -> torch.nn.Module:
    assembly = choose(build_config(tiny(checkpoint_name=str(place), **keys)), SCHEMA)
    assert assembly.portable().branches[0].config.checkpoint_name is None
    torch.manual_seed(2)
    return build_network(assembly, build_preprocessing(assembly, SCHEMA, DataConfig()), 3)


def test_blocks_start_from_weights_of_others(tmp_path: Path) -> None:
    """AutoMM's file, its predictor's, a folder of safetensors, a Model of ours: the blocks, and nothing else."""
    _, _, source = assemble(tiny())
    want, whole = blocks_of(source), source.state_dict()
    torch.save({"state_dict": want}, tmp_path / "blocks.ckpt")
    torch.save({f"model.{name}": value for name, value in whole.items()}, tmp_path / "predictor.ckpt")
    save_file(whole, tmp_path / "weights.safetensors")
    for folder, name in (("folder", "model.safetensors"), ("model", "model.ckpt/model.safetensors")):
        path = tmp_path / folder / name
        path.parent.mkdir(parents=True)
        save_file(whole, path)
    for place in ("blocks.ckpt", "predictor.ckpt", "weights.safetensors", "folder", "model"):
        made = with_weights(tmp_path / place)
        found = blocks_of(made)
        assert all(torch.equal(found[name], value) for name, value in want.items())
        assert not torch.equal(made.state_dict()["ft_transformer.cls_token"], whole["ft_transformer.cls_token"])


def test_weights_that_do_not_fit(tmp_path: Path) -> None:
    _, _, source = assemble(tiny())
    save_file(source.state_dict(), tmp_path / "w.safetensors")
    with pytest.raises(WrongInput, match=r"not of this shape; set num_blocks"):
        with_weights(tmp_path / "w.safetensors", num_blocks=3)
    save_file({"a": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(WrongInput, match="has no blocks of a tabular transformer"):
        with_weights(tmp_path / "other.safetensors")
    torch.save({"state_dict": {"blocks.0": Path()}}, tmp_path / "code.ckpt")
    with pytest.raises(WrongInput, match="holds no plain tensors, and nothing else is read"):
        with_weights(tmp_path / "code.ckpt")


@pytest.mark.parametrize("arch", [["linear", "relu"], ["positional"]])
def test_numbers_as_tokens_in_an_mlp(arch: list[str]) -> None:
    section = {"hidden_size": 8, "embedding_arch": arch, "token_dim": 6}
    assembly, preprocessing, network = assemble({"names": ["numerical_mlp"], "numerical_mlp": section})
    assert network.get_submodule("numerical_mlp.mlp.0").weight.shape == (8, 12)
    check_gradients(network, batch(preprocessing))
    check_restored(assembly, preprocessing, network)


@pytest.mark.parametrize("norm", ["batch_norm", "ghost_batch_norm"])
def test_batch_norms(norm: str) -> None:
    """A micro-batch of one row has no spread of its own; it must train all the same."""
    for name in ("numerical_mlp", "categorical_mlp"):
        assembly, preprocessing, network = assemble({"names": [name], name: {"normalization": norm}})
        check_gradients(network, batch(preprocessing))
        one = preprocessing(ROWS.slice(0, 1), training=True, keys=KEYS[:1])
        check_gradients(network, {key: torch.from_numpy(value) for key, value in one.items()})
        check_restored(assembly, preprocessing, network)
    rows = torch.randn(6, 3) * 5 + 2
    ghost = BatchNorm(3, size=4)
    parts = [(part - part.mean(0)) / (part.var(0, unbiased=False) + 1e-5).sqrt() for part in (rows[:4], rows[4:])]
    torch.testing.assert_close(ghost(rows), torch.cat(parts))


def test_an_empty_table_of_numbers_has_a_place_for_each_column() -> None:
    _, preprocessing, network = assemble(tiny())
    rows = pa.table({name: pa.nulls(2) for name in ("price", "stock", "color")})
    arrays = preprocessing(rows, training=False, keys=KEYS[:2])
    logits = network.eval()({name: torch.from_numpy(array) for name, array in arrays.items()}).logits
    assert logits.isfinite().all()
    assert torch.equal(logits[0], logits[1])
