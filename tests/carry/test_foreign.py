"""Checkpoints of every form, made as their makers write them: found, read, and put into a network bit for bit."""

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file
from torch import Tensor

from carryover.carry.foreign import Sought, Source, open_source
from carryover.carry.match import Match
from carryover.carry.tables import check, gaps, lines, summary
from carryover.carry.take import heads, take
from carryover.carry.transfer import keys_from, placed
from carryover.checkpoint.snapshot import snapshot
from carryover.data.config import DataConfig
from carryover.data.schema import Column, Schema
from carryover.ground.errors import WrongInput
from carryover.ground.storage import open_store
from carryover.models.assembly import Assembly, build_network, build_preprocessing, choose
from carryover.models.export import find_model, make_card, model_files, weights_of, write_model
from carryover.models.layers import Network
from carryover.models.peft import Adaptation
from carryover.tasks.task import make_task, task_files
from carryover.train import recipe as recipes
from tests.support.tiny_bert import save_tiny_bert
from tests.support.tiny_clip import save_tiny_clip
from tests.support.tiny_timm import save_tiny_timm

LABEL = Column("y", "categorical", "string", {"counts": {"no": 5, "yes": 5}})
TEXTS = Schema("y", "binary", ("no", "yes"), (Column("said", "text", "string"), LABEL))
IMAGES = Schema("y", "binary", ("no", "yes"), (Column("seen", "image_bytes", "binary"), LABEL))
Weights = dict[str, Tensor]


class Began:
    """A network of a new task that took what a source has."""

    def __init__(self, source: str, scratch: Path, schema: Schema = TEXTS, **given: Any) -> None:
        found = opened(source, scratch)
        found.copy()
        keys = {name.replace("__", "."): value for name, value in given.items()}
        made = recipes.make({**keys, **keys_from(found.source, keys)})
        self.source: Source = found.source
        self.assembly: Assembly = choose(placed(made.model, self.source), schema, DataConfig())
        preprocessing = build_preprocessing(self.assembly, schema, DataConfig())
        task = make_task(schema, DataConfig())
        self.network: Network = build_network(self.assembly, preprocessing, task.num_outputs)
        self.match: Match = take(self.network, self.assembly, preprocessing, task, self.source)

    def below(self, prefix: str) -> Weights:
        state = self.network.state_dict()
        return {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}


def opened(source: str, scratch: Path) -> Sought:
    return open_source(source, scratch, models=find_model)


