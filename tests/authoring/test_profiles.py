"""What a profile and the flags over it make of a pipeline, and that KFP knows every word of it."""

import itertools
from pathlib import Path
from typing import Any

import pytest
import yaml

from carryover.ground.errors import WrongInput
from carryover.launch.job import read_settings
from carryover_kfp import catalog, pod_options, profile
from carryover_kfp.compiling import compiled, complete_job, under
from tests.authoring.compiled_form import check_compiled

IMAGE = "example/own:v9"
TRAINING = {"train": "train-ddp", "extend": "train-ddp", "continuous": "train-ddp", "transfer": "transfer-train"}


def made(name: str, flags: pod_options.Flags) -> str:
    effective = pod_options.effective(flags)
    assert effective
    return compiled(under(catalog.load_pipeline(name), effective, image=IMAGE), image=IMAGE)


def executors(text: str) -> dict[str, tuple[dict[str, Any], dict[str, Any]]]:
    """Executor -> (container, platform's words)."""
    spec, platform = yaml.safe_load_all(text)
    words = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    return {
        name.removeprefix("exec-"): (one["container"], words[name])
        for name, one in spec["deploymentSpec"]["executors"].items()
    }


def steps(text: str) -> dict[str, Any]:
    spec = next(yaml.safe_load_all(text))
    dags = [spec["root"]["dag"], *(one["dag"] for one in spec["components"].values() if "dag" in one)]
    return {name: task for dag in dags for name, task in dag["tasks"].items() if not name.startswith("condition")}


def defaults(text: str) -> dict[str, Any]:
    inputs = next(yaml.safe_load_all(text))["root"]["inputDefinitions"]["parameters"]
    return {name: inputs[name]["defaultValue"] for name in ("launcher", "num_nodes", "job")}


@pytest.mark.parametrize(("name", "given"), list(itertools.product(catalog.pipelines(), profile.shipped())))
def test_every_pipeline_under_every_shipped_profile(name, given):
    text = made(name, pod_options.Flags(profile=given))
    check_compiled(text)
    found = executors(text)
    for container, words in found.values():
        assert container["image"] == IMAGE
        (secret,) = words["secretAsEnv"]
        assert (secret["secretName"], secret["optional"]) == ("carryover-store", True)
        assert {one["envVar"] for one in secret["keyToEnv"]} >= {"AWS_ACCESS_KEY_ID", "AWS_ENDPOINT_URL_S3"}
        assert words["securityContext"] == {"runAsUser": "10001", "runAsNonRoot": True}
        assert "gpu" not in str(container["resources"]) or given == "gpu"
    days = 1 if given == "dev" else 7
    for step, task in steps(text).items():
        if step == "preflight":
            assert "retryPolicy" not in task
        else:
            assert task["retryPolicy"]["backoffMaxDuration"] == f"{days * 86400}s"
        assert not task["cachingOptions"].get("enableCache", False)
    container, words = found[TRAINING[name]]
    if given == "gpu":
        assert container["resources"]["accelerator"]["resourceType"] == "nvidia.com/gpu"
        assert {"mountPath": "/dev/shm", "medium": "Memory", "sizeLimit": "8Gi", "volumeName": "dshm"} in words[
            "emptyDirMounts"
        ]
        assert words["tolerations"] == [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}]
    if given == "spot-gpu":
        # The step waits on a machine that is not taken away; its TrainJob is on those that are.
        assert "accelerator" not in container["resources"] and "tolerations" not in words
        assert (defaults(text)["launcher"], defaults(text)["num_nodes"]) == ("trainjob", 1)
        settings = read_settings(defaults(text)["job"])
        assert (settings.image, settings.gpu, settings.shm) == (IMAGE, 1, "8Gi")
        assert len(settings.tolerations) == 3


