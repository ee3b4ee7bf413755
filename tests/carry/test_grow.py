"""Grown classes: old rows of every head keep their bits, new ones are those of the seed, nothing else changes."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import torch

from carryover.carry.grow import grow_head
from carryover.data.config import DataConfig
from carryover.data.schema import Column, Schema
from carryover.ground.errors import WrongInput
from carryover.models.assembly import build_config, build_network, build_preprocessing, choose
from carryover.models.layers import Network
from carryover.models.peft import Adaptation
from carryover.tasks.task import make_task, restore_task, task_files
from tests.models.test_networks import SCHEMA as TABLE
from tests.models.test_networks import batch
from tests.support.tiny_bert import save_tiny_bert
from tests.support.tiny_clip import save_tiny_clip
from tests.support.tiny_timm import save_tiny_timm

PHOTO = Column("photo", "image_bytes", "binary", {})


def schema(*classes: Any, columns: tuple[Column, ...] = TABLE.columns) -> Schema:
    return Schema("y", "binary" if len(classes) == 2 else "multiclass", classes, columns)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    made = tmp_path_factory.mktemp("tiny")
    return {
        "hf_text": save_tiny_bert(made / "bert"),
        "clip": save_tiny_clip(made / "clip"),
        "timm_image": save_tiny_timm(made / "timm", weights="model.safetensors"),
    }


def networks(model: dict[str, Any], columns: tuple[Column, ...], peft: str = "") -> tuple[Network, Network, Any]:
    """Returns (a network of two classes that was changed, a fresh one of four, preprocessing)."""
    own = schema("a", "b", columns=columns)
    assembly = choose(build_config(model), own, adaptation=Adaptation(peft) if peft else None)
    preprocessing = build_preprocessing(assembly, own, DataConfig())
    torch.manual_seed(1)
    old = build_network(assembly, preprocessing, 2)
    with torch.no_grad():
        for value in old.parameters():
            value.add_(torch.randn_like(value) * 0.1)
    torch.manual_seed(2)
    return old, build_network(assembly, preprocessing, 4), preprocessing


JOINED = ["hf_text", "numerical_mlp", "fusion_mlp"]


@pytest.mark.parametrize(
    ("names", "heads", "photo", "peft"),
    [
        (["numerical_mlp"], ["numerical_mlp.head"], False, ""),
        (["categorical_mlp"], ["categorical_mlp.head"], False, ""),
        (["ft_transformer"], ["ft_transformer.head.linear"], False, ""),
        (["hf_text"], ["hf_text.head"], False, "lora"),
        (["timm_image"], ["timm_image.head"], True, ""),
        (["clip"], ["clip.head"], True, "ia3"),
        (JOINED, ["fusion_mlp.head", "hf_text.head", "numerical_mlp.head"], False, ""),
    ],
)
def test_every_family_grows_and_old_rows_keep_their_bits(
    folders: dict[str, Path], names: list[str], heads: list[str], photo: bool, peft: str
) -> None:
    model = {"names": names}
    backbones = [name for name in names if name in folders]
    named = {**model, **{name: {"checkpoint_name": str(folders[name])} for name in backbones}}
    old, new, _ = networks(named, (PHOTO, *TABLE.columns) if photo else TABLE.columns, peft)
    before, fresh = old.state_dict(), new.state_dict()
    grown = grow_head(before, new, old_classes=2)
    assert list(grown) == list(fresh)
    changed = sorted(name for name in grown if grown[name].shape != before[name].shape)
    assert changed == sorted(f"{head}.{what}" for head in heads for what in ("bias", "weight"))
    for name in grown:
        if name not in changed:
            assert torch.equal(grown[name], before[name])
            continue
        assert torch.equal(grown[name][:2], before[name])
        assert torch.equal(grown[name][2:], fresh[name][2:])
    new.load_state_dict(grown)


def test_the_old_logits_are_what_they_were() -> None:
    old, new, preprocessing = networks({"names": ["numerical_mlp", "categorical_mlp", "fusion_mlp"]}, TABLE.columns)
    new.load_state_dict(grow_head(old.state_dict(), new, old_classes=2))
    with torch.no_grad():
        before, after = (network.eval()(batch(preprocessing)) for network in (old, new))
    # The last bit may differ: another number of columns is another product of matrices.
    torch.testing.assert_close(after.logits[:, :2], before.logits, rtol=0, atol=1e-6)
    for (_, own), (_, grown) in zip(before.auxiliary, after.auxiliary, strict=True):
        torch.testing.assert_close(grown[:, :2], own, rtol=0, atol=1e-6)


def test_a_model_in_64_bits_stays_one_and_the_network_is_left_alone() -> None:
    old, new, _ = networks({"names": ["numerical_mlp"]}, TABLE.columns)
    fresh = {name: value.clone() for name, value in new.state_dict().items()}
    grown = grow_head(old.double().state_dict(), new, old_classes=2)
    assert {value.dtype for value in grown.values()} == {torch.float64}
    assert all(torch.equal(value, fresh[name]) for name, value in new.state_dict().items())


def test_another_network_is_no_grown_one() -> None:
    old, new, _ = networks({"names": ["numerical_mlp"]}, TABLE.columns)
    other, *_ = networks({"names": ["categorical_mlp"]}, TABLE.columns)
    wide, *_ = networks({"names": ["numerical_mlp"], "numerical_mlp": {"hidden_size": 7}}, TABLE.columns)
    for weights, classes in ((other.state_dict(), 2), (wide.state_dict(), 2), (old.state_dict(), 3)):
        with pytest.raises(WrongInput, match="differ in more than the number of classes: "):
            grow_head(weights, new, old_classes=classes)


def test_a_task_grows_behind_its_own_classes() -> None:
    task = make_task(schema("no", "yes"), DataConfig(pos_label="no"))
    grown = task.grown(schema("yes", "maybe", "no", "never"))
    assert (grown.problem_type, grown.classes, grown.positive) == ("multiclass", ("no", "yes", "maybe", "never"), None)
    assert restore_task(task_files(grown)) == grown
    rows = pa.table({"y": ["never", "no", "yes", "maybe"]})
    assert grown.targets(rows).tolist() == [3, 0, 1, 2]
    # Where nothing is new, also with fewer classes, it stays what it is, the positive class too.
    assert task.grown(schema("yes", "no")) is task
    numbers = make_task(schema(0, 1, 2), DataConfig())
    assert numbers.grown(schema(1.0, 2.0, 3.0)).classes == (0, 1, 2, 3.0)
    for other in (Schema("y", "regression", None, TABLE.columns), Schema("z", "binary", ("no", "yes"), TABLE.columns)):
        with pytest.raises(WrongInput, match="--grow-classes: the Model tells classes of 'y' apart"):
            task.grown(other)


def test_a_number_has_nothing_to_grow() -> None:
    column = Column("y", "numerical", "double", {"mean": 1.0, "std": 1.0, "min": 0.0, "max": 2.0})
    number = Schema("y", "regression", None, (column,))
    task = make_task(number, DataConfig())
    assert task.grown(number) is task