def same(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> bool:
    return all(torch.equal(value, other[name]) for name, value in one.items())


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny BERT whose weights nobody else has, as transformers writes it."""
    folder = save_tiny_bert(tmp_path_factory.mktemp("trained"))
    torch.manual_seed(7)
    noisy = {
        name: value + torch.randn_like(value) / 10 for name, value in load_file(folder / "model.safetensors").items()
    }
    save_file(noisy, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def encoder(folder: Path) -> Weights:
    """What of a BERT an encoder of ours has: all but the pooler."""
    whole = load_file(folder / "model.safetensors")
    return {name: value for name, value in whole.items() if not name.startswith("pooler.")}


def renamed(weights: Mapping[str, Tensor], prefix: str) -> Weights:
    return {prefix + name: value.clone() for name, value in weights.items()}


def bare(folder: Path, weights: Weights) -> str:
    save_file(weights, folder / "weights.safetensors")
    return str(folder / "weights.safetensors")


def pickled(name: str, wrap: Callable[[Weights], Any]) -> Callable[[Path, Weights], str]:
    def write(folder: Path, weights: Weights) -> str:
        torch.save(wrap(weights), folder / name)
        return str(folder / name)

    return write


def guide(weights: Weights) -> dict[str, Any]:
    told = {"epoch": 2, "global_step": 30, "best_val": 0.9, "val_loss": 0.3, "config": {"lr": 0.1}}
    return {**told, "model_state_dict": renamed(weights, "encoder."), "optimizer_state_dict": {"state": {}}}


FORMS: dict[str, Callable[[Path, Weights], str]] = {
    "safetensors": bare,
    "bert_for_a_task": lambda folder, w: bare(folder, renamed(w, "bert.") | {"classifier.weight": torch.ones(3, 32)}),
    "torch": pickled("weights.pt", lambda w: w),
    "ddp_and_compile": pickled("weights.bin", lambda w: renamed(w, "module._orig_mod.")),
    "lightning": pickled("last.ckpt", lambda w: {"state_dict": renamed(w, "model.model."), "epoch": 3, "loops": {}}),
    "eir": pickled(
        "run_checkpoint_200_perf-average=0.9.pt", lambda w: renamed(w, "input_modules.said.feature_extractor.")
    ),
    "guide": pickled("checkpoint.pth", guide),
    "guide_short": pickled("state.pt", lambda w: {"model": w, "optimizer": {}, "scaler": None, "epoch": 1, "step": 3}),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_file_gives_the_same_encoder(form: str, bert: Path, tmp_path: Path) -> None:
    base = save_tiny_bert(tmp_path / "base")
    (tmp_path / "there").mkdir()
    place = FORMS[form](tmp_path / "there", encoder(bert))
    began = Began(place, tmp_path / "scratch", model__hf_text__checkpoint_name=str(base))
    assert same(encoder(bert), began.below("hf_text.encoder."))
    assert {fate.name for fate in began.match.new} == {"hf_text.head.weight", "hf_text.head.bias"}
    assert began.source.form == "file"


def test_a_folder_of_transformers_brings_its_tokenizer(bert: Path, tmp_path: Path) -> None:
    shutil.copytree(bert, tmp_path / "there")
    (tmp_path / "there" / "notes.pdf").write_bytes(b"not fetched")
    began = Began(str(tmp_path / "there"), tmp_path / "scratch")
    assert same(encoder(bert), began.below("hf_text.encoder."))
    assert sorted(fate.name for fate in began.match.ignored) == [
        "hf_text/pooler.dense.bias",
        "hf_text/pooler.dense.weight",
    ]
    assert not (tmp_path / "scratch" / "notes.pdf").exists()
    assert began.source.digest == opened(str(bert), tmp_path / "elsewhere").source.digest


def test_automms_dump_holds_a_folder_a_branch(bert: Path, tmp_path: Path) -> None:
    shutil.copytree(bert, tmp_path / "dump" / "hf_text_1")
    image = save_tiny_timm(tmp_path / "dump" / "timm_image", weights="pytorch_model.bin")
    schema = Schema("y", "binary", ("no", "yes"), (TEXTS.columns[0], *IMAGES.columns))
    began = Began(str(tmp_path / "dump"), tmp_path / "scratch", schema)
    assert same(encoder(bert), began.below("hf_text.encoder."))
    assert same(torch.load(image / "pytorch_model.bin"), began.below("timm_image.encoder."))
    assert began.source.form == "dump"
    # The fusion and all heads are new, those of the branches' own losses too, and nothing else.
    parts = {".".join(fate.name.split(".")[:2]) for fate in began.match.new}
    assert {part for part in parts if not part.startswith("fusion_mlp.")} == {"hf_text.head", "timm_image.head"}
    assert any(part.startswith("fusion_mlp.") for part in parts)


def test_automms_predictor_with_lora_is_merged(bert: Path, tmp_path: Path) -> None:
    folder = tmp_path / "AutogluonModels"
    shutil.copytree(bert, folder / "hf_text", ignore=shutil.ignore_patterns("*.safetensors"))
    section = {"names": ["hf_text", "ner_text"], "hf_text": {"checkpoint_name": "local://hf_text"}}
    (folder / "config.yaml").write_text(yaml.safe_dump({"model": section, "optim": {"lora": {"r": 4, "alpha": 8}}}))
    (folder / "assets.json").write_text("{}")
    layer = "encoder.layer.0.attention.self.query"
    torch.manual_seed(1)
    down, up = torch.randn(4, 32), torch.randn(32, 4)
    weights = renamed(encoder(bert), "model.model.") | {
        "model.head.weight": torch.ones(2, 32),
        "model.head.bias": torch.ones(2),
    }
    weights |= {f"model.model.{layer}.lora_A": down, f"model.model.{layer}.lora_B": up}
    torch.save({"state_dict": weights}, folder / "model.ckpt")
    began = Began(str(folder), tmp_path / "scratch")
    got, want = began.below("hf_text.encoder."), encoder(bert)
    torch.testing.assert_close(got.pop(f"{layer}.weight"), want.pop(f"{layer}.weight") + 2 * up @ down)
    assert same(want, {**got, f"{layer}.weight": torch.zeros(())})
    assert began.below("hf_text.head.")["bias"].tolist() == [1, 1]
    assert not began.match.new
    assert not began.match.ignored


def written(
    keys: Mapping[str, Any], store: Path, adaptation: Adaptation | None = None, schema: Schema = TEXTS
) -> tuple[str, Network]:
    """Write a Model that nobody trained, with noise in its adapters; returns its URI and its network."""
    made = recipes.make(keys)
    assembly = choose(made.model, schema, DataConfig(), adaptation=adaptation)
    preprocessing, task = build_preprocessing(assembly, schema, DataConfig()), make_task(schema, DataConfig())
    network = build_network(assembly, preprocessing, task.num_outputs)
    with torch.no_grad():
        for name, value in network.named_parameters():
            value += torch.randn_like(value) / 10 if "lora_" in name else 0
    files = model_files(assembly, preprocessing, task_files(task))
    weights = weights_of(snapshot({f"model/{name}": value for name, value in network.state_dict().items()}))
    told: dict[str, Any] = {"recipe": {}, "run_key": "run", "step": 1, "checkpoint_uri": "", "dataset": {"digest": "d"}}
    card = make_card(files, weights, schema=schema, store=str(store), **told)
    return write_model(open_store(card.at), card, files, weights), network.eval()


@pytest.mark.parametrize("adaptation", [None, Adaptation("lora")], ids=["whole", "lora"])
def test_a_model_gives_all_branches_with_adapters_merged(
    adaptation: Adaptation | None, bert: Path, tmp_path: Path
) -> None:
    uri, network = written({"model.hf_text.checkpoint_name": str(bert)}, tmp_path / "store", adaptation)
    began = Began(uri, tmp_path / "scratch")
    features = {"hf_text/ids": torch.arange(5, 11).view(1, 6), "hf_text/mask": torch.ones(1, 6, dtype=torch.long)}
    features |= {"hf_text/segments": torch.zeros(1, 6, dtype=torch.long)}
    with torch.no_grad():
        mine, theirs = began.network.eval()(features).logits, network(features).logits
    torch.testing.assert_close(
        mine, theirs, rtol=0 if adaptation is None else 1e-5, atol=0 if adaptation is None else 1e-6
    )
    # The same label and classes: its head is worth as much as the rest.
    assert not began.match.new
    assert began.source.lineage["run_key"] == "run"


def test_a_models_head_is_for_its_own_classes(bert: Path, tmp_path: Path) -> None:
    uri, _ = written({"model.hf_text.checkpoint_name": str(bert)}, tmp_path / "store")
    other = Schema("y", "binary", ("off", "on"), TEXTS.columns)
    began = Began(uri, tmp_path / "scratch", other)
    assert {fate.why for fate in began.match.new} == {"the label or its classes are others"}
    assert not gaps(began.match, heads=heads(began.assembly))


def numbers(*names: str) -> Schema:
    known = {"count": 5, "mean": 0.0, "std": 1.0}
    return Schema("y", "binary", ("no", "yes"), (*(Column(n, "numerical", "double", known) for n in names), LABEL))


def test_what_is_bound_to_columns_is_taken_for_the_same_columns_alone(tmp_path: Path) -> None:
    uri, _ = written({"model.names": ["ft_transformer"]}, tmp_path / "store", schema=numbers("a", "b"))
    assert not Began(uri, tmp_path / "one", numbers("a", "b")).match.new
    other = Began(uri, tmp_path / "two", numbers("c", "d")).match
    assert {fate.name.split(".")[1] for fate in other.new} == {"numerical_feature_tokenizer"}
    assert any(fate.name.startswith("ft_transformer.transformer.") for fate in other.loaded)


def test_a_clip_folder_gives_the_towers_that_are_wanted(tmp_path: Path) -> None:
    folder = save_tiny_clip(tmp_path / "clip")
    both = Schema("y", "binary", ("no", "yes"), (TEXTS.columns[0], *IMAGES.columns))
    for schema, towers in ((both, {"images", "texts"}), (IMAGES, {"images"})):
        began = Began(str(folder), tmp_path / str(len(towers)), schema)
        assert {fate.name.split(".")[1] for fate in began.match.loaded} == towers
        assert {fate.name for fate in began.match.new} == {"clip.head.weight", "clip.head.bias"}


def test_adapters_are_never_dropped(bert: Path, tmp_path: Path) -> None:
    weights = renamed(encoder(bert), "model.") | {
        "model.encoder.layer.0.attention.self.query.lora_A": torch.ones(4, 32)
    }
    place = bare(tmp_path, weights)
    with pytest.raises(WrongInput, match=r"1 tensors of adapters \(e\.g\. model\.encoder.*which would be lost"):
        Began(place, tmp_path / "scratch", model__hf_text__checkpoint_name=str(bert))


def test_another_vocabulary_takes_embeddings_token_by_token(bert: Path, tmp_path: Path) -> None:
    base = save_tiny_bert(tmp_path / "base")
    tokenizer = json.loads((base / "tokenizer.json").read_text())
    words = tokenizer["model"]["vocab"]
    one, other = words["good"], words["bad"]
    words["good"], words["bad"], words["splendid"] = other, one, words.pop("movie")
    (base / "tokenizer.json").write_text(json.dumps(tokenizer))
    began = Began(str(bert), tmp_path / "scratch", model__hf_text__checkpoint_name=str(base))
    name = "embeddings.word_embeddings.weight"
    mine, theirs, new = (each[name] for each in (began.below("hf_text.encoder."), encoder(bert), encoder(base)))
    assert torch.equal(mine[other], theirs[one])
    assert torch.equal(mine[words["splendid"]], new[words["splendid"]])
    (fate,) = began.match.resized
    assert fate.why == f"{len(words) - 1} of {len(words)} rows by their names"


def test_timm_fits_positions_to_another_size(tmp_path: Path) -> None:
    save_tiny_timm(tmp_path / "vit", weights="model.safetensors")
    began = Began(str(tmp_path / "vit"), tmp_path / "scratch", IMAGES, model__timm_image__image_size=32)
    (fate,) = began.match.resized
    assert (fate.name, fate.why) == ("timm_image.encoder.pos_embed", "fitted by its library")
    assert not gaps(Match(began.match.loaded, (), began.match.new, began.match.ignored), heads=heads(began.assembly))


def test_it_is_told_by_parts_and_by_names(bert: Path, tmp_path: Path) -> None:
    began = Began(str(bert), tmp_path / "scratch")
    told = lines(began.match)
    assert told[0].split() == ["part", "loaded", "resized", "new", "from"]
    assert told[1].startswith("hf_text.encoder")
    assert told[1].endswith("hf_text/")
    assert told[-1] == "ignored: 1.06 k in 2 (hf_text/pooler.dense.bias, hf_text/pooler.dense.weight)"
    kept = summary(began.match, began.source, heads=heads(began.assembly))
    assert kept["loaded"]["parameters"] == sum(value.numel() for value in encoder(bert).values())
    assert len(kept["loaded"]["names"]) == 20
    assert kept["gaps"] == ["ignored 1.06 k in 2 (hf_text/pooler.dense.bias, hf_text/pooler.dense.weight)"]
    with pytest.raises(WrongInput, match=r"--strict: .* leaves gaps: ignored 1\.06 k"):
        check(began.match, began.source, heads=heads(began.assembly), strict=True)


def test_nothing_that_fits_is_an_error(bert: Path, tmp_path: Path) -> None:
    place = bare(tmp_path, {"other.weight": torch.ones(3, 3)})
    began = Began(place, tmp_path / "scratch", model__hf_text__checkpoint_name=str(bert))
    with pytest.raises(
        WrongInput, match=r"nothing in it fits the new model.*It has other\.weight; the model has hf_text"
    ):
        check(began.match, began.source, heads=heads(began.assembly), strict=False)


class Code:
    """Runs when it is unpickled."""

    def __reduce__(self) -> Any:
        return (Path.touch, (Path("ran"),))


WRONG: dict[str, tuple[Callable[[Path], str], str]] = {
    "nothing": (lambda folder: str(folder / "no" / "where"), "there is nothing"),
    "a folder of other things": (
        lambda folder: put_file(folder, "notes.txt", b"x"),
        "no checkpoint that is known here",
    ),
    "a folder with one file": (lambda folder: put_file(folder, "a.pt", b"x"), "name one of its files: a.pt"),
    "a file of another kind": (lambda folder: put_file(folder, "a.json5", b"x") + "/a.json5", "give a .safetensors"),
    "a config that is none": (lambda folder: put_file(folder, "config.json", b"{"), "is no config of a model"),
    "a folder outside": (
        lambda folder: predictor(folder, "local://../../away"),
        r"'\.\./\.\./away', which is outside of it",
    ),
    "a predictor without models": (lambda folder: predictor(folder, ""), "not the config of an AutoMM predictor"),
    "an empty config": (lambda folder: put_file(folder, "config.json", b"{}"), "names neither a model_type"),
    "a hub name": (lambda folder: "nobody/has-this", "not in the hub's cache and HF_HUB_OFFLINE is set"),
    "another scheme": (lambda folder: "ftp://a/b.pt", "scheme 'ftp' is not supported"),
}


def predictor(folder: Path, checkpoint: str) -> str:
    section = {"names": ["hf_text"], "hf_text": {"checkpoint_name": checkpoint}} if checkpoint else {}
    put_file(folder, "model.ckpt", b"")
    return put_file(folder, "config.yaml", yaml.safe_dump({"model": section}).encode())


def put_file(folder: Path, name: str, data: bytes) -> str:
    (folder / name).write_bytes(data)
    return str(folder)


@pytest.mark.parametrize("what", WRONG)
def test_what_is_no_checkpoint_is_said_in_one_line(what: str, tmp_path: Path) -> None:
    make, words = WRONG[what]
    with pytest.raises(WrongInput, match=words):
        opened(make(tmp_path), tmp_path / "scratch")


UNREADABLE: dict[str, tuple[str, Any, str]] = {
    "code": ("a.pt", Code(), "holds more than tensors, which could be code.*--trust-pickle"),
    "cut": ("a.safetensors", b"\x08\x00", "is no whole safetensors file"),
    "text": ("a.bin", b"not a pickle", "a.bin: "),
    "no tensors": ("a.pt", {"epoch": 3, "name": "x"}, "no state dict in it.*it has epoch, name"),
    "a list": ("a.pt", [1, 2], "holds a list, not a state dict"),
}


@pytest.mark.parametrize("what", UNREADABLE)
def test_what_cannot_be_read_is_said_and_never_run(what: str, bert: Path, tmp_path: Path) -> None:
    name, content, words = UNREADABLE[what]
    place = tmp_path / name
    if isinstance(content, bytes):
        place.write_bytes(content)
    else:
        torch.save(content, place)
    with pytest.raises(WrongInput, match=words):
        Began(str(place), tmp_path / "scratch", model__hf_text__checkpoint_name=str(bert))
    assert not Path("ran").exists()


def test_a_store_far_away_is_as_good(bert: Path, tmp_path: Path, s3_store_uri: str) -> None:
    store = open_store(s3_store_uri)
    for path in bert.iterdir():
        store.upload(path, f"there/{path.name}")
    store.upload(bert / "model.safetensors", "weights.safetensors")
    began = Began(f"{s3_store_uri}/there", tmp_path / "one")
    assert same(encoder(bert), began.below("hf_text.encoder."))
    assert began.source.digest == opened(str(bert), tmp_path / "two").source.digest
    file = Began(f"{s3_store_uri}/weights.safetensors", tmp_path / "three", model__hf_text__checkpoint_name=str(bert))
    assert same(encoder(bert), file.below("hf_text.encoder."))


def test_what_a_bare_state_dict_may_be_is_found_without_a_hub(
    bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cache as the hub's library keeps it; the network would be asked where a name is not in it."""
    from huggingface_hub import constants

    from carryover.carry.candidates import fitting

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    place = tmp_path / "models--someone--tiny-bert"
    shutil.copytree(bert, place / "snapshots" / "abc")
    (place / "refs").mkdir()
    (place / "refs" / "main").write_text("abc")
    shapes = {f"module.{name}": tuple(value.shape) for name, value in encoder(bert).items()}
    assert fitting(shapes, ["hf_text"]) == ["someone/tiny-bert"]
    assert fitting(dict.fromkeys(shapes, (3,)), ["hf_text", "clip"]) == []