@pytest.mark.parametrize(
    "plant",
    [
        lambda spec, words: spec.update(colour="red"),
        lambda spec, words: spec["root"]["dag"]["tasks"]["train-ddp"].update(retryPolcy={}),
        lambda spec, words: spec["deploymentSpec"]["executors"]["exec-train-ddp"]["container"].update(imagee="x"),
        lambda spec, words: spec["deploymentSpec"]["executors"]["exec-train-ddp"]["container"]["resources"].update(
            gpu=1
        ),
        lambda spec, words: words["exec-train-ddp"].update(tolerances=[]),
        lambda spec, words: words["exec-train-ddp"]["tolerations"][0].update(tolerationSecond=3),
        lambda spec, words: words["exec-train-ddp"]["emptyDirMounts"][0].update(size=3),
        lambda spec, words: words.update({"exec-train": {}}),
    ],
)
def test_a_wrong_field_is_caught(plant):
    spec, platform = yaml.safe_load_all(made("train", pod_options.Flags(profile="gpu")))
    plant(spec, platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"])
    with pytest.raises(ValueError, match=r"has no field named|is no executor"):
        check_compiled(yaml.safe_dump_all([spec, platform]))


@pytest.mark.parametrize("name", catalog.pipelines())
def test_without_a_profile_nothing_is_said_of_pods(name):
    text = compiled(catalog.load_pipeline(name))
    check_compiled(text)
    assert len(list(yaml.safe_load_all(text))) == 1
    assert defaults(text) == {"launcher": "torchrun", "num_nodes": 1, "job": ""}


def test_flags_win_and_are_for_the_machine_that_trains():
    flags = pod_options.Flags(
        profile="gpu",
        gpu=4,
        gpu_resource="amd.com/gpu",
        memory="64Gi",
        memory_limit="96Gi",
        node_selector=("example.com/pool=big",),
        toleration=("spot=true:NoSchedule", "other"),
        queue="research",
        secret="",
        retries=3,
        retry_days=0.5,
        pod_label=("team=blue",),
        pod_annotation=("example.com/why=because it must",),
        image_pull_policy="Always",
        image_pull_secret=("registry",),
    )
    text = made("train", flags)
    check_compiled(text)
    found = executors(text)
    container, words = found["train-ddp"]
    assert container["resources"]["accelerator"]["resourceCount"] == "4"
    assert container["resources"]["accelerator"]["resourceType"] == "amd.com/gpu"
    assert (container["resources"]["resourceMemoryRequest"], container["resources"]["resourceMemoryLimit"]) == (
        "64Gi",
        "96Gi",
    )
    assert container["resources"]["resourceCpuRequest"] == "8", "the profile's, as no flag says another"
    assert words["nodeSelector"] == {"labels": {"example.com/pool": "big"}}
    assert words["tolerations"][1:] == [
        {"key": "spot", "operator": "Equal", "value": "true", "effect": "NoSchedule"},
        {"key": "other", "operator": "Exists"},
    ]
    assert words["podMetadata"]["labels"] == {"kueue.x-k8s.io/queue-name": "research", "team": "blue"}
    for step, (_, words) in found.items():
        assert "secretAsEnv" not in words
        assert words["podMetadata"]["labels"]["team"] == "blue"
        assert words["podMetadata"]["annotations"] == {"example.com/why": "because it must"}
        assert (words["imagePullPolicy"], words["imagePullSecret"][0]["secretName"]) == ("Always", "registry")
        assert step == "train-ddp" or "nodeSelector" not in words
    retry = steps(text)["evaluate"]["retryPolicy"]
    assert (retry["maxRetryCount"], retry["backoffMaxDuration"]) == (3, "43200s")


def test_with_a_trainjob_the_machine_is_its_nodes():
    flags = pod_options.Flags(
        profile="spot-gpu",
        num_nodes=2,
        gpu=8,
        secret="other",
        queue="research",
        toleration=("spot",),
        job="runtime: own\nshm: 64Gi",
    )
    text = made("train", flags)
    settings = read_settings(defaults(text)["job"])
    assert defaults(text)["num_nodes"] == 2
    assert (settings.gpu, settings.queue, settings.runtime, settings.shm) == (8, "research", "own", "64Gi")
    assert settings.tolerations[-1] == {"key": "spot", "operator": "Exists"}
    assert settings.secret == "other", "the store is the same one"
    container, words = executors(text)["train-ddp"]
    assert "accelerator" not in container["resources"] and "podMetadata" not in words


def test_a_step_has_its_own_keys_over_the_default(tmp_path):
    (tmp_path / "own.yaml").write_text(
        "default: {memory: 2Gi, node_selector: {pool: small},\n"
        "  tolerations: [{key: a, operator: Exists, effect: NoExecute, tolerationSeconds: 30}]}\n"
        "steps: {evaluate: {memory: 3Gi}, prepare_data: {node_selector: {}}}\n"
    )
    text = made("transfer", pod_options.Flags(profile=str(tmp_path / "own.yaml")))
    found = executors(text)
    for name in ("evaluate", "evaluate-2"):
        assert found[name][0]["resources"]["resourceMemoryRequest"] == "3Gi"
    assert found["find-model"][0]["resources"]["resourceMemoryRequest"] == "2Gi"
    assert found["find-model"][1]["nodeSelector"] == {"labels": {"pool": "small"}}
    assert "nodeSelector" not in found["prepare-data"][1]
    check_compiled(text)
    (toleration,) = found["preflight"][1]["tolerations"]
    assert toleration == {"key": "a", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": "30"}


def test_flags_win_over_a_step_and_add_to_the_default(tmp_path):
    (tmp_path / "own.yaml").write_text(
        "default: {labels: {a: x}, tolerations: [{key: a, operator: Exists}], retries: 9}\n"
        "steps: {train_ddp: {labels: {b: x}, retries: 5}}\n"
    )
    flags = pod_options.Flags(
        profile=str(tmp_path / "own.yaml"), toleration=("b",), retries=3, pod_label=("c=x",), secret=""
    )
    found = pod_options.effective(flags)
    assert found
    assert [one["key"] for one in found.pod("train_ddp").tolerations] == ["a", "b"]
    assert [one["key"] for one in found.pod("evaluate").tolerations] == ["a"]
    assert (found.pod("train_ddp").retries, found.pod("evaluate").retries) == (3, 3)
    assert dict(found.pod("train_ddp").labels) == {"b": "x", "c": "x"}
    assert dict(found.pod("evaluate").labels) == {"a": "x", "c": "x"}


def test_a_trainjob_that_is_asked_for_by_a_parameter_gets_the_image_too():
    pipeline = catalog.load_pipeline("train")
    assert complete_job(pipeline, {"label": "y"}, image=IMAGE) == {"label": "y"}
    found = complete_job(pipeline, {"launcher": "trainjob", "job": "gpu: 2"}, image=IMAGE)
    assert read_settings(found["job"]).image == IMAGE
    assert read_settings(complete_job(pipeline, {"launcher": "trainjob"})["job"]).image == "carryover:v0.1.0"
    kept = complete_job(pipeline, {"launcher": "trainjob", "job": "image: mine:v1"}, image=IMAGE)
    assert read_settings(kept["job"]).image == "mine:v1"
    with pytest.raises(WrongInput, match=r"job\.gpus.*did you mean 'job\.gpu'"):
        complete_job(pipeline, {"launcher": "trainjob", "job": "gpus: 2"})
    with pytest.raises(WrongInput, match="needs the launcher trainjob"):
        complete_job(pipeline, {"job": "gpu: 2"})


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ({"profile": "spotgpu"}, "--profile spotgpu: none of that name; did you mean 'spot-gpu'?"),
        ({"profile": "nowhere.yaml"}, "nowhere.yaml: can't be read"),
        ({"toleration": ("gpu:NoShedule",)}, "--toleration[0].effect: 'NoShedule' is not possible"),
        ({"toleration": (":NoSchedule",)}, "--toleration :NoSchedule: must be KEY[=VALUE][:EFFECT]"),
        ({"node_selector": ("pool",)}, "--node-selector pool: must be NAME=VALUE"),
        ({"cpu": "lots"}, "--cpu: 'lots' is not possible"),
        ({"memory": "1.5Gi"}, "--memory: '1.5Gi' is not possible; it must be a whole number of bytes"),
        ({"gpu": -1}, "--gpu: -1 is not possible"),
        ({"retry_days": 0.0}, "--retry-days: 0.0 is not possible"),
        ({"pod_label": ("a b=c",)}, "--pod-label.a b"),
        ({"image_pull_policy": "Sometimes"}, "--image-pull-policy: 'Sometimes' is not possible"),
        ({"launcher": "mpirun"}, "launcher: 'mpirun' is not possible; it must be torchrun or trainjob"),
        ({"job": "gpu: 1"}, "job: says what the pods of a TrainJob are; it needs the launcher trainjob"),
        ({"num_nodes": 2}, "num_nodes: 2 is not possible; it must be 1 with the launcher torchrun"),
        ({"profile": "gpu", "launcher": "trainjob"}, "say job.gpu"),
        ({"profile": "spot-gpu", "scratch": "9Gi"}, "--scratch: a TrainJob's nodes have none"),
        ({"profile": "cpu", "memory_limit": "1Gi"}, "steps.train_ddp.memory_limit: '1Gi' is not possible"),
        ({"job": "tolerations: [{keys: x}]"}, "job.tolerations[0].keys: unknown key; did you mean"),
    ],
)
def test_wrong_flags_are_one_clear_line(flags, said):
    with pytest.raises(WrongInput) as caught:
        pod_options.effective(pod_options.Flags(**flags))
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("defualt: {}", "defualt: unknown key; did you mean 'default'?"),
        ("default: {memroy: 1Gi}", "default.memroy: unknown key; did you mean 'default.memory'?"),
        ("steps: {train: {}}", "steps.train: unknown key; did you mean 'steps.train_ddp'?"),
        ("steps: {train_ddp: {gpus: 1}}", "steps.train_ddp.gpus: unknown key; did you mean 'steps.train_ddp.gpu'?"),
        ("steps: {train_ddp: 3}", "steps.train_ddp: 3 is not possible"),
        ("steps: {preflight: {retries: 3}}", "steps.preflight.retries: this step is never tried again"),
        ("default: {tolerations: [spot]}", "default.tolerations[0]"),
        ("default: {tolerations: [{operator: Exists, value: x}]}", "no value with the operator Exists"),
        ("default: {tolerations: [{value: 'x'}]}", "a taint's key"),
        ("default: {node_selector: {a: true}}", "quote it"),
        ("default: {run_as_user: 0}", "no root"),
        ("launcher: trainjob\ndefault: {gpu: 1}", "must not hold a GPU"),
        ("launcher: trainjob\njob: {gpu: x}", "job.gpu"),
        ("- a", "must be a YAML mapping"),
    ],
)
def test_wrong_profiles_are_one_clear_line(tmp_path, text, said):
    (tmp_path / "own.yaml").write_text(text)
    with pytest.raises(WrongInput) as caught:
        pod_options.effective(pod_options.Flags(profile=str(tmp_path / "own.yaml")))
    assert said in str(caught.value)


