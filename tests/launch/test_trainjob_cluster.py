"""The step that asks a cluster to train, against an API that holds it to the schema, where nothing needs training."""

import signal
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from carryover.cli.train_ddp import command as train_ddp_command
from carryover.ground.errors import RunAgain, WrongInput
from carryover.launch.cluster import Cluster, Exists, NotThere
from carryover.steps.job_command import Wish, command_of
from carryover.steps.plan import Plan, make_plan
from carryover.steps.prepare_data import prepare_data
from tests.support.kube_server import KubeServer, check_there
from tests.support.trainjobs import Asking


@pytest.fixture
def asking(
    tmp_path: Path, s3_env: dict[str, str], s3_store_uri: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Asking]:
    check_there()
    keys = {"AWS_REGION": "us-east-1", "AWS_ENDPOINT_URL_S3": s3_env["AWS_ENDPOINT_URL"]}
    server = KubeServer(tmp_path, environment={**s3_env, **keys})
    monkeypatch.setenv("KUBECONFIG", str(server.kubeconfig))
    yield Asking.on(server, tmp_path, s3_store_uri)
    server.close()


def test_two_ask_at_once_for_one_job_and_stopping_leaves_it(asking: Asking) -> None:
    asking.server.held_back = True
    both = [asking.start(), asking.start()]
    try:
        for tree in both:
            assert tree.wait_until(lambda tree=tree: "suspended (Suspended" in tree.text()), tree.text()
        (name,) = asking.jobs
        assert {f"made TrainJob carryover/{name}" in tree.text() for tree in both} == {True, False}
        both[0].process.send_signal(signal.SIGTERM)
        assert both[0].process.wait(60) == RunAgain.exit_code
        assert f"TrainJob {name} trains on, and the same command attaches to it again" in both[0].text()
        assert asking.jobs == [name]
        asking.server.delete(name)
        assert both[1].process.wait(60) == RunAgain.exit_code
        assert f"TrainJob {name} was deleted; the same command makes the next one" in both[1].text()
    finally:
        for tree in both:
            tree.kill()


@pytest.mark.slow
def test_what_ends_a_pod_for_good_ends_the_one_who_asked(asking: Asking) -> None:
    for generation in (1, 2):
        tree = asking.start(nodes=2, env={"CARRYOVER_JOIN_SECONDS": "soon"})
        try:
            assert tree.process.wait(120) == WrongInput.exit_code, tree.text()
        finally:
            tree.kill()
        assert len(asking.jobs) == generation, "a failed job is not attached to"
        assert asking.server.restarts[asking.jobs[-1]] == []
        assert "CARRYOVER_JOIN_SECONDS: 'soon' is not possible" in tree.text(), "the words of the node that ended it"


def test_what_is_wrong_ends_before_any_pod(asking: Asking, tmp_path: Path) -> None:
    tree = asking.start("--set", "optimization.lerning_rate=1")
    assert tree.process.wait(60) == WrongInput.exit_code
    local = asking.start("--store", tmp_path / "here")
    assert local.process.wait(60) == WrongInput.exit_code
    assert "is this machine's own, which the pods of a TrainJob can't reach" in local.text()
    assert asking.server.asked == []


def test_the_words_of_a_pod_name_the_same_run(asking: Asking, tmp_path: Path) -> None:
    recipe, artifact = tmp_path / "recipe.yaml", str(tmp_path / "artifact")
    recipe.write_text("seed: 3\noptimization: {lr: 1e-3}\n")
    prepare_data(source=[str(tmp_path / "rows.csv")], label="liked", store=asking.store, output=artifact)
    wish = Wish(
        recipe=str(recipe),
        overrides=["optimization.max_epochs=3"],
        run_key="",
        init_from="",
        grow_classes=False,
        backbone="",
        strict=False,
        takeover=True,
        resume="auto",
        time_limit=60.0,
        grace_seconds=90.0,
        trust_pickle=False,
    )

    def plan(dataset: str, text: str, overrides: Sequence[str], limit: float | None) -> Plan:
        return make_plan(dataset, asking.store, text, overrides, "", "", limit, scratch=tmp_path)

    here = plan(artifact, wish.recipe, wish.overrides, wish.time_limit)
    words = command_of(here, wish)
    given = train_ddp_command.make_context("train-ddp", words[1:]).params
    assert (words[0], given["dataset"], given["store"]) == ("train-ddp", here.card.at, asking.store)
    assert given["dataset"].startswith("s3://")
    assert (given["takeover"], given["grace_seconds"], given["time_limit"]) == (True, 90.0, 60.0)
    there = plan(given["dataset"], given["recipe"], given["overrides"], given["time_limit"])
    assert there.run_key == here.run_key
    with pytest.raises(WrongInput, match="is a folder of this machine"):
        command_of(here, replace(wish, overrides=[f"model.hf_text.checkpoint_name={tmp_path}"]))


def test_what_a_cluster_answers_becomes_a_line(asking: Asking, monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = Cluster()
    assert cluster.namespace == "carryover"
    with pytest.raises(NotThere):
        cluster.job("none")
    asking.server.held_back = True
    job = {"metadata": {"name": "one", "labels": {"a": "b"}}, "spec": {"runtimeRef": {"name": "r"}}}
    cluster.create_job(job)
    assert [one["metadata"]["name"] for one in cluster.jobs("a", "b")] == ["one"]
    with pytest.raises(Exists):
        cluster.create_job(job)
    with pytest.raises(WrongInput, match=r"the cluster refused it: .*priority"):
        cluster.create_job({"metadata": {"name": "two"}, "spec": {**job["spec"], "priority": 1}})
    with pytest.raises(WrongInput, match="the cluster knows no TrainJob"):
        Cluster("elsewhere").jobs("a", "b")
    monkeypatch.setenv("KUBECONFIG", "/nowhere")
    with pytest.raises(WrongInput, match="no cluster is known here"):
        Cluster()
