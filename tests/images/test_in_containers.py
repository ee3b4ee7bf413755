"""The image itself, and the pipeline `train` in it: real containers by podman, killed and interrupted in the middle."""

import json
import os
from pathlib import Path

import pytest

from tests.images.podman import LOCKED, build_cpu, containers_of
from tests.support import processes

docker = pytest.importorskip("docker")
pytestmark = [pytest.mark.containers, pytest.mark.timeout(1800)]

RECIPE = """\
model:
  names: [numerical_mlp]
optimization:
  max_epochs: 20
checkpoint:
  every_steps: 7
env:
  batch_size: 16
  per_gpu_batch_size: 8
  num_workers: 0
  num_workers_evaluation: 0
"""


@pytest.fixture
def inputs(tmp_path: Path) -> Path:
    """A folder with a table, in which two numbers tell the label, and a recipe."""
    rows = [f"{(i * 37 % 101) / 50 - 1:.3f},{(i * 53 % 89) / 44 - 1:.3f}" for i in range(300)]
    lines = [f"{row},{'yes' if sum(map(float, row.split(','))) > 0 else 'no'}" for row in rows]
    (tmp_path / "table.csv").write_text("\n".join(["left,right,label", *lines]) + "\n")
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    return tmp_path


def arguments(inputs: Path, store: str, *more: str, label: str = "label") -> list[str]:
    given = ["--param", f"source={inputs}/table.csv", "--param", f"label={label}", "--param", "nproc_per_node=2"]
    return ["run", "train", *given, "--recipe", f"{inputs}/recipe.yaml", "--store", store, *more]


def outcome(said: str) -> tuple[dict[str, dict], str]:
    """All metrics of the run's steps, and the digest of its Model."""
    lines = dict(line.strip().split(": ", 1) for line in said.split("is done\n")[-1].splitlines() if ": " in line)
    metrics = {}
    for path in sorted(Path(lines["artifacts"]).glob("**/executor_output.json")):
        artifacts = json.loads(path.read_text()).get("artifacts", {})
        if "metrics" in artifacts:
            metrics[path.parent.name] = artifacts["metrics"]["artifacts"][0]["metadata"]
    return metrics, lines["model_uri"].rpartition("/")[2]


def test_a_killed_and_an_interrupted_container_go_on_and_give_what_a_process_gives(podman, carryover_cli, inputs):
    """A container is killed, the retry resumes; then `carryover run` is told to end, and a new one finishes the run."""
    log = inputs / "store" / "runs"

    def records(at_least: int) -> bool:
        return len(list(log.glob("*/log/*.json"))) >= at_least

    with podman.socket() as url:
        env = {"DOCKER_HOST": url, "CONTAINERS_CONF": podman.env["CONTAINERS_CONF"]}
        client = docker.DockerClient(base_url=url)
        command = carryover_cli.command(*arguments(inputs, "store", "--runner", "docker", "--image", podman.image))
        first = processes.start(command, said=inputs / "first.txt", cwd=inputs, env=env)
        try:
            assert first.wait_until(lambda: records(5), timeout=600), first.text()
            (training,) = containers_of(client, inputs)
            podman("kill", "--signal=KILL", training.id)
            assert first.wait_until(lambda: "train-ddp (attempt 2)" in first.text()), first.text()
            seen = len(list(log.glob("*/log/*.json")))
            assert first.wait_until(lambda: records(seen + 4), timeout=600), first.text()
        finally:
            first.process.terminate()
        assert first.process.wait(timeout=120) == 128 + 15, first.text()
        said = first.text()
        assert "failed: killed by SIGKILL" in said
        assert "goes on from step" in said
        assert "ending this step" in said
        assert not containers_of(client, inputs), "nothing of an interrupted run is left"
        ended = carryover_cli(*command[3:], env=env, timeout=900)
        assert ended.rc == 0, ended.stdout + ended.stderr
        assert "goes on from step" in ended.stdout
        assert not client.containers.list(all=True, filters={"ancestor": podman.image}), "no container is left"
        client.close()

    owners = {path.stat().st_uid for path in (inputs / "store").rglob("*")}
    assert owners == {os.getuid()}, "what a container writes belongs to who ran the command"
    whole = carryover_cli(*arguments(inputs, "whole", "--runner", "subprocess"), timeout=900)
    assert whole.rc == 0, whole.stdout + whole.stderr
    assert outcome(ended.stdout) == outcome(whole.stdout)