def test_the_profile_in_the_docs_is_one(tmp_path):
    page = (Path(__file__).resolve().parents[2] / "docs" / "cluster.md").read_text()
    (block,) = [text for text in page.split("```yaml\n") if text.startswith("default:")]
    (tmp_path / "own.yaml").write_text(block.partition("```")[0])
    found = pod_options.effective(pod_options.Flags(profile=str(tmp_path / "own.yaml")))
    assert found and (found.pod("train_ddp").queue, found.service_account) == ("research", "carryover")


def test_the_command_line_takes_them(carryover_cli, tmp_path):
    done = carryover_cli("compile", "train", "-o", "spot.yaml", "--profile", "spot-gpu", "--gpu", "2", "--image", IMAGE)
    assert done.rc == 0, done.stderr
    assert "service account 'carryover' has no place in it" in done.stderr
    text = (tmp_path / "spot.yaml").read_text()
    assert read_settings(defaults(text)["job"]).gpu == 2


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--gpu", "1", "--runner", "subprocess"), "--gpu: is for --runner docker"),
        (("--queue", "research", "--runner", "docker"), "--queue: says what a cluster's pods are like"),
        (("--profile", "cpu"), "--profile: says what a cluster's pods are like"),
        (("--launcher", "trainjob", "--param", "launcher=torchrun"), "say the same thing"),
        (("--launcher", "mpirun"), "launcher: 'mpirun' is not possible"),
    ],
)
def test_a_run_here_refuses_what_it_would_ignore(carryover_cli, words, said):
    given = ("--param", "source=a.csv", "--param", "label=y")
    ended = carryover_cli("run", "train", *given, *words)
    assert ended.rc == 2
    assert said in ended.stderr and "Traceback" not in ended.stderr
