"""Checkpoints of others: what they bring along as code is never run, neither from a pickle nor from a Python file."""

import contextlib
import io
import json
import os
import pickle
import shutil
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoConfig

from carryover.ground.errors import WrongInput
from carryover.models import hf_source, trust
from carryover.steps.prepare_data import prepare_data
from carryover.train.recipe import keys, make
from tests.conftest import CarryoverCli
from tests.support.last_words import error_of
from tests.train.attempts import SMALL


class Payload:
    """Unpickling it makes a file: the simplest thing that code could do."""

    def __init__(self, proof: Path) -> None:
        self.proof = proof

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.proof),)


@pytest.fixture
def proof(tmp_path: Path) -> Path:
    """There once code of a checkpoint was run."""
    return tmp_path / "proof"


@pytest.fixture
def folder(tiny_bert: Path, tmp_path: Path) -> Path:
    """A checkpoint without weights."""
    shutil.copytree(tiny_bert, tmp_path / "checkpoint")
    (tmp_path / "checkpoint" / "model.safetensors").unlink()
    return tmp_path / "checkpoint"


def open_all(folder: Path) -> torch.nn.Module:
    """What a first start does with `model.hf_text.checkpoint_name`."""
    hf_source.check_source(str(folder), pretrained=True)
    config = hf_source.open_config(str(folder))
    hf_source.open_tokenizer(str(folder))
    return hf_source.build_encoder(config, str(folder))


def zipped(payload: object) -> bytes:
    file = io.BytesIO()
    torch.save({"embeddings.word_embeddings.weight": payload}, file)
    return file.getvalue()


PICKLES = {"plain": pickle.dumps, "zipped": zipped}


@pytest.mark.parametrize("kind", PICKLES)
def test_a_pickle_with_code_is_refused_and_not_run(folder: Path, proof: Path, kind: str) -> None:
    data = PICKLES[kind](Payload(proof))
    (folder / "pytorch_model.bin").write_bytes(data)
    with pytest.raises(WrongInput, match=r"model\.hf_text\.checkpoint_name: the weights of "):
        open_all(folder)
    assert not proof.exists()
    # The control: the payload does what it says wherever a pickle is believed.
    with contextlib.suppress(RuntimeError):
        torch.load(io.BytesIO(data), weights_only=False)
    assert proof.exists()


def test_a_shard_of_pickled_weights_is_no_way_in_either(folder: Path, proof: Path) -> None:
    index = {"metadata": {}, "weight_map": {"embeddings.word_embeddings.weight": "pytorch_model-00001-of-00001.bin"}}
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps(index))
    (folder / "pytorch_model-00001-of-00001.bin").write_bytes(zipped(Payload(proof)))
    with pytest.raises(WrongInput, match=r"model\.hf_text\.checkpoint_name"):
        open_all(folder)
    assert not proof.exists()


def test_pickled_weights_that_are_tensors_only_can_be_used(folder: Path, tiny_bert: Path) -> None:
    weights = load_file(tiny_bert / "model.safetensors")
    torch.save(weights, folder / "pytorch_model.bin")
    encoder = hf_source.build_encoder(hf_source.open_config(str(folder)), str(folder))
    name = "embeddings.word_embeddings.weight"
    assert torch.equal(encoder.state_dict()[name], weights[name])


class Tensor:
    """Unpickling it makes a file, and gives a tensor as if nothing had been: nobody sees that code was run."""

    def __init__(self, proof: Path, tensor: torch.Tensor) -> None:
        self.proof = proof
        self.tensor = tensor

    def __reduce__(self) -> tuple[object, tuple[str, dict[str, object]]]:
        return eval, ("__import__('os').mkdir(proof) or tensor", {"proof": str(self.proof), "tensor": self.tensor})


def poisoned(folder: Path, tiny_bert: Path, proof: Path) -> None:
    """Give a checkpoint good weights as a pickle, one of which is not only a tensor."""
    weights: dict[str, object] = {**load_file(tiny_bert / "model.safetensors")}
    name = "embeddings.word_embeddings.weight"
    torch.save({**weights, name: Tensor(proof, weights[name])}, folder / "pytorch_model.bin")  # pyright: ignore[reportArgumentType]


