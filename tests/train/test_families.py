"""Every model family: killed in the middle of an epoch it ends with the same bits; its Model answers the same anywhere.

A family's author adds a line to `CASES`; a family without one fails the first test.
"""

import json
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from carryover.data.loader import MicroBatches, evaluation_micros, load
from carryover.data.manifest import DatasetCard, load_card
from carryover.data.rows import Rows
from carryover.ground.storage import open_store
from carryover.models.export import find_model, load_model, write_model
from carryover.models.registry import FAMILIES
from carryover.steps.prepare_data import prepare_data
from carryover.tasks.task import restore_task
from carryover.train import recipe as recipes
from carryover.train.outcome import model_of
from carryover.train.parts import Parts, build_parts
from carryover.train.validate import predict
from tests.support.tiny_bert import save_tiny_bert
from tests.support.tiny_clip import save_tiny_clip
from tests.support.tiny_timm import photo, save_tiny_timm
from tests.train.attempts import Killed, Run

ROWS = 96


@dataclass(frozen=True)
class Case:
    """What a family is tried on.

    Attributes:
        columns: name -> gives a row's value from a source of chance and the label (0 or 1).
        recipe: keys, given a folder for tiny checkpoints that they name.
        types: given column types, where they would be inferred otherwise.
        source: writes the source itself, for what a CSV can't hold; returns what `prepare_data` takes as --source.
        batch_norm: whether it has BatchNorm, whose curve depends on the ranks.
    """

    columns: Mapping[str, Callable[[random.Random, int], str]]
    recipe: Callable[[Path], dict[str, Any]]
    types: Mapping[str, str] = field(default_factory=dict)
    source: Callable[[Path], Path] | None = None
    batch_norm: bool = False


def number(chance: random.Random, label: int) -> str:
    return "" if chance.random() < 0.1 else f"{chance.gauss(label, 1):.4f}"


def kind(chance: random.Random, label: int) -> str:
    return chance.choice("abcdefg" if label else "efghijk")


def review(chance: random.Random, label: int) -> str:
    good, bad = ["good", "great", "best", "love"], ["bad", "poor", "worst", "hate"]
    words = [*chance.sample(good if label else bad, 2), *chance.sample(["the", "movie", "was", "very", "film"], 3)]
    return " ".join(words[: chance.randint(3, 5)])


NUMBERS = {"x": number, "y": number}
TABLE = {**NUMBERS, "kind": kind, "shape": kind}
TABLE_TYPES = {"kind": "categorical", "shape": "categorical"}


TINY_TOKENS = {
    f"model.ft_transformer.{name}": value
    for name, value in {"token_dim": 8, "hidden_size": 16, "ffn_hidden_size": 16, "num_blocks": 2}.items()
}


def tiny_text(folder: Path) -> dict[str, Any]:
    return {"model.hf_text.checkpoint_name": str(save_tiny_bert(folder / "bert"))}


def photos(folder: Path) -> Path:
    """Write rows that name images of two columns: some have two, some none, some a name without an image."""
    chance = random.Random(0)
    (folder / "photos").mkdir(parents=True)
    lines = ["front,back,liked"]
    for row in range(ROWS):
        label = chance.randint(0, 1)
        for name in "abc":
            (folder / "photos" / f"{row}{name}.png").write_bytes(photo(chance, label))
        front = chance.choice([f"photos/{row}a.png;photos/{row}b.png", f"photos/{row}a.png", "photos/none.png"])
        lines.append(f"{front},{chance.choice([f'photos/{row}c.png', ''])},{'yes' if label else 'no'}")
    (folder / "photos.csv").write_text("\n".join(lines) + "\n")
    return folder / "photos.csv"


def tiny_image(folder: Path, architecture: str = "vit_tiny_patch16_224") -> dict[str, Any]:
    saved = save_tiny_timm(folder / architecture, architecture, weights="model.safetensors")
    more = {"checkpoint_name": str(saved), "max_image_num_per_column": 2}
    return {"model.names": ["timm_image"], **{f"model.timm_image.{name}": value for name, value in more.items()}}


