"""Broken input of every sort through every command: one line that names its entry, and no traceback."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from carryover.ground import console, last_words
from tests.support.last_words import error_of
from tests.troubles.world import GOOD, World, broken_files


def _is_well_said(world: World, *words: object) -> None:
    code, said = world.cli(*words)
    assert code == 2, f"{words}: {code}: {said}"
    assert "Traceback" not in said and "internal" not in said, f"{words}: {said}"
    assert all(sign.isprintable() for sign in error_of(said)), f"{words}: {said!r}"


def test_sources(world: World) -> None:
    for path in broken_files(world).values():
        _is_well_said(world, "prepare-data", "--source", path, "--label", "y", "--store", world.store)
        # It looks at heads only; what it passes prepare-data refuses.
        code, said = world.cli("preflight", "--source", path, "--label", "y", "--store", world.store)
        assert code in (0, 2) and "Traceback" not in said and "internal" not in said, said


@pytest.mark.parametrize(
    "words",
    [
        "train-ddp --dataset {} --store {store}",
        "train-ddp --init-from {} --dataset {small} --store {store}",
        "train-ddp --recipe {} --dataset {small} --store {store}",
        "transfer-train --backbone {} --dataset {small} --store {store}",
        "evaluate --model {} --dataset {small} --store {store}",
        "evaluate --model run:x --dataset {} --store {store}",
        "dump-backbone --model {} --store {store}",
        "promote name --model {} --store {store}",
        "find-model --model {} --store {store}",
        "lineage {} --store {store}",
        "checkpoint ls {}",
        "checkpoint show {}",
        "checkpoint verify {}",
        "checkpoint prune {}",
        "checkpoint export {} -o out.safetensors",
        "checkpoint import {} --dataset {small} --store {store}",
        "preflight --recipe {} --store {store}",
        "prepare-data --source good.csv --label y --schema-from {} --store {store}",
        "rollback {} --store {store}",
        "compile {}",
        "run {}",
        "explain {}",
    ],
)
def test_places(world: World, words: str) -> None:
    world.file("good.csv", GOOD)
    for kind, path in broken_files(world).items():
        # An empty word means that nothing is given, and an empty recipe sets no key.
        if not path or (kind in ("empty.csv", "device") and "--recipe" in words):
            continue
        _is_well_said(world, *(w.format(path, store=world.store, small=world.small.at) for w in words.split()))


def test_recipes_and_settings(world: World) -> None:
    nan = world.file("nan.yaml", "optimization:\n  learning_rate: .nan\n")
    huge = world.file("huge.yaml", "optimization:\n  max_epochs: 99999999999999999999999999\n")
    code = world.file("code.yaml", "seed: !!python/object/apply:os.mkdir [x]\n")
    loop = world.file("loop.yaml", "a: &a [*a]\n")
    for recipe in (nan, huge, code, loop, world.file("list.yaml", "- 1\n"), world.file("half.yaml", "a: [1")):
        _is_well_said(world, "preflight", "--recipe", recipe, "--store", world.store)
    wrong = """a =1 = a:b optimization=3 optimization.learning_rate=.inf optimization.learning_rate=[1]
        model=hf_text optimization.max_epochs=1e400 optimization.max_epochs=-3 seed=99999999999999999999
        model.names=5 model.names=[5] a.b.c=1 model.names=[nope] model.hf_text.max_text_len=abc
        checkpoint.every_steps=0 optimization.learning_rate.x=1"""
    for setting in wrong.split():
        _is_well_said(world, "preflight", "--set", setting, "--store", world.store)


def test_places_to_write_to(world: World) -> None:
    good = world.file("good.csv", GOOD)
    prepare = ("prepare-data", "--source", good, "--label", "y")
    for taken in (good, f"{good}/below", "/dev/null", "x" * 300, "ftp://host/x", "s3://", "a\udcff"):
        _is_well_said(world, *prepare, "--store", taken)
        _is_well_said(world, *prepare, "--store", world.store, "--output", taken)
        _is_well_said(world, *prepare, "--store", world.store, "--outputs-dir", taken)
        _is_well_said(world, "champion", "name", "--store", taken)


def test_wrong_words(world: World) -> None:
    for words in (
        "nothing",
        "train-dp",
        "explain --nope",
        "preflight --store",
        "champion",
        "champion a b",
        "checkpoint x",
    ):
        _is_well_said(world, *words.split())


def test_as_json_it_is_one_line(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    import json

    code, said = world.cli("champion", "x", "--store", "ftp://host", "--log-format", "json")
    told = json.loads(said)
    assert (code, told["level"], told["trouble"]) == (2, "error", "bad-uri")
    assert told["message"].startswith("ftp://host: scheme 'ftp' is not supported")


def test_a_traceback_is_there_for_who_wants_it(world: World) -> None:
    assert "Traceback" not in world.cli("champion", "x", "--store", "ftp://host")[1]
    code, said = world.cli("champion", "x", "--store", "ftp://host", "--debug")
    assert code == 2 and said.startswith("Traceback") and error_of(said)


def test_ctrl_c_is_one_word(tmp_path: Path) -> None:
    """The command waits for a recipe that never comes."""
    pipe = tmp_path / "recipe.yaml"
    os.mkfifo(pipe)
    command = [sys.executable, "-m", "carryover", "preflight", "--recipe", "recipe.yaml", "--store", "store"]
    process = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    try:
        # Held open, it has nothing to read and no end.
        writer = _opened_by_its_reader(pipe)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=60)
        os.close(writer)
    finally:
        process.kill()
    assert (process.returncode, said.strip()) == (130, "interrupted")


def _opened_by_its_reader(pipe: Path) -> int:
    """Return the writing end of a named pipe, as soon as somebody opens the other one."""
    deadline = time.monotonic() + 60
    while True:
        try:
            return os.open(pipe, os.O_WRONLY | os.O_NONBLOCK)
        except OSError:
            assert time.monotonic() < deadline, "nobody reads"
            time.sleep(0.05)


def test_broken_pretrained_weights(world: World, tiny_bert: Path) -> None:
    """What a rank meets when it builds its network; the message crosses to the step with its trouble."""
    from carryover.ground.errors import WrongInput
    from carryover.models.hf_source import build_encoder, open_config

    folder = shutil.copytree(tiny_bert, world.folder / "bert")
    for weights in (b"no weights", b"", (tiny_bert / "model.safetensors").read_bytes()[:500]):
        (folder / "model.safetensors").write_bytes(weights)
        with pytest.raises(WrongInput, match=r"the weights of '.*' cannot be opened") as refused:
            build_encoder(open_config(str(folder)), str(folder))
        assert refused.value.trouble == "wrong-pretrained"


def test_what_another_process_said_names_its_trouble() -> None:
    """The last words of a pod, as the step that waits for its TrainJob reads them."""
    text = ["error: first", "more: carryover explain damaged", "error: out of memory", "more: carryover explain busy"]
    assert last_words.told(text) == "busy"
    line = console.as_json("no room", level="error", fields={"trouble": "disk-full"})
    assert last_words.told(["{", line, "torchrun's own words"]) == "disk-full"
    assert last_words.told(["nothing of the kind"]) == ""
