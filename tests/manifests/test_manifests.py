"""Every overlay renders and is as the published schemas and our own rules have it; what is planted wrong is found."""

import copy
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from carryover.launch import trainjob
from carryover.launch.job import JobSettings
from tests.conftest import REPOSITORY
from tools import argo_rules, manifest_rules, manifest_schemas, manifests
from tools.manifest_rules import secret_values
from tools.manifest_schemas import named

if manifests.renderer() is None:
    pytest.skip("neither kustomize nor kubectl is installed", allow_module_level=True)

RENDERED = {name: manifests.render(manifests.ROOT / "overlays" / name) for name in manifests.overlays()}
EVERY = {named(one): one for found in RENDERED.values() for one in found}


@pytest.fixture(scope="module")
def schemas() -> Path:
    """Published schemas: `CARRYOVER_SCHEMAS`, or `../shared/schemas` beside the checkout."""
    folder = Path(os.environ.get("CARRYOVER_SCHEMAS", "") or REPOSITORY.parent / "shared" / "schemas")
    if not folder.is_dir():
        pytest.skip(f"no schemas at {folder}; CARRYOVER_SCHEMAS names their folder")
    return folder


@pytest.mark.parametrize("overlay", RENDERED)
def test_an_overlay_is_as_schemas_and_rules_have_it(overlay, schemas):
    assert manifests.problems(RENDERED[overlay], schemas) == []


def test_every_file_is_in_an_overlay_but_the_secret_s_form():
    """What nothing renders, nothing checks."""
    named_files = {"secret.example.yaml"}
    for file in manifests.ROOT.rglob("kustomization.yaml"):
        found = yaml.safe_load(file.read_text())
        words = [*found.get("resources", ()), *found.get("transformers", ())]
        words += [one["path"] for one in (*found.get("patches", ()), *found.get("replacements", ()))]
        named_files |= {Path(word).name for word in words if word.endswith(".yaml")}
    there = {file.name for file in manifests.ROOT.rglob("*.yaml")} - {"kustomization.yaml"}
    assert there == named_files


def test_the_secret_s_form_is_a_secret(schemas):
    form = yaml.safe_load((manifests.ROOT / "base" / "secret.example.yaml").read_text())
    assert manifest_schemas.problems(form, schemas) == []
    assert manifest_schemas.problems({**form, "planted": {}}, schemas) != []


def test_no_file_has_a_secret_s_value():
    assert manifests.files_with_secrets() == []
    assert secret_values("kind: Secret\nstringData: {AWS_SECRET_ACCESS_KEY: abc, AWS_REGION: ''}\n") == [
        "AWS_SECRET_ACCESS_KEY"
    ]


def deepest(value: Any) -> dict:
    """The mapping that a search finds last among those that lie deepest."""
    found: list[tuple[int, dict]] = []

    def look(inside: Any, depth: int) -> None:
        if isinstance(inside, dict):
            found.append((depth, inside))
        for inner in inside.values() if isinstance(inside, dict) else inside if isinstance(inside, list) else ():
            look(inner, depth + 1)

    look(value, 0)
    return max(found, key=lambda pair: pair[0])[1]


@pytest.mark.parametrize("which", EVERY)
def test_an_unknown_field_is_found_in_every_manifest(which, schemas):
    """On top, in metadata, and as deep as the manifest goes, but for labels, which may be anything."""
    for place in (lambda one: one, lambda one: one["metadata"], deepest):
        wrong = copy.deepcopy(EVERY[which])
        if place is deepest:
            wrong = {key: value for key, value in wrong.items() if key != "metadata"} | {"metadata": {"name": "x"}}
            for labels in ("matchLabels", "labels", "requests", "limits"):
                drop(wrong, labels)
        place(wrong)["planted"] = {"wrong": "field"}
        found = manifest_schemas.problems(wrong, schemas)
        assert any("planted" in line for line in found), f"{which}: {found}"


def drop(value: Any, key: str) -> None:
    """Take a key out of every mapping inside."""
    if isinstance(value, dict):
        value.pop(key, None)
    for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        drop(inner, key)


def container(found: dict[str, Any], step: str = "train-ddp") -> dict:
    return found[f"WorkflowTemplate/carryover-{step}"]["spec"]["templates"][0]["container"]


def template(found: dict[str, Any], step: str = "train-ddp") -> dict:
    return found[f"WorkflowTemplate/carryover-{step}"]["spec"]["templates"][0]