def captioned(folder: Path) -> Path:
    """Write the rows of `photos` with a text that some of them lack."""
    chance = random.Random(1)
    header, *lines = photos(folder).read_text().splitlines()
    said = [chance.choice(["", review(chance, line.endswith("yes"))]) for line in lines]
    texts = [f"{text},{line}" for text, line in zip(said, lines, strict=True)]
    (folder / "photos.csv").write_text("\n".join([f"said,{header}", *texts]) + "\n")
    return folder / "photos.csv"


def tiny_clip(folder: Path) -> dict[str, Any]:
    more = {"checkpoint_name": str(save_tiny_clip(folder / "clip")), "max_image_num_per_column": 2}
    return {"model.names": ["clip"], **{f"model.clip.{name}": value for name, value in more.items()}}


CASES: dict[str, Case] = {
    "numerical_mlp": Case(NUMBERS, lambda _: {"model.names": ["numerical_mlp"]}),
    "categorical_mlp": Case(
        {"kind": kind, "shape": kind}, lambda _: {"model.names": ["categorical_mlp"]}, types=TABLE_TYPES
    ),
    "clip": Case({}, tiny_clip, types={"front": "image_path", "back": "image_path", "said": "text"}, source=captioned),
    "ft_transformer": Case(TABLE, lambda _: {"model.names": ["ft_transformer"], **TINY_TOKENS}, types=TABLE_TYPES),
    "fusion_mlp": Case(
        {**TABLE, "review": review},
        lambda folder: {
            "model.names": ["numerical_mlp", "categorical_mlp", "hf_text", "fusion_mlp"],
            **tiny_text(folder),
        },
        types={**TABLE_TYPES, "review": "text"},
    ),
    "timm_image": Case({}, tiny_image, types={"front": "image_path", "back": "image_path"}, source=photos),
    "hf_text": Case(
        {"review": review}, lambda folder: {"model.names": ["hf_text"], **tiny_text(folder)}, types={"review": "text"}
    ),
}
SMALL: dict[str, Any] = {
    "optimization.max_epochs": 2,
    "optimization.log_every_n_steps": 1,
    # A soup's weights are in no commit, and those of a commit are what a Model is compared with.
    "optimization.top_k_average_method": "best",
    "optimization.val_check_interval": 1.0,
    "checkpoint.every_steps": 2,
    "checkpoint.keep_last": 100,
}


def prepared(case: Case, folder: Path) -> DatasetCard:
    """Write the case's rows and prepare them as a dataset."""
    source = case.source(folder) if case.source else _write(case, folder / "rows.csv")
    result = prepare_data(
        source=[str(source)],
        label="liked",
        store=str(folder / "store"),
        column_types=case.types,
        problem_type="binary",
        train_fraction=0.7,
        validation_fraction=0.2,
    )
    return load_card(result["uri"])


def _write(case: Case, path: Path) -> Path:
    chance = random.Random(0)
    lines = [",".join([*case.columns, "liked"])]
    for _ in range(ROWS):
        label = chance.randint(0, 1)
        lines.append(",".join([*(make(chance, label) for make in case.columns.values()), "yes" if label else "no"]))
    path.write_text("\n".join(lines) + "\n")
    return path


def parts_of(run: Run) -> Parts:
    """Return the network, with the weights of the commit that the Model was made from, as an attempt builds it."""
    recipe, home = recipes.make({**SMALL, **run.recipe}), run.home
    commits = [record for record in home.commits() if record.step == run.finish().step]
    return build_parts(recipe.model, recipe.data, run.card.schema, home, home.load(commits[-1]), seed=recipe.seed)


