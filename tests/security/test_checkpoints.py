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
from carryover.models import hf_source


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


def open_all(folder: Path) -> None:
    """What a first start does with `model.hf_text.checkpoint_name`."""
    hf_source.check_source(str(folder), pretrained=True)
    config = hf_source.open_config(str(folder))
    hf_source.open_tokenizer(str(folder))
    hf_source.build_encoder(config, str(folder))


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
