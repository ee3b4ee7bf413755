"""Both ways to start ranks: forked with all imported, or new processes. What differs is speed alone."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from carryover.ground.errors import WrongInput
from carryover.launch import ranks
from carryover.launch.imports import Imports
from carryover.launch.ranks import Ending, check_torchrun, run_ranks
from tests.conftest import CarryoverCli
from tests.train.attempts import SMALL, dataset

# A module that says who imports it, and one that asks for another at its own import as transformers does for scipy.
LOUD = "import os, pathlib\npathlib.Path(os.environ['SAID'], str(os.getpid())).touch()\n"
ASKING = "import importlib.util\nFOUND = importlib.util.find_spec('loud') is not None\n"


@pytest.fixture
def modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of modules that processes below can import; returns where `loud` says who imported it."""
    folder, said = tmp_path / "modules", tmp_path / "said"
    folder.mkdir()
    said.mkdir()
    (folder / "loud.py").write_text(LOUD)
    (folder / "asking.py").write_text(ASKING)
    monkeypatch.setenv("PYTHONPATH", f"{folder}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    monkeypatch.setenv("SAID", str(said))
    return said


@pytest.mark.parametrize(("way", "who"), [("fork", 1), ("exec", 0)])
def test_forked_ranks_find_everything_imported_once(
    way: str, who: int, tmp_path: Path, modules: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(ranks.START_VARIABLE, way)
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    spec = {"do": {}, "imports": Imports(("loud",)).to_json()}
    assert run_ranks("tests.support.launch_rank", spec, ranks=2, scratch=scratch, grace_seconds=5) == Ending(0, "", -1)
    # Of new processes each imports for itself, when its module says so; the ranks of this test don't.
    assert len(list(modules.iterdir())) == who


@pytest.mark.slow
def test_a_new_process_that_is_killed_is_told_from_one_that_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(ranks.START_VARIABLE, "exec")
    for what, code in (("exit:1:no such thing", 1), ("exit:75:saved", 75), ("kill", 75)):
        scratch = tmp_path / what.replace(":", "-")
        scratch.mkdir()
        do = {"do": {"0": "wait", "1": what}}
        assert run_ranks("tests.support.launch_rank", do, ranks=2, scratch=scratch, grace_seconds=5).exit_code == code
    assert json.loads((scratch / "lost.json").read_text())["1"] == -signal.SIGKILL


@pytest.mark.slow
def test_both_ways_train_the_same_bits(tmp_path: Path) -> None:
    card, cli, models = dataset(tmp_path / "data"), CarryoverCli(tmp_path), set()
    recipe = {**SMALL, "optimization.max_epochs": 1}
    settings = [word for name, value in recipe.items() for word in ("--set", f"{name}={value}")]
    for way in ranks.STARTS:
        where = ["--dataset", card.at, "--store", tmp_path / way, "--output", tmp_path, "--nproc-per-node", 2]
        ended = cli("train-ddp", *where, *settings, env={ranks.START_VARIABLE: way})
        assert ended.rc == 0, ended.stderr
        models.add(Path(json.loads((tmp_path / "result.json").read_text())["uri"]).name)
    assert len(models) == 1


def test_spared_modules_look_absent_to_others_and_are_there_for_who_names_them(modules: Path) -> None:
    program = (
        "from carryover.launch.imports import Imports\n"
        "Imports(('asking', 'no_such_module'), ('loud',)).load()\n"
        "import asking, loud\n"
        "print(asking.FOUND)"
    )
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert said.stdout.strip() == "False"


def test_a_way_that_there_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ranks.START_VARIABLE, "spawn")
    with pytest.raises(WrongInput, match=r"CARRYOVER_START.*'spawn'.*fork or exec"):
        check_torchrun()