def task(found: dict[str, Any], pipeline: str, name: str) -> dict:
    tasks = template(found, pipeline)["dag"]["tasks"]
    return next(one for one in tasks if one["name"] == name)


def runtime(found: dict[str, Any]) -> dict:
    return found["ClusterTrainingRuntime/carryover-ddp"]["spec"]["template"]["spec"]


def expression(change: str, to: str) -> Callable[[dict], None]:
    def plant(found: dict) -> None:
        strategy = template(found)["retryStrategy"]
        assert change in strategy["expression"]
        strategy["expression"] = strategy["expression"].replace(change, to)

    return plant


PLANTED: dict[str, tuple[Callable[[dict], Any], str]] = {
    "a flag that is not there": (lambda docs: container(docs)["args"].append("--lerning=1"), "has no flag --lerning"),
    "a param that is not there": (lambda docs: container(docs)["args"].append("--param=sets=x"), "no flag --sets"),
    "a required flag left out": (lambda docs: container(docs)["args"].pop(1), "'train-ddp' needs --dataset"),
    "no such command": (lambda docs: container(docs)["args"].__setitem__(0, "train"), "no command 'train'"),
    "a word too many": (lambda docs: container(docs, "champion")["args"].append("x"), "takes 1 words"),
    "root": (lambda docs: template(docs)["securityContext"].update(runAsUser=0), "runAsUser is 0"),
    "a writable root": (
        lambda docs: container(docs)["securityContext"].update(readOnlyRootFilesystem=False),
        "readOnlyRootFilesystem",
    ),
    "a capability": (
        lambda docs: container(docs)["securityContext"].update(capabilities={"drop": ["ALL"], "add": ["SYS_PTRACE"]}),
        "capabilities",
    ),
    "nowhere to write": (lambda docs: container(docs)["volumeMounts"].pop(0), "nothing writable at /tmp"),
    "a moving tag": (lambda docs: container(docs).update(image="carryover:latest"), "is not a version"),
    "a secret that must be there": (
        lambda docs: container(docs)["envFrom"][0]["secretRef"].update(optional=False),
        "not optional",
    ),
    "another secret": (lambda docs: container(docs)["envFrom"][0]["secretRef"].update(name="mine"), "secret mine"),
    "no walls": (lambda docs: template(docs).pop("metadata"), "no NetworkPolicy"),
    "an unknown account": (lambda docs: template(docs).update(serviceAccountName="root"), "no service account root"),
    "all rights": (lambda docs: docs["Role/carryover-trainjobs"]["rules"][0].update(verbs=["*"]), "has '*'"),
    "an unknown role": (lambda docs: docs["RoleBinding/carryover-trainjobs"]["roleRef"].update(name="x"), "no Role x"),
    "a tag that leads nowhere": (
        lambda docs: container(docs)["args"].append("--recipe={{inputs.parameters.recipes}}"),
        "{{inputs.parameters.recipes}} leads nowhere",
    ),
    "an output of what is not awaited": (
        lambda docs: task(docs, "train", "train-ddp").pop("depends"),
        "{{tasks.prepare-data.outputs.parameters.dataset_uri}} leads nowhere",
    ),
    "an unknown template": (
        lambda docs: task(docs, "continuous", "now")["templateRef"].update(template="champions"),
        "no template",
    ),
    "a parameter left out": (
        lambda docs: task(docs, "extend", "find-model")["arguments"]["parameters"].pop(),
        "parameter store is not given",
    ),
    "a parameter too many": (
        lambda docs: task(docs, "transfer", "evaluate")["arguments"]["parameters"].append({"name": "epochs"}),
        "no parameter epochs",
    ),
    "an argument left out": (
        lambda docs: docs["CronWorkflow/carryover-continuous"]["spec"]["workflowSpec"]["arguments"]["parameters"].pop(),
        "parameter store is not given",
    ),
    "wrong input twice": (expression("in [2, 3, 76]", "in [3, 76]"), "again after exit code 2"),
    "superseded and back": (expression("not (asInt(lastRetry.exitCode) in [2, 3, 76])", "1 == 1"), "exit code 76"),
    "preempted for good": (expression("75, 143", "75"), "not tried again after exit code 143"),
    "killed for ever": (expression("asInt(retries) < 5", "1 == 1"), "more than 10 times"),
    "lost for good": (
        expression(
            "(lastRetry.status == 'Error' || asInt(lastRetry.exitCode) in [-1, ", "(asInt(lastRetry.exitCode) in ["
        ),
        "after its node was",
    ),
    "a clock from the start": (
        lambda docs: template(docs)["retryStrategy"]["backoff"].update(maxDuration="1h"),
        "maxDuration",
    ),
    "too little grace": (
        lambda docs: template(docs).update(podSpecPatch="terminationGracePeriodSeconds: 90"),
        "terminationGracePeriodSeconds 90",
    ),
    "a wrong patch": (
        lambda docs: template(docs).update(podSpecPatch="terminationGracePeriodSecond: 120"),
        "terminationGracePeriodSecond",
    ),
    "final exits that restart": (lambda docs: runtime(docs)["failurePolicy"]["rules"].pop(0), "the rule preempted"),
    "one pod alone": (
        lambda docs: runtime(docs)["replicatedJobs"][0]["template"]["spec"].update(backoffLimit=3),
        "backoffLimit is not 0",
    ),
}