def answers(network: torch.nn.Module, preprocessing: Any, task: Any, run: Run) -> np.ndarray:
    """Return the logits of the validation split."""
    rows = Rows.open(Path(run.claim({}).rows["validation"]))
    batches = MicroBatches(rows, preprocessing, task.targets, training=False)
    micros = evaluation_micros(rows=len(rows), micro_size=8, rank=0, world=1)
    return predict(network, load(micros, batches, workers=0), task, device=torch.device("cpu")).logits


# Families of pictures with boxes or masks -> the tests that do the same with such.
ELSEWHERE = {"mmdet_image": "test_detection.py", "sam": "test_segmentation.py"}


def test_every_family_has_a_case() -> None:
    assert tuple(sorted([*CASES, *ELSEWHERE])) == FAMILIES.names()


@pytest.mark.parametrize("name", sorted(CASES))
def test_killed_in_the_middle_of_an_epoch_it_ends_with_the_same_bits_and_a_whole_model(
    name: str, tmp_path: Path
) -> None:
    case = CASES[name]
    card = prepared(case, tmp_path)
    places = tmp_path / "checkpoints"
    values = {**SMALL, **case.recipe(places)}
    straight = Run(card, str(tmp_path / "straight"), values, tmp_path / "one")
    broken = Run(card, str(tmp_path / "broken"), values, tmp_path / "two")
    straight.go()
    with pytest.raises(Killed):
        broken.go(kill_after=3)
    with pytest.raises(Killed):
        broken.go(kill_after=3)
    # From here on no checkpoint's folder is needed: not to resume, not for the Model.
    shutil.rmtree(places, ignore_errors=True)
    broken.go()
    assert broken.finish().body["metrics"]["steps"] >= 8
    assert broken.tensors() == straight.tensors()
    assert broken.finish().body["model"] == straight.finish().body["model"]
    check_model(broken, tmp_path / "model")


def check_model(run: Run, folder: Path) -> None:
    """The exported Model, read again, says what the trained network said; other weights would say something else."""
    model, files, weights = model_of(run.home, run.finish())
    write_model(open_store(str(folder)), model, files, weights)
    parts = parts_of(run)
    want = answers(parts.network, parts.preprocessing, parts.task, run)
    loaded = load_model(find_model(str(folder)), num_outputs=2)
    assert np.array_equal(answers(loaded.network, loaded.preprocessing, restore_task(loaded.files), run), want)
    assert len(np.unique(want, axis=0)) > 1


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(name for name, case in CASES.items() if not case.batch_norm))
def test_two_ranks_give_the_curve_of_one(name: str, tmp_path: Path) -> None:
    case = CASES[name]
    card = prepared(case, tmp_path)
    check_two_ranks(card, {**SMALL, **case.recipe(tmp_path / "checkpoints")}, tmp_path)


def check_two_ranks(card: DatasetCard, values: dict[str, Any], folder: Path) -> None:
    """Two ranks have the losses of one, step by step."""
    alone = Run(card, str(folder / "alone"), values, folder / "one")
    alone.go()
    together = Run(card, str(folder / "together"), values, folder / "two")
    plan = {"spec": together.claim({}).as_json(), "stop_after": -1, "kill_after": -1}
    (folder / "plan.json").write_text(json.dumps(plan))
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    ended = subprocess.run(
        [*torchrun, "-m", "tests.support.attempt_rank", str(folder / "plan.json")],
        env={**os.environ, "OMP_NUM_THREADS": "1"}, cwd=Path(__file__).parents[2],
        capture_output=True, text=True, check=False, timeout=240,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr[-3000:]
    one, two = curve(alone), curve(together)
    assert one.keys() == two.keys()
    assert len(one) >= 8
    assert two == pytest.approx(one, rel=2e-3, abs=2e-4)


def curve(run: Run) -> dict[str, float]:
    """Return the loss of each step."""
    return {f"{line['step']}": line["loss"] for line in run.curve() if "loss" in line}
