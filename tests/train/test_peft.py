"""A training of few parameters: killed and resumed it ends with the same bits, and the frozen rest is written once."""

import random
from pathlib import Path
from typing import Any

import pytest

from carryover.checkpoint.home import RunHome
from carryover.checkpoint.log import Record
from carryover.data.manifest import DatasetCard, load_card
from carryover.ground.errors import WrongInput
from carryover.steps.prepare_data import prepare_data
from carryover.train import recipe as recipes
from tests.support.tiny_bert import save_tiny_bert
from tests.train.attempts import Killed, Run
from tests.train.test_families import check_model, check_two_ranks, review

# Names, a record's other objects and a pack's head beside the tensors themselves.
PACKED = 200


def reviews(folder: Path) -> DatasetCard:
    chance, lines = random.Random(0), ["review,size,liked"]
    for _ in range(60):
        label = chance.randint(0, 1)
        lines.append(f"{review(chance, label)},{chance.gauss(label, 1):.3f},{'yes' if label else 'no'}")
    (folder / "rows.csv").write_text("\n".join(lines) + "\n")
    result = prepare_data(
        source=[str(folder / "rows.csv")],
        label="liked",
        store=str(folder / "store"),
        column_types={"review": "text"},
        problem_type="binary",
        validation_fraction=0.2,
        train_fraction=0.7,
    )
    return load_card(result["uri"])


def settings(folder: Path) -> dict[str, Any]:
    return {
        "model.names": ["hf_text", "numerical_mlp", "fusion_mlp"],
        "model.hf_text.checkpoint_name": str(save_tiny_bert(folder / "bert")),
        "model.numerical_mlp.hidden_size": 8,
        "model.fusion_mlp.hidden_sizes": [8],
        "model.fusion_mlp.adapt_in_features": "min",
        "optimization.peft": "lora_bias",
        "optimization.lora.r": 2,
        "optimization.top_k_average_method": "best",
        "optimization.val_check_interval": 1.0,
        "checkpoint.every_steps": 1,
        "checkpoint.keep_last": 100,
    }


def commits(home: RunHome) -> list[Record]:
    return [record for record in map(home.log.read, home.log.numbers()) if record.kind == "commit"]


def written(home: RunHome) -> list[int]:
    """Return the bytes of packs that each commit wrote: those that no commit before it refers to."""
    seen: set[str] = set()
    found = []
    for record in commits(home):
        packs = home.objects.load_table(record.table).packs
        found.append(sum(pack.size for pack in packs if pack.digest not in seen))
        seen |= {pack.digest for pack in packs}
    return found


def test_a_killed_training_ends_with_the_same_bits_and_writes_only_what_trains(tmp_path: Path) -> None:
    card, values = reviews(tmp_path), settings(tmp_path)
    straight = Run(card, str(tmp_path / "straight"), values, tmp_path / "one")
    broken = Run(card, str(tmp_path / "broken"), values, tmp_path / "two")
    straight.go()
    for _ in range(2):
        with pytest.raises(Killed):
            broken.go(kill_after=3)
    broken.go()
    assert broken.tensors() == straight.tensors()
    assert broken.finish().body["model"] == straight.finish().body["model"]
    home = broken.home
    table = home.objects.load_table(commits(home)[-1].table)
    learning = {name.split("/")[1] for name in table.tensors if name.startswith("optim/")}
    frozen = {name: entry for name, entry in table.tensors.items() if name.removeprefix("model/") not in learning}
    frozen = {name: entry for name, entry in frozen.items() if name.startswith("model/")}
    inside = {name for name in learning if "encoder" in name}
    assert inside == {name for name in inside if "lora_" in name or name.endswith("bias")}
    # One pack has the frozen rest and nothing else, and the first commit alone wrote it.
    (pack,) = {entry.pack for entry in frozen.values()}
    holds = sum({entry.digest: entry.size for entry in frozen.values()}.values())
    assert holds <= table.packs[pack].size <= holds + PACKED * len(frozen)
    first, *later = written(home)
    changing = sum(entry.size for name, entry in table.tensors.items() if name not in frozen)
    # (A step whose predecessor is still being saved is not committed: how many commits there are is the load's.)
    assert {record.attempt for record in commits(home)} == {1, 2, 3}
    assert max(later) <= changing + PACKED * len(table.tensors) < holds < first
    # The finish too: what it has of its own are the weights that train.
    finish = home.objects.load_table(broken.finish().table)
    assert table.packs[pack] in finish.packs
    assert sum(other.size for other in finish.packs if other != table.packs[pack]) <= 2 * changing
    check_model(broken, tmp_path / "model")


def test_a_soup_of_adapters_reads_and_changes_what_trains_alone(tmp_path: Path) -> None:
    values = {**settings(tmp_path), "optimization.top_k_average_method": "uniform_soup", "optimization.top_k": 3}
    run = Run(reviews(tmp_path), str(tmp_path / "runs"), values, tmp_path / "one")
    run.go(optimization__val_check_interval=1)
    home, finish = run.home, run.finish()
    assert len(finish.body["metrics"]["model_steps"]) == 3
    soup, last = (home.objects.load_table(record.table).tensors for record in (finish, commits(home)[-1]))
    same = {name for name in soup if soup[name].digest == last[name].digest}
    learning = {name for name in soup if f"optim/{name.removeprefix('model/')}/exp_avg" in last}
    assert same.isdisjoint(name for name in learning if "lora_" in name)
    assert same >= soup.keys() - learning


def test_a_run_keeps_what_trains(tmp_path: Path) -> None:
    old = recipes.make({"optimization.peft": "lora"})
    for key, value in (("optimization.peft", "ia3"), ("optimization.lora.r", 4)):
        with pytest.raises(WrongInput, match=rf"{key}: run one has .* can't change in a run that exists"):
            recipes.check_changes(old.flat(), recipes.make({**old.flat(), key: value}), run="one")


@pytest.mark.slow
def test_two_ranks_give_the_curve_of_one(tmp_path: Path) -> None:
    """Ranks reduce what trains and nothing else; each backbone's frozen rest has no gradient to wait for."""
    values = {**settings(tmp_path), "optimization.log_every_n_steps": 1, "env.batch_size": 8}
    check_two_ranks(reviews(tmp_path), values, tmp_path)


def test_less_memory_changes_no_bit(tmp_path: Path) -> None:
    """Nothing before the first adapter has a gradient: computing layers again must not lose theirs."""
    card, values = reviews(tmp_path), {**settings(tmp_path), "optimization.max_epochs": 1}
    runs = [Run(card, str(tmp_path / name), values, tmp_path / f"{name}-rows") for name in ("one", "two")]
    runs[0].go()
    runs[1].go(model__hf_text__gradient_checkpointing=True)
    assert runs[0].tensors() == runs[1].tensors()
