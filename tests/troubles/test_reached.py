"""Each trouble is met in earnest: by a command or a step, whose last words name its entry and look as the entry shows.

A case is a function of the world that gives an exit code and what stood on stderr. What needs minutes, or a cluster, is
met where that is tested anyway: ELSEWHERE names the place, which must say the trouble's name.
"""

import os
import re
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from carryover.ground import storage, trouble_page
from carryover.ground.storage import open_store
from carryover.launch.cluster import Cluster
from carryover.steps.component import exit_codes
from tests.authoring import kfp_server
from tests.carry.small_models import small_model
from tests.support import s3_server as s3
from tests.support.faulty import Fault, FaultyProxy
from tests.support.last_words import error_of
from tests.train.attempts import Killed, Run, dataset
from tests.troubles.world import GOOD, World

ROOT = Path(__file__).resolve().parents[2]
ELSEWHERE = {
    "busy": "tests/checkpoint/test_prune.py",
    "cluster-unreachable": "tests/troubles/test_doctor.py",
    "dump-differs": "tests/carry/test_dump_networks.py",
    "interrupted": "tests/troubles/test_broken_input.py",
    "nodes-apart": "tests/slow/test_nodes.py",
    "rank-lost": "tests/launch/test_ranks.py",
    "step-failed": "tests/launch/test_ranks.py",
}
Case = Callable[[World, pytest.MonkeyPatch], tuple[int, str]]
CASES: dict[str, Case] = {}


def case(name: str) -> Callable[[Case], Case]:
    def note(function: Case) -> Case:
        CASES[name] = function
        return function

    return note


def command(name: str, words: str, **files: str) -> None:
    """A case that is one command over some files; {store} and {small} stand for places of the world."""

    def run(world: World, _: pytest.MonkeyPatch) -> tuple[int, str]:
        for file, content in files.items():
            world.file(file.replace("_", "."), content)
        return world.cli(*(word.format(store=world.store, small=world.small.at) for word in words.split()))

    CASES[name] = run


@contextmanager
def ending(world: World) -> Iterator[list[tuple[int, str]]]:
    """A component's body: what ends it becomes last words, as in a pod."""
    said: list[tuple[int, str]] = []
    world.capsys.readouterr()
    with pytest.raises(SystemExit) as ended, exit_codes():
        yield said
    said.append((int(str(ended.value.code)), world.capsys.readouterr().err))


PREPARE = "prepare-data --store {store} --label y --source "
TRAIN = "train-ddp --store {store} --dataset {small} "
command("unknown-key", "preflight --store {store} --set optimization.lerning_rate=1")
command("wrong-value", "preflight --store {store} --set optimization.learning_rate=-1")
command("wrong-flags", "preflight --store {store} --source good.csv", good_csv=GOOD)
command("not-supported", "preflight --store {store} --set env.strategy=deepspeed")
command("no-yaml", "preflight --store {store} --recipe nothing.yaml")
command("wrong-families", TRAIN + "--set model.names=[hf_text]")
command("bad-uri", "preflight --store ftp://host/data")
command("not-there", PREPARE + "nothing.csv")
command("path-refused", PREPARE + "good.csv --output good.csv", good_csv=GOOD)
command("unreadable-data", PREPARE + "broken.jsonl", broken_jsonl='{"x": 1, "y": "a"}\n{"x": 2, "y"')
command("wrong-column", "prepare-data --store {store} --source rows.csv --label prize", rows_csv=GOOD)
command("wrong-label", PREPARE + "one.csv", one_csv="x,y\n" + "1,a\n" * 20)
command("unknown-class", PREPARE + "good.csv --validation-source new.csv", good_csv=GOOD, new_csv="x,y\n1,a\n2,c\n")
command("too-few-rows", PREPARE + "empty.csv", empty_csv="x,y\n")
command("drifted", PREPARE + "good.csv --schema-from {small}", good_csv=GOOD)
command("not-a-dataset", "train-ddp --store {store} --dataset nothing")
command("not-a-model", "find-model --store {store} --model nothing")
command("not-a-backbone", "transfer-train --store {store} --dataset {small} --backbone good.csv", good_csv=GOOD)
command("no-such-run", "checkpoint ls --store {store} --run-key nothing")
command("resume-refused", TRAIN + "--resume must")
command("no-champion", "rollback nobody --store {store}")
command("not-enough-gpus", TRAIN + "--set env.num_gpus=64")
command("kfp-unreachable", "retry run-1 --host http://127.0.0.1:9")


@case("local-place")
def _(world: World, monkeypatch: pytest.MonkeyPatch) -> tuple[int, str]:
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    return world.cli("preflight")


