"""Runs in containers: the exit code of each is known before it is removed, so that a failed step is tried again."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from carryover.ground.errors import WrongInput
from carryover_kfp.local import _mounts, run_here
from carryover_kfp.pod import Pod
from tests.authoring import container_engine, tiny_pipelines

pytest.importorskip("docker")


@pytest.fixture
def engine(monkeypatch) -> Iterator[container_engine.Engine]:
    engine, http = container_engine.start()
    monkeypatch.setenv("DOCKER_HOST", engine.url)
    yield engine
    http.shutdown()
    http.server_close()


def tries(folder: Path) -> int:
    return len((folder / "attempts").read_text().splitlines())


def test_a_failed_container_is_tried_again(engine, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "someone")
    monkeypatch.setenv("UNRELATED", "stays here")
    engine.images.add("own:v1")
    arguments = {"folder": str(tmp_path), "code": 75}
    finished = run_here(tiny_pipelines.attempts, arguments, root=tmp_path / "root", runner="docker", image="own:v1")
    assert tries(tmp_path) == 3
    assert finished.outputs == {"Output": str(tmp_path)}
    shown = capsys.readouterr().out
    assert "failed: exit code 75" in shown
    assert f"attempt 1 in {tmp_path}" in shown
    assert len(engine.removed) == 3, "no container is left behind"
    for container in engine.created:
        assert container["Image"] == "own:v1"
        assert not container["HostConfig"].get("AutoRemove")
        assert str(tmp_path) in [mount["Source"] for mount in container["HostConfig"]["Mounts"]]
        assert "AWS_ACCESS_KEY_ID=someone" in container["Env"]
        assert not any(value.startswith("UNRELATED") for value in container["Env"])


def test_a_container_is_as_a_pod_is(engine, tmp_path, monkeypatch):
    """No capabilities, nothing writable but what it is given, the caller's user; what names a file, finds that file."""
    (tmp_path / "secrets").mkdir()
    (tmp_path / "work").mkdir()
    (tmp_path / "secrets" / "credentials").write_text("[default]\n")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "secrets" / "credentials"))
    engine.images.add("own:v1")
    arguments = {"folder": f"{tmp_path}/work", "code": 0}
    run_here(tiny_pipelines.attempts, arguments, root=tmp_path / "root", runner="docker", image="own:v1")
    (container,) = engine.created
    host = container["HostConfig"]
    assert container["User"] == f"{os.getuid()}:{os.getgid()}"
    assert host["ReadonlyRootfs"] and host["CapDrop"] == ["ALL"] and host["SecurityOpt"] == ["no-new-privileges"]
    assert set(host["Tmpfs"]) == {"/tmp", "/home/carryover"}
    assert host["ShmSize"] == 2 * 1024**3
    assert container["Entrypoint"] == ["sh"], "an image's own entry point is not in front of the step's command"
    mounts = {mount["Source"]: mount.get("ReadOnly", False) for mount in host["Mounts"]}
    assert mounts[str(tmp_path / "secrets" / "credentials")] is True
    assert mounts[str(tmp_path / "work")] is False
    assert str(tmp_path / "secrets") not in mounts


def test_a_container_gets_what_the_flags_say(engine, tmp_path):
    engine.images.add("own:v1")
    size = Pod(gpu=2, shm="1Gi", memory_limit="8Gi", cpu_limit="1500m")
    arguments = {"folder": str(tmp_path), "code": 0}
    root = tmp_path / "root"
    run_here(tiny_pipelines.attempts, arguments, root=root, runner="docker", image="own:v1", size=size)
    host = engine.created[0]["HostConfig"]
    assert (host["ShmSize"], host["Memory"], host["NanoCpus"]) == (1024**3, 8 * 1024**3, 1_500_000_000)
    (request,) = host["DeviceRequests"]
    assert (request["Count"], request["Capabilities"]) == (2, [["gpu"]])


def test_what_a_recipe_names_is_mounted(tmp_path):
    """A pattern means the folder above it, a file its folder; a path in it that is not here is left alone."""
    for name in ("data", "model", "teacher", "store"):
        (tmp_path / name).mkdir()
    given = {
        "source": [f"{tmp_path}/data/2026-*/part-*.csv"],
        "store": f"{tmp_path}/store/new",
        "recipe": f"model:\n  hf_text: {{checkpoint_name: '{tmp_path}/model'}}\n  other: {tmp_path}/absent\n",
        "set": [f"distiller.teacher={tmp_path}/teacher"],
        "label": "/",
        "retries": 3,
    }
    assert _mounts(given) == [tmp_path / name for name in ("data", "model", "store", "teacher")]


def test_an_image_that_is_not_here_is_pulled(engine, tmp_path, capsys):
    arguments = {"folder": str(tmp_path), "code": 0}
    with pytest.raises(Exception, match="no such image"):
        run_here(tiny_pipelines.attempts, arguments, root=tmp_path / "root", runner="docker", image="own:v2")
    assert "pulling own:v2" in capsys.readouterr().out


def test_wrong_input_in_a_container_ends_the_pipeline(engine, tmp_path):
    engine.images.add("own:v1")
    with pytest.raises(WrongInput, match="exit code 2"):
        run_here(
            tiny_pipelines.attempts,
            {"folder": str(tmp_path), "code": 2},
            root=tmp_path / "root",
            runner="docker",
            image="own:v1",
        )
    assert tries(tmp_path) == 1


def test_no_engine_is_one_clear_line(carryover_cli, tmp_path):
    (tmp_path / "a.csv").write_text("a,label\n1,2\n")
    env = {"DOCKER_HOST": f"unix://{tmp_path}/none.sock"}
    words = ("--param", "source=a.csv", "--param", "label=label", "--store", tmp_path / "store")
    ended = carryover_cli("run", "train", "--runner", "docker", *words, env=env)
    assert ended.rc == 2
    assert "no container engine answers" in ended.stderr
    assert "Traceback" not in ended.stderr
