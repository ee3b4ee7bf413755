"""The keys of env: how people spell them, what is refused, and a compiled network that is killed and goes on."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from carryover.ground.errors import WrongInput
from carryover.train import recipe as recipes
from carryover.train.environment import CompileConfig, Env, ranks_of
from carryover.train.recipe import Recipe
from carryover.train.setup import choose_device, compiled
from tests.train.attempts import Killed, Run, dataset


def made(*overrides: str) -> Recipe:
    return recipes.make(recipes.given("", overrides))


@pytest.mark.parametrize(
    ("written", "means"),
    [("16", "16-mixed"), ("bf16", "bf16-mixed"), ("32", "32"), ("32-true", "32"), ("64-true", "64"), ("auto", "auto")],
)
def test_a_precision_by_its_other_names_is_the_same_run(written: str, means: str) -> None:
    one, other = made(f"env.precision={written}"), made(f"env.precision={means}")
    assert one.env.precision == means
    assert recipes.identity(one) == recipes.identity(other)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("env.precision=bf16-true", "env.precision: 'bf16-true' is holding the weights themselves in half"),
        ("env.strategy=deepspeed_stage_3_offload", "env.strategy: 'deepspeed_stage_3_offload' is not possible: shar"),
        ("env.strategy=dppd", "env.strategy: 'dppd' is not possible; it must be one of ddp, auto, dp,"),
        ("env.num_nodes=2", "env.num_nodes: a step is the ranks of one machine; leave it out"),
        ("env.auto_select_gpus=true", "env.auto_select_gpus: rank N takes the N-th GPU"),
        ("env.num_gpus=-2", "env.num_gpus: -2 is not possible"),
        ("env.compile.mode=fast", "env.compile.mode: 'fast' is not possible; it must be one of default, reduce-over"),
        ("env.fast_dev_run=-1", "env.fast_dev_run: -1 is not possible"),
    ],
)
def test_what_is_not_possible_is_said(given: str, words: str) -> None:
    with pytest.raises(WrongInput) as error:
        made(given)
    assert str(error.value).startswith(words)


def test_a_mode_is_inductors() -> None:
    words = "env.compile.mode: 'max-autotune' is not possible; it must be default with the backend eager"
    with pytest.raises(WrongInput, match=words):
        made("env.compile.mode=max-autotune", "env.compile.backend=eager")


def test_ranks_are_the_gpus_unless_a_start_says_how_many(capsys: pytest.CaptureFixture[str]) -> None:
    def on(gpus: int, asked: int | None = None, **env: Any) -> int:
        return ranks_of(Env(**env), asked, gpus=lambda: gpus)

    assert [on(0), on(1), on(8)] == [1, 1, 8]
    assert [on(8, num_gpus=0), on(8, num_gpus=3), on(8, accelerator="cpu"), on(8, 2)] == [1, 3, 1, 2]
    assert on(1, accelerator="cpu", num_gpus=4) == 1
    assert not capsys.readouterr().err
    assert on(0, 2, num_gpus=3) == 2
    assert "--nproc-per-node 2 counts for this start, env.num_gpus 3 does not" in "".join(capsys.readouterr())
    with pytest.raises(WrongInput, match=r"^env\.num_gpus: 4 is not possible; this machine has 2"):
        on(2, num_gpus=4)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there() -> None:
    assert choose_device(Env()).type == "cpu"
    for env, words in ((Env(num_gpus=1), "env.num_gpus: 1"), (Env(accelerator="gpu"), "env.accelerator: 'gpu'")):
        with pytest.raises(WrongInput, match=f"^{words} is not possible; this machine has no GPU"):
            choose_device(env)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_none_of_the_gpus() -> None:
    assert choose_device(Env(num_gpus=0)).type == "cpu"
    assert choose_device(Env()).type == "cuda"


def test_a_compiler_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(WrongInput, match=r"^env\.compile\.backend: 'none_such' is not possible; torch knows .*induct"):
        compiled(nn.Linear(1, 1), CompileConfig(turn_on=True, backend="none_such"))
    monkeypatch.setattr(shutil, "which", lambda _: None)
    with pytest.raises(WrongInput, match="'inductor' needs a C\\+\\+ compiler, and there is none here"):
        compiled(nn.Linear(1, 1), CompileConfig(turn_on=True))


@pytest.mark.parametrize(
    "backend",
    [pytest.param("aot_eager", marks=pytest.mark.slow), pytest.param("inductor", marks=pytest.mark.torture)],
)
def test_a_compiled_network_is_killed_and_goes_on(tmp_path: Path, backend: str) -> None:
    if backend == "inductor" and not (shutil.which("g++") or shutil.which("clang++")):
        pytest.skip("no C++ compiler")
    card = dataset(tmp_path / "table")
    settings = {"env.compile.turn_on": True, "env.compile.backend": backend, "model.numerical_mlp.drop_rate": 0.1}

    def run(name: str) -> Run:
        return Run(card, str(tmp_path / name / "store"), settings, tmp_path / name)

    whole, cut, plain = run("whole"), run("cut"), run("plain")
    whole.go()
    with pytest.raises(Killed):
        cut.go(kill_after=5)
    cut.go()
    assert cut.tensors() == whole.tensors()
    plain.go(env__compile__turn_on=False)
    assert cut.tensors().keys() == plain.tensors().keys()


def test_a_dev_run_is_short_and_a_run_of_its_own(tmp_path: Path) -> None:
    card = dataset(tmp_path / "table")
    run = Run(card, str(tmp_path / "store"), {"env.fast_dev_run": 2}, tmp_path / "scratch")
    run.go()
    assert run.finish().body["reason"] == "max_steps"
    assert run.state()["step"] == 2
    assert recipes.identity(made("env.fast_dev_run=true")) != recipes.identity(made())
