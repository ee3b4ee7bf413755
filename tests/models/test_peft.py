"""Efficient fine-tuning: what trains, that adapters change nothing at first, and that they merge into plain layers."""

import copy
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import transformers as hf
from torch import nn

from carryover.data.schema import Column, Schema
from carryover.ground.errors import WrongInput
from carryover.models.assembly import ModelConfig, build_config, choose
from carryover.models.depth import depths
from carryover.models.layers import Network
from carryover.models.peft import METHODS, Adaptation, LoraConfig, adapt, check_extra, merged
from carryover.train.optim import build_optimizer
from carryover.train.recipe import given, make
from carryover.train.sections import Optimization
from tests.support.tiny_clip import save_tiny_clip

WIDE: dict[str, Any] = {"vocab_size": 20, "hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2}
BERT: dict[str, Any] = {**WIDE, "intermediate_size": 16, "max_position_embeddings": 10}
# Weights so small as usual would hide what an adapter does.
BERT |= {"pad_token_id": 0, "initializer_range": 0.5}
VIT: dict[str, Any] = {"img_size": 16, "patch_size": 8, "embed_dim": 16, "depth": 2, "num_heads": 2}
RESNET: dict[str, Any] = {"channels": [4, 8, 8, 16], "stem_width": 4, "zero_init_last": False}


class Branch(nn.Module):
    """An encoder with the head of a branch."""

    backbones = ("encoder",)

    def __init__(self, encoder: nn.Module, width: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = nn.Linear(width, 2)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        found: Any = self.encoder(inputs)
        return self.head(found if isinstance(found, torch.Tensor) else found.last_hidden_state.mean(dim=1))


def bert() -> Branch:
    torch.manual_seed(0)
    return Branch(hf.BertModel(hf.BertConfig(**BERT), add_pooling_layer=False).eval(), 8)


def image(name: str = "vit_tiny_patch16_224", **arguments: Any) -> Branch:
    torch.manual_seed(0)
    return Branch(timm.create_model(name, pretrained=False, num_classes=0, **(arguments or VIT)).eval(), 16)


WORDS = torch.tensor([[1, 2, 3], [4, 5, 6]])
PIXELS = torch.linspace(-1, 1, 2 * 3 * 16 * 16).view(2, 3, 16, 16)
KINDS = {"text": (bert, WORDS), "image": (image, PIXELS)}


def trains(module: nn.Module) -> set[str]:
    return {name for name, parameter in module.named_parameters() if parameter.requires_grad}


def adapted(made: Branch, method: str, **lora: Any) -> Branch:
    adapt(made, Adaptation(method, LoraConfig(**lora)), name="one")
    return made


def expected(kind: str, method: str) -> set[str]:
    """Return what a method says that it trains, by rules of its own: from the names of the plain encoder."""
    plain = KINDS[kind][0]()
    layers = [name for name, _ in plain.named_modules() if name.endswith(("query", "value", "qkv"))]
    adapters = {"lora": ("lora_A.default.weight", "lora_B.default.weight"), "ia3": ("ia3_l.default",)}
    found = {f"{layer}.{end}" for layer in layers for end in adapters.get(method[:4].rstrip("_"), ())}
    norms = {name for name in trains(plain) if "LayerNorm." in name or ".norm" in name}
    biases = {name for name in trains(plain) if name.endswith(".bias")}
    found |= norms if method in ("norm_fit", "lora_norm", "ia3_norm") else set()
    found |= biases if method in ("bit_fit", "norm_fit", "lora_bias", "ia3_bias") else set()
    # The layer that an adapter wraps is named so.
    for layer in layers if method.startswith(("lora", "ia3")) else ():
        found = {name.replace(f"{layer}.bias", f"{layer}.base_layer.bias") for name in found}
    return found | {"head.weight", "head.bias"}


@pytest.mark.parametrize("kind", sorted(KINDS))
@pytest.mark.parametrize("method", METHODS)
def test_a_method_trains_what_it_says_and_every_bit_of_it_learns(method: str, kind: str) -> None:
    make_one, inputs = KINDS[kind]
    plain, one = make_one(), adapted(make_one(), method)
    assert trains(one) == expected(kind, method)
    assert torch.equal(one(inputs), plain(inputs)), "nothing has been learned yet"
    one(inputs).square().sum().backward()
    assert {name for name, parameter in one.named_parameters() if parameter.grad is not None} == trains(one)


def test_what_is_trained_by_hand() -> None:
    """The same by a list that a person wrote: one layer, adapters and norms."""
    one = adapted(bert(), "lora_norm", filter=["query"], module_filter=[r"encoder\.layer\.1\."])
    layer = "encoder.encoder.layer.{}.{}.LayerNorm.{}"
    parts = ("attention.output", "output")
    norms = {layer.format(n, part, what) for n in (0, 1) for part in parts for what in ("weight", "bias")}
    norms |= {f"encoder.embeddings.LayerNorm.{what}" for what in ("weight", "bias")}
    adapters = {f"encoder.encoder.layer.1.attention.self.query.lora_{part}.default.weight" for part in "AB"}
    assert trains(one) == norms | adapters | {"head.weight", "head.bias"}


@pytest.mark.parametrize(
    ("make_one", "inputs", "method", "lora"),
    [
        (bert, WORDS, "lora", {"r": 3, "alpha": 5.0}),
        (bert, WORDS, "ia3", {"filter": ["query", "dense"]}),
        (image, PIXELS, "lora_bias", {}),
        (lambda: image("test_resnet", **RESNET), PIXELS, "lora", {"filter": ["conv2"]}),
        (lambda: image("test_resnet", **RESNET), PIXELS, "ia3", {"filter": ["conv2"]}),
        (bert, WORDS, "bit_fit", {}),
    ],
)
def test_adapters_merge_into_plain_layers(make_one: Any, inputs: torch.Tensor, method: str, lora: dict) -> None:
    plain, one = make_one(), adapted(make_one(), method, **lora)
    before = one(inputs)
    with torch.no_grad():
        for name, parameter in one.named_parameters():
            if parameter.requires_grad and not name.startswith("head"):
                parameter.add_(torch.randn_like(parameter))
    want = one(inputs)
    names = set(one.state_dict())
    whole = merged(one)
    assert whole.state_dict().keys() == plain.state_dict().keys()
    assert not [module for module in whole.modules() if type(module).__module__.startswith("peft")]
    assert torch.allclose(whole(inputs), want, atol=1e-5)
    assert not torch.allclose(before, want, atol=0.005)
    # The one that was merged goes on as it was.
    assert set(one.state_dict()) == names and torch.equal(one(inputs), want)


def test_what_a_person_names_trains_whole_and_without_adapters() -> None:
    one, first = bert(), r"encoder\.layer\.0\."
    adapt(one, Adaptation("lora", extra=(first,)), name="one")
    whole = {name for name, _ in bert().named_parameters() if name.startswith("encoder.encoder.layer.0.")}
    layer = "encoder.encoder.layer.1.attention.self.{}.lora_{}.default.weight"
    adapters = {layer.format(name, part) for name in ("query", "value") for part in "AB"}
    assert trains(one) == whole | adapters | {"head.weight", "head.bias"}


def test_layers_that_nothing_reaches_get_no_adapter() -> None:
    one = bert()
    unreached = one.encoder.get_submodule("encoder.layer.1")
    unreached.requires_grad_(False)
    found = trains(adapted(one, "lora_bias"))
    assert found and not [name for name in found if "layer.1." in name]


def test_adapters_lie_as_deep_as_their_layers() -> None:
    plain, one = (Network({"one": made}, None, weight=0.0) for made in (bert(), bert()))
    adapt(one.get_submodule("one"), Adaptation("lora"), name="one")
    deep = depths(one)
    for name, depth in depths(plain).items():
        alike = [other for other in deep if other.startswith(name.rpartition(".")[0] + ".") and "default" in other]
        assert {deep[other] for other in alike if "query" in name or "value" in name} <= {depth}
    adapters = {name: depth for name, depth in deep.items() if "lora_" in name}
    assert sorted(set(adapters.values())) == [1, 2] and len(adapters) == 8
    groups = build_optimizer(one, Optimization(lr_decay=0.5)).param_groups
    assert {group["scale"] for group in groups} == {1.0, 0.5, 0.25}


def test_scales_and_biases_have_no_decay() -> None:
    one = Network({"one": adapted(bert(), "ia3_bias")}, None, weight=0.0)
    decayed = [p for g in build_optimizer(one, Optimization()).param_groups if g["weight_decay"] for p in g["params"]]
    assert [parameter is one.get_parameter("one.head.weight") for parameter in decayed] == [True]


def test_both_towers_of_a_clip_are_adapted(tmp_path: Path) -> None:
    model = hf.AutoModel.from_pretrained(save_tiny_clip(tmp_path / "clip"))
    towers = nn.Module()
    towers.add_module("images", model.vision_model)
    towers.add_module("texts", model.text_model)
    towers.__dict__["backbones"] = ("images", "texts")
    adapt(towers, Adaptation("lora"), name="clip")
    found = trains(towers)
    assert {name.partition(".")[0] for name in found} == {"images", "texts"}
    assert all(".self_attn.q_proj.lora_" in name or ".self_attn.v_proj.lora_" in name for name in found)
    # One tower may be left as it is.
    one = copy.deepcopy(merged(towers)).requires_grad_(True)
    one.__dict__["backbones"] = ("images", "texts")
    adapt(one, Adaptation("lora", LoraConfig(filter=("q_proj",))), name="clip")
    assert len(trains(one)) * 2 == len(found)


def test_what_can_not_be_adapted_is_said() -> None:
    with pytest.raises(WrongInput, match=r"filter: nothing match no layer of one; .* called dense, key, query, value$"):
        adapted(bert(), "lora", filter=["nothing"])
    with pytest.raises(WrongInput, match="within module_filter decoder"):
        adapted(bert(), "ia3", module_filter=["decoder"])
    bare = Branch(nn.Sequential(nn.Linear(4, 4, bias=False)), 4)
    with pytest.raises(WrongInput, match="'bit_fit' is not possible; the backbone of one has no biases"):
        adapted(bare, "bit_fit")
    with pytest.raises(WrongInput, match=r"optimization.lora.filter: '\(' is not possible"):
        make({"optimization.lora.filter": ["("]})
    with pytest.raises(WrongInput, match=r"extra_trainable_params: \['x'\] is not possible; it must be left out where"):
        make(given("optim.extra_trainable_params: [x]\n"))
    with pytest.raises(
        WrongInput, match=r"extra_trainable_params: 'decoder' is the start of no name .*; they have emb"
    ):
        check_extra([bert()], Adaptation("lora", extra=("encoder", "decoder")))
    with pytest.raises(WrongInput, match=r"optimization.peft: 'conv_lora' is of SAM's own"):
        make(given("optim.peft: conv_lora\n"))
    with pytest.raises(WrongInput, match=r"optimization.peft: 'lorra' is not possible; it must be null or one of"):
        make(given("", ["optimization.efficient_finetune=lorra"]))


def test_a_model_of_tables_has_nothing_to_adapt() -> None:
    numbers = (Column("x", "numerical", "double", {}), Column("y", "numerical", "double", {}))
    model: ModelConfig = build_config({"names": ["numerical_mlp"]})
    with pytest.raises(WrongInput, match=r"optimization.peft: 'lora' is not possible; numerical_mlp train from the"):
        choose(model, Schema("y", "regression", (), numbers), adaptation=Adaptation("lora"))