def test_wrong_input_in_a_container_ends_the_pipeline(podman, carryover_cli, inputs):
    with podman.socket() as url:
        env = {"DOCKER_HOST": url, "CONTAINERS_CONF": podman.env["CONTAINERS_CONF"]}
        words = ("--runner", "docker", "--image", podman.image)
        ended = carryover_cli(*arguments(inputs, "store", *words, label="labell"), env=env)
        assert ended.rc == 2, ended.stdout + ended.stderr
        assert "did you mean 'label'?" in ended.stdout
        assert "attempt 2" not in ended.stdout


def test_the_image_is_as_safe_as_the_manifests_ask(podman):
    """Any user, nothing writable but /tmp and home, no capability, no set-uid, nothing of the building machine."""

    def inside(script: str, *more: str, user: str = "10001") -> str:
        entry = ("--entrypoint", "sh", podman.image, "-c", script)
        return podman("run", "--rm", *LOCKED, f"--user={user}", *more, *entry).stdout

    assert podman("run", "--rm", *LOCKED, podman.image, "--version").stdout.startswith("carryover, version")
    assert inside("id -u; id -g").split() == ["10001", "10001"]
    (config,) = json.loads(podman("image", "inspect", podman.image).stdout)
    assert config["Config"]["User"] == "10001", "without any word of who starts it"
    # OpenShift gives a pod some user of its own, in group 0.
    writable = "touch /tmp/x ~/x && ! touch /opt/x /x 2>/dev/null && grep CapEff /proc/self/status"
    for user in ("10001", "1234567:0"):
        assert inside(writable, user=user).split() == ["CapEff:", "0000000000000000"]
    root = Path(podman("image", "mount", podman.image).stdout.strip())
    try:
        everything = [path for path in root.rglob("*") if path.is_file() and not path.is_symlink()]
        assert not [path for path in everything if path.stat().st_mode & 0o6000], "no set-uid file"
        tops = ("run/", "var/cache/uv/", "tmp/", "tools/", "wheels/", "root/.cache/")
        names = [str(path.relative_to(root)) for path in everything]
        assert not [name for name in names if name.startswith(tops)], "neither caches nor secrets"
    finally:
        podman("image", "unmount", podman.image)
    history = podman("history", "--no-trunc", "--format", "{{.CreatedBy}}", podman.image).stdout
    authorities = os.environ.get("SSL_CERT_FILE", "/planted")
    assert authorities not in history
    assert str(Path.home() / ".cache") not in history
    environment = config["Config"]["Env"]
    assert not [name for name in environment if name.startswith(("SSL_", "PIP_", "UV_", "AWS_"))]
    assert f"CARRYOVER_IMAGE={podman.image}" in environment


def test_a_read_only_image_has_its_byte_code(podman):
    """What is not compiled would be compiled anew by every start: nothing could be written."""
    script = (
        "import sysconfig, pathlib, importlib.util as u\n"
        "site = pathlib.Path(sysconfig.get_paths()['purelib'])\n"
        "sources = list(site.rglob('*.py'))\n"
        "for path in sources:\n"
        "    if not pathlib.Path(u.cache_from_source(str(path))).exists():\n"
        "        try:\n"
        "            compile(path.read_bytes(), path, 'exec')\n"
        "        except SyntaxError:\n"
        "            continue  # written for another Python; nothing imports it\n"
        "        print('bare', path)\n"
        "print(len(sources))\n"
    )
    ended = podman("run", "--rm", *LOCKED, "--entrypoint", "python3", podman.image, "-c", script)
    assert "bare" not in ended.stdout
    assert int(ended.stdout) > 8000


def test_only_the_projects_own_layer_is_built_again(podman):
    """Whatever was changed in the tree: gigabytes of packages are known, or every release would be fetched whole."""

    def layers() -> list[str]:
        return json.loads(podman("image", "inspect", podman.image).stdout)[0]["RootFS"]["Layers"]

    before = layers()
    authorities = os.environ.get("SSL_CERT_FILE", "")
    build_cpu(podman, secrets={"ca": authorities} if authorities else {}, tried=False)
    assert layers()[:-1] == before[:-1]
