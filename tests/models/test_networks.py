"""Every family and every kind of encoder: shapes, gradients everywhere, precisions, the same from its own files."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch

from carryover.data.config import DataConfig
from carryover.data.schema import Column, Schema
from carryover.ground.errors import WrongInput
from carryover.models.assembly import (
    assembly_from_json,
    build_config,
    build_network,
    build_preprocessing,
    choose,
    renewed,
    restore_preprocessing,
)
from tests.models.encoders import ARCHITECTURES, save_encoder
from tests.support.tiny_bert import save_tiny_bert

ROWS = pa.table(
    {
        "review": ["good film", "bad food it was", None, "very very great"],
        "note": ["one", None, "two three", ""],
        "price": [1.0, None, 3.0, float("nan")],
        "stock": [5, 6, 7, 8],
        "color": ["red", "blue", None, "never seen"],
    }
)
KEYS = np.arange(4, dtype=np.uint64)
SCHEMA = Schema(
    "y",
    "multiclass",
    ("a", "b", "c"),
    (
        Column("review", "text", "string", {}),
        Column("note", "text", "string", {}),
        Column("price", "numerical", "double", {"missing": 2, "count": 2, "mean": 2.0, "std": 1.0, "min": 1, "max": 3}),
        Column(
            "stock", "numerical", "int64", {"missing": 0, "count": 4, "mean": 6.5, "std": 1.118, "min": 5, "max": 8}
        ),
        Column("color", "categorical", "string", {"missing": 1, "counts": {"red": 200, "blue": 100, "rare": 3}}),
        Column("y", "categorical", "string", {"counts": {"a": 1, "b": 1, "c": 2}}),
    ),
)


@pytest.fixture(scope="module")
def encoders(tmp_path_factory) -> dict[str, Path]:
    return {name: save_encoder(tmp_path_factory.mktemp(name), name) for name in ARCHITECTURES}


def assemble(model: dict, schema: Schema = SCHEMA):
    assembly = choose(build_config(model), schema)
    preprocessing = build_preprocessing(assembly, schema, DataConfig())
    torch.manual_seed(1)
    return assembly, preprocessing, build_network(assembly, preprocessing, 3)


def batch(preprocessing, dtype=torch.float32) -> dict[str, torch.Tensor]:
    arrays = preprocessing(ROWS, training=False, keys=KEYS)
    tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
    return {name: value.to(dtype) if value.is_floating_point() else value for name, value in tensors.items()}


def check_gradients(network, inputs) -> None:
    network.train()
    outputs = network(inputs)
    loss = outputs.logits.square().sum() + sum(weight * logits.square().sum() for weight, logits in outputs.auxiliary)
    loss.backward()
    trainable = {name: value for name, value in network.named_parameters() if value.requires_grad}
    assert trainable
    assert [name for name, value in trainable.items() if value.grad is None] == []


def check_restored(assembly, preprocessing, network, outputs: int = 3) -> None:
    files = preprocessing.files()
    again = assembly_from_json(assembly.to_json())
    assert again == assembly
    prepared = restore_preprocessing(again, files)
    other = build_network(again, prepared, outputs, pretrained=False)
    assert list(other.state_dict()) == list(network.state_dict())
    other.load_state_dict(network.state_dict())
    trains = {name for name, value in network.named_parameters() if value.requires_grad}
    assert {name for name, value in other.named_parameters() if value.requires_grad} == trains
    with torch.no_grad():
        first = network.eval()(batch(preprocessing)).logits
        assert torch.equal(other.eval()(batch(prepared)).logits, first)


@pytest.mark.parametrize("pooling", ["cls", "mean"])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_text_encoder_of_every_kind(encoders, architecture, pooling):
    section = {"checkpoint_name": str(encoders[architecture]), "pooling_mode": pooling}
    assembly, preprocessing, network = assemble({"names": ["hf_text"], "hf_text": section})
    inputs = batch(preprocessing)
    assert network(inputs).logits.shape == (4, 3)
    assert network(inputs).auxiliary == ()
    assert all(name.startswith("hf_text.") for name in network.state_dict())
    check_gradients(network, inputs)
    check_restored(assembly, preprocessing, network)


@pytest.mark.parametrize("pooling", ["cls", "mean"])
@pytest.mark.parametrize("architecture", ["bert", "t5"])
def test_pairs_go_through_one_encoder_and_are_compared(encoders, architecture, pooling):
    section = {"checkpoint_name": str(encoders[architecture]), "pooling_mode": pooling, "pair_mode": "siamese"}
    assembly, preprocessing, network = assemble({"names": ["hf_text"], "hf_text": section})
    inputs = batch(preprocessing)
    assert network(inputs).logits.shape == (4, 3)
    # A head that starts at zero lets the encoder's first gradient be zero, but there is one.
    check_gradients(network, inputs)
    check_restored(assembly, preprocessing, network)
    joined = {"names": ["hf_text", "numerical_mlp", "fusion_mlp"], "hf_text": section}
    _, preprocessing, network = assemble(joined)
    check_gradients(network, batch(preprocessing))


def test_a_number_for_a_pair_starts_as_the_cosine_of_its_embeddings(encoders):
    from transformers import AutoModel, AutoTokenizer

    section = {"checkpoint_name": str(encoders["bert"]), "pooling_mode": "mean", "pair_mode": "siamese"}
    label = Column("y", "numerical", "double", {"min": 1.0, "max": 5.0, "mean": 2.0, "std": 0.5})
    schema = Schema("y", "regression", None, (*SCHEMA.columns[:2], label))
    assembly = choose(build_config({"names": ["hf_text"], "hf_text": section}), schema)
    preprocessing = build_preprocessing(assembly, schema, DataConfig())
    network = build_network(assembly, preprocessing, 1).eval()
    check_restored(assembly, preprocessing, network, outputs=1)
    ones, others = ["good film", "bad food", "one"], ["great film it was", "very good food", "one"]
    arrays = preprocessing(pa.table({"review": ones, "note": others}), training=False, keys=KEYS[:3])
    encoder = AutoModel.from_pretrained(encoders["bert"]).eval()
    tokenizer = AutoTokenizer.from_pretrained(encoders["bert"])

    def embed(text: str) -> torch.Tensor:
        ids = [tokenizer.cls_token_id, *tokenizer(text, padding=False).input_ids, tokenizer.sep_token_id]
        return encoder(torch.tensor([ids])).last_hidden_state[0].mean(dim=0)

    with torch.no_grad():
        logits = network({name: torch.from_numpy(array) for name, array in arrays.items()}).logits[:, 0]
        pairs = zip(ones, others, strict=True)
        cosines = torch.stack([torch.cosine_similarity(embed(a), embed(b), dim=0) for a, b in pairs])
    # The least label is a cosine of 0, the largest one of 1; both scaled by mean and standard deviation.
    assert torch.allclose(logits * 0.5 + 2.0, 1.0 + 4.0 * cosines, atol=1e-5)
    assert cosines[2] == pytest.approx(1, abs=1e-6)


class Kept:
    """Counts what autograd keeps for the backward pass, in bytes."""

    def __init__(self) -> None:
        self.bytes = 0

    def __call__(self, tensor: torch.Tensor) -> torch.Tensor:
        self.bytes += tensor.nbytes
        return tensor


@pytest.mark.parametrize("architecture", ["bert", "electra", "t5", "bart"])
def test_checkpointing_gives_the_same_gradients_for_less_memory(encoders, architecture):
    found = {}
    for saves in (False, True):
        section = {"checkpoint_name": str(encoders[architecture]), "gradient_checkpointing": saves}
        assembly, preprocessing, network = assemble({"names": ["hf_text"], "hf_text": section})
        network.train()
        kept = Kept()
        torch.manual_seed(3)
        with torch.autograd.graph.saved_tensors_hooks(kept, lambda tensor: tensor):
            loss = network(batch(preprocessing)).logits.square().sum()
        loss.backward()
        gradients = {name: value.grad for name, value in network.named_parameters() if value.requires_grad}
        found[saves] = kept.bytes, loss.item(), gradients, assembly.portable()
    assert found[True][0] < 0.6 * found[False][0]
    assert found[True][1] == found[False][1]
    # Dropout too is computed again as it was.
    assert all(torch.equal(found[True][2][name], value) for name, value in found[False][2].items())
    # A Model doesn't say how its training saved memory; the next start of the run does.
    assert found[True][3] == found[False][3]
    now = build_config({"names": ["hf_text"], "hf_text": section})
    assert renewed(found[False][3], now).branches[0].config.gradient_checkpointing


def test_tokenizer_of_a_class(tmp_path):
    folder = save_tiny_bert(tmp_path / "bert")
    changed = json.loads((folder / "tokenizer.json").read_text())
    changed["normalizer"]["lowercase"] = False
    (folder / "tokenizer.json").write_text(json.dumps(changed))
    rows, ids = pa.table({"review": ["The Movie"], "note": [""]}), {}
    for kind in ("hf_auto", "bert", "electra"):
        section = {"checkpoint_name": str(folder), "tokenizer_name": kind}
        assembly = choose(build_config({"names": ["hf_text"], "hf_text": section}), SCHEMA)
        preprocessing = build_preprocessing(assembly, SCHEMA, DataConfig())
        again = restore_preprocessing(assembly, preprocessing.files())
        ids[kind] = again(rows, training=False, keys=KEYS[:1])["hf_text/ids"].tolist()
    assert ids["bert"] == ids["electra"] != ids["hf_auto"]
    with pytest.raises(WrongInput, match="tokenizer has ids up to"):
        assemble({"names": ["hf_text"], "hf_text": {"checkpoint_name": str(folder), "tokenizer_name": "clip"}})


@pytest.mark.parametrize("architecture", ["bert", "bart", "roberta", "mpnet"])
def test_longest_row_that_an_encoder_takes(encoders, architecture):
    section = {"checkpoint_name": str(encoders[architecture]), "max_text_len": 0}
    _, preprocessing, network = assemble({"names": ["hf_text"], "hf_text": section})
    rows = pa.table({"review": ["good " * 999] * 2, "note": ["bad " * 999] * 2})
    arrays = preprocessing(rows, training=False, keys=KEYS[:2])
    # RoBERTa counts positions from behind its padding id (0 here), MPNet from behind 1, so some rows are never used.
    assert arrays["hf_text/ids"].shape == (2, {"roberta": 39, "mpnet": 38}.get(architecture, 40))
    assert network({name: torch.from_numpy(array) for name, array in arrays.items()}).logits.isfinite().all()


def test_padding_changes_nothing(encoders):
    for pooling in ("cls", "mean"):
        section = {"checkpoint_name": str(encoders["bert"]), "pooling_mode": pooling}
        _, preprocessing, network = assemble({"names": ["hf_text"], "hf_text": section})
        network.eval()
        with torch.no_grad():
            together = network(batch(preprocessing)).logits
            for row in range(4):
                arrays = preprocessing(ROWS.slice(row, 1), training=False, keys=KEYS[:1])
                alone = network({name: torch.from_numpy(array) for name, array in arrays.items()}).logits
                assert torch.allclose(alone[0], together[row], atol=1e-6)


def test_weights_are_the_checkpoints(encoders):
    from transformers import AutoModel

    section = {"checkpoint_name": str(encoders["bert"])}
    _, _, network = assemble({"names": ["hf_text"], "hf_text": section})
    source = AutoModel.from_pretrained(encoders["bert"]).state_dict()
    mine = {name.removeprefix("hf_text.encoder."): value for name, value in network.state_dict().items()}
    kept = [name for name in source if not name.startswith("pooler.")]
    assert kept
    assert all(torch.equal(mine[name], source[name]) for name in kept)
    _, _, random = assemble({"names": ["hf_text"], "hf_text": {**section, "pretrained": False}})
    assert not torch.equal(random.state_dict()[f"hf_text.encoder.{kept[0]}"], source[kept[0]])


@pytest.mark.parametrize("name", ["categorical_mlp", "numerical_mlp"])
@pytest.mark.parametrize("layers", [1, 3])
def test_table_family(name, layers):
    assembly, preprocessing, network = assemble({"names": [name], name: {"num_layers": layers, "hidden_size": 8}})
    assert network(batch(preprocessing)).logits.shape == (4, 3)
    check_gradients(network, batch(preprocessing))
    check_restored(assembly, preprocessing, network)


@pytest.mark.parametrize("keys", [{}, {"weight": 0}, {"adapt_in_features": "min"}, {"adapt_in_features": "none"}])
def test_fusion_of_all_that_the_columns_offer(encoders, keys):
    model = {"hf_text": {"checkpoint_name": str(encoders["bert"])}, "fusion_mlp": {"hidden_sizes": [12, 6], **keys}}
    assembly, preprocessing, network = assemble(model)
    assert [branch.name for branch in assembly.branches] == ["hf_text", "numerical_mlp", "categorical_mlp"]
    assert assembly.unused == ()
    outputs = network(batch(preprocessing))
    assert outputs.logits.shape == (4, 3)
    assert [weight for weight, _ in outputs.auxiliary] == ([] if keys.get("weight") == 0 else [0.1] * 3)
    assert {name.partition(".")[0] for name in network.state_dict()} == {
        "hf_text", "numerical_mlp", "categorical_mlp", "fusion_mlp"
    }  # fmt: skip
    check_gradients(network, batch(preprocessing))
    check_restored(assembly, preprocessing, network)


@pytest.mark.parametrize("precision", [torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize("architecture", ["bert", "t5"])
def test_precisions(encoders, architecture, precision):
    _, preprocessing, network = assemble({"hf_text": {"checkpoint_name": str(encoders[architecture])}})
    with torch.no_grad():
        exact = network.eval()(batch(preprocessing)).logits
    network.train()
    if precision == torch.float64:
        network.double()
        check_gradients(network, batch(preprocessing, torch.float64))
        assert network(batch(preprocessing, torch.float64)).logits.dtype == torch.float64
        return
    with torch.autocast("cpu", dtype=precision):
        check_gradients(network, batch(preprocessing))
        with torch.no_grad():
            assert torch.allclose(network.eval()(batch(preprocessing)).logits.float(), exact, atol=0.05)


def test_two_instances_of_one_family(encoders):
    names = ["hf_text", "hf_text_small", "fusion_mlp"]
    section = {"checkpoint_name": str(encoders["bert"])}
    other = {"checkpoint_name": str(encoders["distilbert"]), "pooling_mode": "mean"}
    assembly, preprocessing, network = assemble({"names": names, "hf_text": section, "hf_text_small": other})
    assert {name.partition("/")[0] for name in batch(preprocessing)} == {"hf_text", "hf_text_small"}
    # DistilBERT has no segments.
    assert "hf_text/segments" in batch(preprocessing)
    assert "hf_text_small/segments" not in batch(preprocessing)
    check_gradients(network, batch(preprocessing))
    check_restored(assembly, preprocessing, network)


def test_numbers_are_filled_and_scaled():
    _, preprocessing, _ = assemble({"names": ["numerical_mlp"]})
    values = preprocessing(ROWS, training=False, keys=KEYS)["numerical_mlp/values"]
    assert values.dtype == np.float32
    # Filling two gaps of four with the mean leaves half the variance: std 1 becomes sqrt(1/2).
    assert np.allclose(values[:, 0], [-(2**0.5), 0, 2**0.5, 0])
    assert np.allclose(values[:, 1], (np.array([5, 6, 7, 8]) - 6.5) / 1.118)
    text = ROWS.set_column(2, "price", pa.array(["1", None, " 3 ", ""]))
    assert (preprocessing(text, training=False, keys=KEYS)["numerical_mlp/values"] == values).all()
    with pytest.raises(WrongInput, match="column 'price': 'cheap' is not a number"):
        preprocessing(ROWS.set_column(2, "price", pa.array(["cheap"] * 4)), training=False, keys=KEYS)


def test_a_single_number_still_reaches_the_network():
    schema = Schema("y", "multiclass", ("a", "b", "c"), (SCHEMA.column("stock"), SCHEMA.column("y")))
    _, preprocessing, network = assemble({}, schema)
    logits = network.eval()(batch(preprocessing)).logits
    assert len(torch.unique(logits, dim=0)) == 4


def test_rare_unknown_and_missing_categories_share_the_last_id(capsys):
    _, preprocessing, _ = assemble({"names": ["categorical_mlp"]})
    ids = preprocessing(ROWS, training=False, keys=KEYS)["categorical_mlp/ids"]
    assert ids[:, 0].tolist() == [0, 1, 2, 2]
    rare = Column("color", "categorical", "string", {"counts": {"red": 3, "blue": 2}})
    assemble({}, Schema("y", "multiclass", ("a", "b", "c"), (rare, SCHEMA.column("y"))))
    assert "minimum_cat_count can be lowered" in capsys.readouterr().err


def test_whole_numbers_are_one_category_however_stored():
    column = Column("code", "categorical", "string", {"counts": {"1": 200, "2": 150, "true": 120}})
    _, preprocessing, _ = assemble({}, Schema("y", "multiclass", ("a", "b", "c"), (column, SCHEMA.column("y"))))
    for stored in (
        pa.array([2, 1]),
        pa.array([2.0, 1.0]),
        pa.array(["2", "1"]),
        pa.array(["2", "1"]).dictionary_encode(),
    ):
        ids = preprocessing(pa.table({"code": stored}), training=False, keys=KEYS[:2])["categorical_mlp/ids"]
        assert ids[:, 0].tolist() == [1, 0]


def test_equal_weights_and_seed_give_equal_dropout(encoders):
    _, preprocessing, network = assemble({"hf_text": {"checkpoint_name": str(encoders["bert"])}})
    network.train()
    drawn = []
    for seed in (5, 5, 6):
        torch.manual_seed(seed)
        drawn.append(network(batch(preprocessing)).logits)
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])


WRONG = [
    ({"names": ["hf_txt"]}, "did you mean 'hf_text'"),
    ({"names": ["numerical_mlp", "categorical_mlp"]}, "add 'fusion_mlp'"),
    ({"names": ["numerical_mlp", "fusion_mlp"]}, "has only 'numerical_mlp' to join"),
    ({"names": ["numerical_mlp", "numerical_mlp"]}, "stands twice"),
    ({"hf_text": {"checkpoint_name": "/no/such/folder"}}, "there is no folder /no/such/folder"),
    ({"hf_text": {"checkpoint_name": "nobody/no-such-model"}}, "not in the hub's cache and HF_HUB_OFFLINE is set"),
]


@pytest.mark.parametrize(("model", "words"), WRONG)
def test_wrong_models_are_refused_before_anything_is_loaded(model, words, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(WrongInput, match=words):
        choose(build_config(model), SCHEMA)


def test_a_named_family_without_columns_is_an_error():
    schema = Schema("y", "multiclass", ("a", "b", "c"), (SCHEMA.column("stock"), SCHEMA.column("y")))
    with pytest.raises(WrongInput, match=r"'hf_text' has nothing to read; the columns are stock \(numerical\)"):
        choose(build_config({"names": ["hf_text"]}), schema)
    with pytest.raises(WrongInput, match="no column that a model family here reads"):
        choose(build_config({}), Schema("y", "multiclass", ("a", "b", "c"), (SCHEMA.column("y"),)))


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda folder: (folder / "config.json").unlink(), "has no config.json"),
        (lambda folder: (folder / "config.json").write_text("{"), "is not JSON"),
        (lambda folder: (folder / "config.json").write_text("{}"), "names no model_type"),
        (lambda folder: [path.unlink() for path in folder.glob("tokenizer*")], "has no tokenizer"),
        (lambda folder: (folder / "model.safetensors").unlink(), "has no weights .*pretrained: false"),
    ],
)
def test_a_folder_that_cannot_be_opened(tmp_path, damage, words):
    damage(save_encoder(tmp_path / "bert", "bert"))
    with pytest.raises(WrongInput, match=words):
        choose(build_config({"hf_text": {"checkpoint_name": str(tmp_path / "bert")}}), SCHEMA)


def test_weights_of_another_model_are_refused(tmp_path):
    folder = save_encoder(tmp_path / "bert", "bert")
    (folder / "model.safetensors").write_bytes((save_encoder(tmp_path / "t5", "t5") / "model.safetensors").read_bytes())
    with pytest.raises(WrongInput, match=r"lack .* tensors of the encoder"):
        assemble({"names": ["hf_text"], "hf_text": {"checkpoint_name": str(folder)}})
