"""A training on texts with all that is random in it: killed, resumed with less memory, the same bits in the end."""

import random
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from carryover.data.manifest import DatasetCard, load_card
from carryover.ground.storage import open_store
from carryover.models.export import find_model, load_model, write_model
from carryover.steps.prepare_data import prepare_data
from carryover.train.outcome import model_of
from tests.support.tiny_bert import COMMON, save_tiny_bert
from tests.train.attempts import Killed, Run


def pairs(folder: Path) -> DatasetCard:
    """Two texts of a dozen words a row, and how many of them they share."""
    chance, lines = random.Random(0), ["one,other,shared"]
    for _ in range(50):
        one = chance.sample(COMMON, 12)
        other = [word if chance.random() < 0.5 else chance.choice(COMMON) for word in one]
        lines.append(f"{' '.join(one)},{' '.join(other)},{sum(a == b for a, b in zip(one, other, strict=True)) / 2}")
    (folder / "pairs.csv").write_text("\n".join(lines) + "\n")
    result = prepare_data(
        source=[str(folder / "pairs.csv")],
        label="shared",
        store=str(folder / "store"),
        column_types={"one": "text", "other": "text"},
        problem_type="regression",
    )
    return load_card(result["uri"])


def test_a_resume_with_other_memory_ends_with_the_same_bits(tmp_path):
    card = pairs(tmp_path)
    values = {
        "model.hf_text.checkpoint_name": str(save_tiny_bert(tmp_path / "bert")),
        "model.hf_text.pair_mode": "siamese",
        "model.hf_text.pooling_mode": "mean",
        "model.hf_text.max_text_len": 12,
        "model.hf_text.stochastic_chunk": True,
        "model.hf_text.text_trivial_aug_maxscale": 0.3,
        "data.text.normalize_text": True,
        "optimization.max_epochs": 2,
        "checkpoint.every_steps": 1,
    }
    straight = Run(card, str(tmp_path / "straight"), values, tmp_path / "one")
    broken = Run(card, str(tmp_path / "broken"), values, tmp_path / "two")
    straight.go()
    with pytest.raises(Killed):
        broken.go(kill_after=2)
    broken.go(model__hf_text__gradient_checkpointing=True, env__num_workers=1)
    assert broken.tensors() == straight.tensors()
    assert broken.finish().body["model"] == straight.finish().body["model"]
    model, files, weights = model_of(broken.home, broken.finish())
    write_model(open_store(str(tmp_path / "model")), model, files, weights)
    loaded = load_model(find_model(str(tmp_path / "model")), num_outputs=1)
    assert not loaded.assembly.branches[0].config.gradient_checkpointing
    treatment = loaded.preprocessing.branches["hf_text"].treatment  # type: ignore[attr-defined]
    assert treatment.normalize and treatment.stochastic_chunk


def test_a_resume_may_group_no_longer_and_trains_on_the_same_global_batches(tmp_path: Path) -> None:
    keys = {"optimization.max_epochs": 2, "checkpoint.every_steps": 1, "data.record_samples": True}
    values = {"model.hf_text.checkpoint_name": str(save_tiny_bert(tmp_path / "bert")), **keys}
    run = Run(pairs(tmp_path), str(tmp_path / "grouped"), values, tmp_path / "one")
    with pytest.raises(Killed):
        run.go(kill_after=2)
    shutil.copytree(run.store, tmp_path / "not")
    other = replace(run, store=str(tmp_path / "not"), scratch=tmp_path / "two")
    run.go()
    other.go(env__group_by_length=False)
    assert other.global_batches() == run.global_batches()
    assert other.tensors() != run.tensors()
