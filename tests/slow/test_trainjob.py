"""A run that a TrainJob trains, whose pods and whose launcher come to grief: one job, one Model, the same bits.

launcher   makes the job ... SIGKILL      again: attached ............................................... Model
pods                     train ...................... a node lost: all start again, not counted ... trained

launcher   makes job 1 ... SIGKILL                         again: makes job 2 ............................ Model
pods                   train ... nobody waits: saved, 76               train ... suspended ... train ... trained
"""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from carryover.checkpoint.lease import is_given_up
from carryover.ground.storage import open_store
from tests.support import processes
from tests.support.kube_server import REPOSITORY, KubeServer, check_there
from tests.support.processes import Tree
from tests.support.trainjobs import Asking

pytestmark = [pytest.mark.slow, pytest.mark.timeout(2400)]
# Two cores may have to do with several tests at once.
PATIENCE = 900


@pytest.fixture
def asking(tmp_path: Path, s3_env: dict[str, str], s3_store_uri: str) -> Iterator[Asking]:
    check_there()
    keys = {"AWS_REGION": "us-east-1", "AWS_ENDPOINT_URL_S3": s3_env["AWS_ENDPOINT_URL"]}
    server = KubeServer(tmp_path, environment={**s3_env, **keys})
    yield Asking.on(server, tmp_path, s3_store_uri)
    server.close()


def wait(tree: Tree, happened: Callable[[], bool], asking: Asking) -> None:
    assert tree.wait_until(happened, timeout=PATIENCE), tree.text() + asking.said()


def finished(tree: Tree, asking: Asking) -> None:
    assert tree.process.wait(timeout=PATIENCE) == 0, tree.text() + asking.said()


def weights(store: str, digest: str) -> bytes:
    return open_store(f"{store}/models/{digest}").read("model.ckpt/model.safetensors")


def straight(asking: Asking, ranks: int) -> bytes:
    """Train the same with torchrun, without any grief; returns the weights."""
    store = asking.folder / "straight"
    tree = processes.start(
        asking.command("--store", store, "--nproc-per-node", ranks),
        said=asking.folder / "straight.txt",
        cwd=asking.folder,
    )
    try:
        assert tree.process.wait(timeout=PATIENCE) == 0, tree.text()
    finally:
        tree.kill()
    (digest,) = open_store(str(store)).folders("models")
    return weights(str(store), digest)


def test_a_launcher_killed_and_a_node_lost_is_one_job_and_the_same_bits(asking: Asking) -> None:
    server = asking.server
    trees = [asking.start(nodes=2)]
    first = trees[0]
    try:
        wait(first, lambda: asking.commits() >= 1, asking)
        (name,) = asking.jobs
        pods = server.running(name)
        for pod in pods:
            pod.hold(True)
        first.kill()
        second = asking.start(nodes=2)
        trees.append(second)
        wait(second, lambda: f"attached to TrainJob carryover/{name}" in second.text(), asking)
        wait(second, lambda: f"TrainJob {name}: node 1: Running" in second.text(), asking)
        server.lose(pods[1])
        pods[0].hold(False)
        finished(second, asking)
    finally:
        for tree in trees:
            tree.kill()
    assert asking.jobs == [name]
    assert server.restarts[name] == ["uncounted"]
    assert f"TrainJob {name}: node 1: started again" in second.text()
    shown = [line for line in second.text().splitlines() if line.startswith("committed step")]
    assert len(shown) == len(set(shown)) >= 2, "a line of node 0 is shown once, over all breaks of its stream"
    assert asking.result(second)["attempts"] == 2
    assert weights(asking.store, asking.result(second)["digest"]) == straight(asking, ranks=2)
    check_role(server)


def check_role(server: KubeServer) -> None:
    """Hold what was asked for against what the manifests allow."""
    documents = list(yaml.safe_load_all((REPOSITORY / "manifests" / "trainer" / "rbac.yaml").read_text()))
    (role,) = [one for one in documents if one["kind"] == "Role" and one["metadata"]["name"] == "carryover-trainjobs"]
    allowed = {
        f"{verb} {resource}" for rule in role["rules"] for verb in rule["verbs"] for resource in rule["resources"]
    }
    assert set(server.asked) <= allowed


def test_a_job_nobody_waits_for_ends_and_the_next_one_goes_on_over_a_suspension(asking: Asking) -> None:
    server = asking.server
    # A machine that is busy beyond that would look as if nobody waited.
    lease_seconds = 20
    trees = [asking.start(lease_seconds=lease_seconds)]
    first = trees[0]
    try:
        wait(first, lambda: asking.commits() >= 1, asking)
        (one,) = asking.jobs
        (pod,) = server.running(one)
        # Its ranks have work for seconds only; the lease takes longer to lapse.
        pod.hold(True)
        first.kill()
        ended = processes.start(["sleep", str(PATIENCE)], said=asking.folder / "sleep.txt", cwd=asking.folder)
        try:
            home = asking.home()
            lease = server.jobs[one]["metadata"]["annotations"]["carryover.dev/lease"]
            wait(ended, lambda: is_given_up(home, lease), asking)
            pod.hold(False)
            wait(ended, lambda: server.condition(one, "Failed") is not None, asking)
        finally:
            ended.kill()
        assert pod.code == 76, pod.text()
        assert "nobody waits for this job any more" in pod.text()
        assert not pod.tree.living(), "nothing holds its GPU"
        second = asking.start(lease_seconds=lease_seconds)
        trees.append(second)
        wait(second, lambda: len(asking.jobs) == 2, asking)
        two = asking.jobs[1]
        assert (one[-2:], two[-2:]) == ("-1", "-2")
        before = asking.commits()
        wait(second, lambda: asking.commits() > before, asking)
        server.suspend(two, True)
        wait(second, lambda: f"TrainJob {two}: suspended" in second.text(), asking)
        assert server.running(two) == []
        server.suspend(two, False)
        finished(second, asking)
    finally:
        for tree in trees:
            tree.kill()
    assert server.restarts == {one: [], two: []}
    assert asking.result(second)["attempts"] == 3
    assert asking.result(second)["lost_steps"] == 0, "each end had time to save"
    assert weights(asking.store, asking.result(second)["digest"]) == straight(asking, ranks=1)
