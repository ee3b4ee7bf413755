"""The run's TensorBoard files, read by TensorBoard itself: over kills each step is there exactly once."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from carryover.checkpoint import metrics
from carryover.data.manifest import DatasetCard
from carryover.ground.storage import open_store
from carryover.train.tensorboard import FOLDER, Events
from tests.train.attempts import Killed, Run, dataset

RECIPE = {
    "optimization.log_every_n_steps": 1,
    "optimization.top_k": 1,
    "optimization.patience": 99,
    "optimization.val_check_interval": 1.0,
}


@pytest.fixture(scope="module")
def card(tmp_path_factory: pytest.TempPathFactory) -> DatasetCard:
    return dataset(tmp_path_factory.mktemp("shown"))


def encoded(lines: list[dict[str, Any]]) -> list[bytes]:
    return [json.dumps(line).encode() + b"\n" for line in lines]


def read(folder: Path | str):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = EventAccumulator(str(folder), size_guidance={"scalars": 0, "tensors": 0})
    found.Reload()
    return found


def once(found, tag: str) -> list[int]:
    steps = [event.step for event in found.Scalars(tag)]
    assert max(Counter(steps).values()) == 1, f"{tag}: {steps}"
    return steps


def test_one_curve_over_kills(card: DatasetCard, tmp_path: Path):
    run = Run(card, str(tmp_path / "store"), RECIPE, tmp_path)
    for kill in (6, 2, 7):
        with pytest.raises(Killed):
            run.go(kill_after=kill)
    run.go()
    folder = Path(run.home.store.uri) / FOLDER
    assert len(list(folder.iterdir())) == 3, "an attempt that saved nothing has nothing to show"
    found = read(folder)
    curve = {line["step"]: line for line in run.curve() if "loss" in line}
    assert once(found, "train/loss") == once(found, "attempt") == list(range(1, 17)) == sorted(curve)
    for tag, key in (("train/loss", "loss"), ("train/learning_rate", "learning_rate"), ("attempt", "attempt")):
        assert [event.value for event in found.Scalars(tag)] == pytest.approx([line[key] for line in curve.values()])
    assert once(found, "validation/roc_auc") == once(found, "validation/loss") == [8, 16]
    assert once(found, "save/bytes") and once(found, "save/seconds_blocked")
    words = [event.tensor_proto.string_val[0].decode() for event in found.Tensors("attempts")]
    assert words[0].startswith("attempt 1 starts, ranks: 1") and words[-1] == "attempt 4 ended at step 16: max_epochs"
    assert [word.partition(",")[0] for word in words[1:-1]] == [
        "attempt 3 goes on from step 3",
        "attempt 4 goes on from step 8",
    ]


def test_one_curve_over_a_kill_in_an_object_store(card: DatasetCard, tmp_path: Path, s3_store_uri: str):
    run = Run(card, s3_store_uri, RECIPE, tmp_path)
    with pytest.raises(Killed):
        run.go(kill_after=9)
    run.go()
    assert once(read(f"{run.home.store.uri}/{FOLDER}"), "train/loss") == list(range(1, 17))


def test_what_was_written_before_a_commit_that_never_came_is_dropped(card: DatasetCard, tmp_path: Path):
    """Killed between the curve and the commit's record, a segment knows steps that the next attempt does again."""
    home = open_store(str(tmp_path))
    lines = [{"step": step, "epoch": 0, "attempt": 1, "time": 1.0, "loss": float(step)} for step in range(1, 9)]
    first = Events(home, step=0, attempt=1)
    for name, data in first.content(encoded(lines)).items():
        home.write(name, data)
    again = [{**line, "attempt": 2, "loss": -1.0} for line in lines[4:]]
    second = Events(home, step=4, attempt=2)
    for name, data in second.content(encoded(again)).items():
        home.write(name, data)
    found = read(tmp_path / FOLDER)
    assert [event.value for event in found.Scalars("train/loss")] == [1, 2, 3, 4, -1, -1, -1, -1]
    assert once(found, "attempt") == list(range(1, 9))


def test_a_long_run_writes_as_little_a_save_as_a_short_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(metrics, "SEGMENT_BYTES", 2000)
    home, sizes = open_store(str(tmp_path)), []
    events = Events(home, step=0, attempt=1)
    for step in range(1, 301):
        files = events.content(encoded([{"step": step, "epoch": 0, "attempt": 1, "time": 1.0, "loss": 1.0 / step}]))
        assert files == events.content([]), "a save that failed writes the same again"
        sizes.append(sum(map(len, files.values())))
        if step % 3:
            # (The third one is taken back before it was written: its lines come with the next.)
            for name, data in files.items():
                home.write(name, data)
            events.written()
    assert max(sizes) < 2600 and len(list((tmp_path / FOLDER).iterdir())) > 10
    assert once(read(tmp_path / FOLDER), "train/loss") == list(range(1, 300))


def test_a_run_of_an_older_version_is_shown_from_its_start(tmp_path: Path):
    home = open_store(str(tmp_path))
    old = [{"step": step, "epoch": 0, "attempt": 1, "loss": 1.0} for step in range(1, 6)]
    home.write("metrics.jsonl", b"".join(encoded(old)))
    new = encoded([{"step": step, "epoch": 0, "attempt": 2, "loss": 1.0} for step in range(4, 6)])
    for name, data in Events(home, step=3, attempt=2).content(new).items():
        home.write(name, data)
    assert once(read(tmp_path / FOLDER), "train/loss") == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("client", ["boto3", "fsspec"])
def test_tensorboard_reads_it_in_an_object_store(s3_store_uri: str, client: str, monkeypatch: pytest.MonkeyPatch):
    """`tensorboard --logdir s3://...` goes through the same file system code, whichever client is installed."""
    from tensorboard.compat.tensorflow_stub.io import gfile

    if client == "fsspec":
        monkeypatch.delitem(gfile._REGISTERED_FILESYSTEMS, "s3")
    home = open_store(s3_store_uri)
    lines = [{"step": step, "epoch": 0, "attempt": 1, "time": 1.0, "loss": 1.0} for step in range(1, 4)]
    for name, data in Events(home, step=0, attempt=1).content(encoded(lines)).items():
        home.write(name, data)
    assert once(read(f"{s3_store_uri}/{FOLDER}"), "train/loss") == [1, 2, 3]