@case("source-changed")
def _(world: World, monkeypatch: pytest.MonkeyPatch) -> tuple[int, str]:
    """Somebody touches the file all the while."""
    source = Path(world.file("good.csv", GOOD * 1))
    over = threading.Event()

    def touch() -> None:
        while not over.wait(0.001):
            os.utime(source)

    toucher = threading.Thread(target=touch)
    toucher.start()
    try:
        return world.cli("prepare-data", "--source", source, "--label", "y", "--store", world.store)
    finally:
        over.set()
        toucher.join()


def _tensors(world: World, name: str) -> str:
    header = b'{"%s":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}' % name.encode()
    return world.file("other.safetensors", struct.pack("<Q", len(header)) + header + struct.pack("<f", 1))


@case("nothing-fits")
def _(world: World, monkeypatch: pytest.MonkeyPatch) -> tuple[int, str]:
    source = _tensors(world, "a.name.of.another.network")
    return world.cli(
        "checkpoint", "import", source, "--weights-only", "--dataset", world.small.at, "--store", world.store
    )


def _texts(world: World, checkpoint: str) -> tuple[int, str]:
    rows = "".join(f'"a review of number {number} that somebody wrote",{"ab"[number % 2]}\n' for number in range(40))
    source = world.file("texts.csv", "review,y\n" + rows)
    types = ("--column-type", "review=text")
    world.cli("prepare-data", "--source", source, "--label", "y", *types, "--store", world.store, "--output", "out")
    settings = ("--set", "model.names=[hf_text]", "--set", f"model.hf_text.checkpoint_name={checkpoint}")
    return world.cli("train-ddp", "--dataset", "out", "--store", world.store, *settings)


@case("wrong-pretrained")
def _(world: World, monkeypatch: pytest.MonkeyPatch) -> tuple[int, str]:
    return _texts(world, str(Path(world.file("no-config/notes.txt", "")).parent))


@case("hub-offline")
def _(world: World, monkeypatch: pytest.MonkeyPatch) -> tuple[int, str]:
    return _texts(world, "no/such-model")


@case("pickled-weights")
def _(world: World, monkeypatch: pytest.MonkeyPatch) -> tuple[int, str]:
    import fractions

    import torch

    torch.save({"model": fractions.Fraction(1, 2)}, world.folder / "code.pth")
    return world.cli("checkpoint", "import", "code.pth", "--dataset", world.small.at, "--store", world.store)


@case("does-not-fit-model")
def _(world: World, monkeypatch: pytest.MonkeyPatch) -> tuple[int, str]:
    model = small_model(open_store(world.store), 1)
    return world.cli("evaluate", "--model", model, "--dataset", world.small.at, "--store", world.store)


@case("missing-package")
def _(world: World, monkeypatch: pytest.MonkeyPatch) -> tuple[int, str]:
    monkeypatch.setitem(__import__("sys").modules, "kubernetes", None)
    with ending(world) as said:
        Cluster()
    return said[0]


@case("cluster-refused")
def _(world: World, monkeypatch: pytest.MonkeyPatch) -> tuple[int, str]:
    monkeypatch.setenv("KUBECONFIG", str(world.folder / "none"))
    with ending(world) as said:
        Cluster()
    return said[0]


def _begun(world: World, *, kill_after: int = 5) -> Run:
    run = Run(world.small, world.store, {}, world.folder, run_key="begun")
    with pytest.raises(Killed):
        run.go(kill_after=kill_after)
    return run


@case("dataset-changed")
def _(world: World, monkeypatch: pytest.MonkeyPatch) -> tuple[int, str]:
    _begun(world)
    other = dataset(world.folder / "other", count=160)
    return world.cli("train-ddp", "--dataset", other.at, "--store", world.store, "--run-key", "begun")


@case("fixed-setting")
def _(world: World, monkeypatch: pytest.MonkeyPatch) -> tuple[int, str]:
    _begun(world)
    flags = ("--dataset", world.small.at, "--store", world.store, "--run-key", "begun")
    return world.cli("train-ddp", *flags, "--set", "seed=3")


@case("damaged")
def _(world: World, monkeypatch: pytest.MonkeyPatch) -> tuple[int, str]:
    run = _begun(world)
    home = Path(run.home.store.uri)
    name = max((home / "objects").iterdir(), key=lambda path: path.stat().st_size)
    content = bytearray(name.read_bytes())
    content[-1] ^= 1
    name.write_bytes(content)
    return world.cli("checkpoint", "verify", home)


@case("no-progress")
def _(world: World, monkeypatch: pytest.MonkeyPatch) -> tuple[int, str]:
    for _ in range(3):
        _begun(world, kill_after=1)
    flags = ("--dataset", world.small.at, "--store", world.store, "--run-key", "begun", "--owner", "tests")
    return world.cli("train-ddp", *flags)


@case("preempted")
def _(world: World, monkeypatch: pytest.MonkeyPatch) -> tuple[int, str]:
    with ending(world) as said:
        Run(world.small, world.store, {}, world.folder).go(stop_after=2)
    return said[0]