@pytest.mark.parametrize("wrong", PLANTED)
def test_what_no_schema_can_see_is_found(wrong, schemas):
    plant, said = PLANTED[wrong]
    found = copy.deepcopy({named(one): one for one in RENDERED["dev"]})
    plant(found)
    every = list(found.values())
    lines = [*manifest_rules.problems(every), *argo_rules.problems(every, schemas)]
    assert any(said in line for line in lines), f"'{said}' is not among {lines}"


def test_the_image_is_named_in_one_place(tmp_path):
    shutil.copytree(manifests.ROOT, tmp_path / "manifests")
    file = tmp_path / "manifests" / "image" / "image.yaml"
    file.write_text(file.read_text().replace("newName: carryover", "newName: registry.example/team/carryover"))
    for name in RENDERED:
        text = yaml.safe_dump_all(manifests.render(tmp_path / "manifests" / "overlays" / name))
        assert "registry.example/team/carryover:v0.1.0" in text or name == "kfp"
        assert ": carryover:v0.1.0" not in text


def test_dev_asks_for_little_and_spot_for_spot_machines():
    dev = {named(one): one for one in RENDERED["dev"]}
    for step in ("prepare-data", "train-ddp"):
        inputs = {one["name"]: one.get("default") for one in template(dev, step)["inputs"]["parameters"]}
        assert (inputs["cpu"], inputs["memory"]) == ("250m", "2Gi")
    arguments = dev["WorkflowTemplate/carryover-train"]["spec"]["arguments"]["parameters"]
    assert {"name": "cpu", "value": "250m"} in arguments
    spot = {named(one): one for one in RENDERED["spot"]}
    (pod,) = [job["template"]["spec"]["template"]["spec"] for job in runtime(spot)["replicatedJobs"]]
    for where in (pod, template(spot, "train-ddp"), template(spot, "transfer-train")):
        assert where["priorityClassName"] == "carryover-spot" and where["tolerations"] and where["affinity"]
    assert "tolerations" not in template(spot, "evaluate")


def test_a_trainjob_of_ours_and_the_runtime_name_the_same_things(schemas):
    settings = JobSettings(shm="1Gi", tolerations=({"key": "spot", "operator": "Exists"},))
    spec = trainjob.spec_of(settings, "carryover:v0.1.0", ["train-ddp"], nodes=2, ranks=1)
    made = trainjob.trainjob("base", 1, spec, settings, run_key="key", owner="owner", lease="lease")
    assert manifest_schemas.problems(made, schemas) == []
    found = {named(one): one for one in RENDERED["trainer"]}
    assert f"ClusterTrainingRuntime/{spec['runtimeRef']['name']}" in found
    (patch,) = spec["runtimePatches"]
    (patched,) = patch["trainingRuntimeSpec"]["template"]["spec"]["replicatedJobs"]
    (job,) = runtime(found)["replicatedJobs"]
    changes = patched["template"]["spec"]["template"]["spec"]
    pod = job["template"]["spec"]["template"]["spec"]
    assert patched["name"] == job["name"] == trainjob.NODE == pod["containers"][0]["name"]
    assert {one["name"] for one in changes["volumes"]} <= {one["name"] for one in pod["volumes"]}
    assert f"ServiceAccount/{changes['serviceAccountName']}" in found