def test_only_trust_lets_a_pickle_run(
    folder: Path, tiny_bert: Path, proof: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    poisoned(folder, tiny_bert, proof)
    with pytest.raises(WrongInput, match=r"nothing of it was run: .* --trust-pickle where you trust"):
        open_all(folder)
    assert not proof.exists()
    with trust.pickles(trusted=True):
        encoder = open_all(folder)
    assert proof.exists()
    weights = load_file(tiny_bert / "model.safetensors")
    assert all(torch.equal(tensor, weights[name]) for name, tensor in encoder.state_dict().items() if name in weights)
    assert "code in it is run (--trust-pickle)" in capsys.readouterr().err
    proof.rmdir()
    with pytest.raises(WrongInput):
        open_all(folder)
    assert not proof.exists(), "trust has ended with its start"


def test_trust_is_no_key_of_a_recipe() -> None:
    assert not [name for name in keys() if "trust" in name or "pickle" in name]
    with pytest.raises(WrongInput, match="unknown key"):
        make({"env.trust_pickle": True})


def test_an_older_torch_opens_no_weights_of_others() -> None:
    for version in ("2.9.1", "2.5.0+cu121", "1.13.1"):
        with pytest.raises(WrongInput, match=r"can't be opened safely by torch .* it must be 2\.10 or newer"):
            hf_source.check_torch(version)
    for version in ("2.10.0", "2.12.1+cu130", "3.0.0a0+git1"):
        hf_source.check_torch(version)


@pytest.mark.slow
def test_train_ddp_refuses_a_pickle_with_code_until_it_is_trusted(
    carryover_cli: CarryoverCli, folder: Path, tiny_bert: Path, proof: Path, tmp_path: Path
) -> None:
    poisoned(folder, tiny_bert, proof)
    lines = ["review,liked", *(f"a very long {i} story about nothing,{'yes' if i % 2 else 'no'}" for i in range(80))]
    (tmp_path / "rows.csv").write_text("\n".join(lines) + "\n")
    rows, store = str(tmp_path / "rows.csv"), str(tmp_path / "store")
    uri = prepare_data(source=[rows], label="liked", column_types={"review": "text"}, store=store)["uri"]
    recipe = {**SMALL, "model.hf_text.checkpoint_name": folder, "optimization.max_steps": 2}
    settings = [word for name, value in recipe.items() for word in ("--set", f"{name}={value}")]
    flags = ["train-ddp", "--dataset", uri, "--store", "store", *settings]
    refused = carryover_cli(*flags)
    assert refused.rc == 2, refused.stderr
    assert "--trust-pickle where you trust" in error_of(refused.stderr)
    assert not proof.exists()
    trusted = carryover_cli(*flags, "--trust-pickle")
    assert trusted.rc == 0, trusted.stderr
    assert proof.exists()
    proof.rmdir()
    # The run has weights of its own now, and nothing in it says that the next one is to be trusted.
    written = [path for path in (tmp_path / "store").rglob("*.json") if "pickle" in path.read_text(errors="replace")]
    assert written == []
    assert carryover_cli(*flags).rc == 0
    assert not proof.exists()


def with_code(folder: Path, tiny_bert: Path, proof: Path, place: str, settings: dict[str, object]) -> None:
    """Give a checkpoint weights, a Python file, and settings that name it."""
    shutil.copy(tiny_bert / "model.safetensors", folder)
    (folder / "evil.py").write_text(f"import os\nos.mkdir({str(proof)!r})\nclass Evil:\n    pass\n")
    (folder / place).write_text(json.dumps({**json.loads((folder / place).read_text()), **settings}))


CODE = {"AutoConfig": "evil.Evil", "AutoModel": "evil.Evil", "AutoTokenizer": [None, "evil.Evil"]}


@pytest.fixture
def says_yes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Standard input would agree to the question that transformers asks about such code."""
    monkeypatch.setattr(sys, "stdin", io.StringIO("y\n" * 100))


@pytest.mark.usefixtures("says_yes")
def test_code_that_comes_with_a_checkpoint_is_refused_and_not_run(
    folder: Path, tiny_bert: Path, proof: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with_code(folder, tiny_bert, proof, "config.json", {"model_type": "evil", "auto_map": CODE})
    with pytest.raises(WrongInput) as error:
        open_all(folder)
    assert "needs code that comes with the checkpoint, which is never run here" in str(error.value)
    assert "\n" not in str(error.value)
    assert not proof.exists()
    assert "Do you wish" not in capfd.readouterr().out
    # The control: transformers alone asks, takes the yes, and runs it.
    with pytest.raises(Exception, match=r"."):
        AutoConfig.from_pretrained(folder)
    assert proof.exists()


@pytest.mark.usefixtures("says_yes")
@pytest.mark.parametrize("place", ["config.json", "tokenizer_config.json"])
def test_known_encoders_that_also_bring_code_are_opened_without_it(
    folder: Path, tiny_bert: Path, proof: Path, place: str
) -> None:
    more = {} if place == "config.json" else {"tokenizer_class": "Evil"}
    with_code(folder, tiny_bert, proof, place, {**more, "auto_map": CODE})
    open_all(folder)
    assert not proof.exists()