@case("out-of-memory")
def _(world: World, monkeypatch: pytest.MonkeyPatch) -> tuple[int, str]:
    with ending(world) as said:
        bytearray(1 << 60)
    return said[0]


@case("disk-full")
def _(world: World, monkeypatch: pytest.MonkeyPatch) -> tuple[int, str]:
    with ending(world) as said, open("/dev/full", "wb", buffering=0) as full:
        full.write(b"x")
    return said[0]


@case("internal")
def _(world: World, monkeypatch: pytest.MonkeyPatch) -> tuple[int, str]:
    monkeypatch.setattr("tempfile.tempdir", str(world.folder))
    with ending(world) as said:
        {}["x"]
    (kept,) = world.folder.glob("carryover-trace-*.txt")
    assert f"trace: {kept}" in said[0][1] and "KeyError: 'x'" in kept.read_text()
    return said[0]


@case("superseded")
def _(world: World, monkeypatch: pytest.MonkeyPatch) -> tuple[int, str]:
    one, two = (small_model(open_store(world.store), number) for number in (1, 2))
    world.cli("promote", "stars", "--model", one, "--store", world.store)
    return world.cli("promote", "stars", "--model", two, "--store", world.store, "--expect", "")


@case("not-accepted")
def _(world: World, monkeypatch: pytest.MonkeyPatch) -> tuple[int, str]:
    one, two = (small_model(open_store(world.store), number) for number in (1, 2))
    for model in (one, two):
        world.cli("promote", "stars", "--model", model, "--store", world.store)
    world.cli("rollback", "stars", "--store", world.store)
    return world.cli("promote", "stars", "--model", two, "--store", world.store)


@case("kfp-refused")
def _(world: World, monkeypatch: pytest.MonkeyPatch) -> tuple[int, str]:
    with kfp_server.serving(monkeypatch, world.folder) as server:
        server.token = "a-bearer-token"
        return world.cli("retry", "run-1", "--host", server.url)


@case("no-credentials")
def _(world: World, monkeypatch: pytest.MonkeyPatch) -> tuple[int, str]:
    for name in list(os.environ):
        if name.startswith("AWS_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(world.folder))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    return world.cli("preflight", "--store", "s3://bucket/store")


def _lead_to(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # File systems of other servers live on in this process, so the endpoint is said to this one.
    monkeypatch.setattr(storage, "S3_OPTIONS", {**storage.S3_OPTIONS, "endpoint_url": endpoint})
    words = {"ACCESS_KEY_ID": s3.ACCESS_KEY, "SECRET_ACCESS_KEY": s3.SECRET_KEY, "ENDPOINT_URL": endpoint}
    for name, value in {**words, "REGION": s3.REGION, "DEFAULT_REGION": s3.REGION}.items():
        monkeypatch.setenv(f"AWS_{name}", value)


@case("store-unreachable")
def _(world: World, monkeypatch: pytest.MonkeyPatch) -> tuple[int, str]:
    _lead_to("http://127.0.0.1:9", monkeypatch)
    return world.cli("champion", "name", "--store", "s3://bucket/store")


@case("store-forbidden")
def _(world: World, monkeypatch: pytest.MonkeyPatch) -> tuple[int, str]:
    """Every call is refused, so nobody stands behind the proxy."""
    with FaultyProxy("http://127.0.0.1:9") as proxy:
        proxy.arm(Fault("", "403", times=None))
        _lead_to(proxy.url, monkeypatch)
        return world.cli("champion", "name", "--store", "s3://bucket/store")


@case("store-refuses-conditions")
def _(world: World, monkeypatch: pytest.MonkeyPatch) -> tuple[int, str]:
    server = s3.start("rclone")
    try:
        _lead_to(server.endpoint, monkeypatch)
        return world.cli("preflight", "--store", f"s3://{s3.BUCKET}/careless")
    finally:
        with suppress(Exception):
            server.stop()


@pytest.mark.parametrize("name", sorted(CASES))
def test_it_is_met(name: str, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    code, said = CASES[name](world, monkeypatch)
    entry = trouble_page.entries()[name]
    line = error_of(said)
    assert said.splitlines()[-1] == f"more: carryover explain {name}", said
    assert code in entry.codes
    shown = entry.parts["You see"].strip("`")
    pattern = "".join(".*" if part == "..." else re.escape(part) for part in re.split(r"(\.\.\.)", shown))
    assert re.fullmatch(f"{pattern}.*", line), f"the entry shows {shown}, and it says {line}"
    assert "Traceback" not in said


def test_every_trouble_is_met() -> None:
    assert set(CASES) | set(ELSEWHERE) == set(trouble_page.entries())
    assert not set(CASES) & set(ELSEWHERE)
    for name, place in ELSEWHERE.items():
        assert name in (ROOT / place).read_text(encoding="utf-8"), f"{place} does not say {name}"
