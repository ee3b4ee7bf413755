"""What a TrainJob of ours says, held against the published schema, and how what a cluster says of one is read."""

import jsonschema
import pytest
import yaml

from carryover.ground.errors import WrongInput
from carryover.launch import trainjob as jobs
from carryover.launch.job import JobSettings, image_of, read_settings
from carryover.launch.trainjob import Phase
from tests.support.kube_server import SCHEMA, check_there, closed

EVERYTHING = """
image: here/carryover:v0.1.0
cpu: 8
memory: 32Gi
gpu: 2
shm: 8Gi
node_selector: {pool: spot}
tolerations: [{key: spot, operator: Exists, effect: NoSchedule}]
queue: gpus
priority_class: low
env: {NCCL_DEBUG: WARN, RANKS: 2}
labels: {team: vision}
"""


def made(settings: JobSettings) -> dict:
    spec = jobs.spec_of(settings, image_of(settings), ["train-ddp", "--dataset", "s3://b/d"], nodes=2, ranks=2)
    base = jobs.base_name("0123456789abcdef01234567", spec)
    return jobs.trainjob(base, 3, spec, settings, run_key="0123456789abcdef01234567", owner="me", lease="it")


@pytest.mark.parametrize("text", ["image: i", EVERYTHING])
def test_a_job_is_as_the_schema_wants_it(text: str) -> None:
    check_there()
    versions = yaml.safe_load(SCHEMA.read_text())["spec"]["versions"]
    job = made(read_settings(text))
    jsonschema.validate(job, {**closed(versions[0]["schema"]["openAPIV3Schema"])})


def test_what_is_set_is_where_trainer_reads_it() -> None:
    job = made(read_settings(EVERYTHING))
    spec, labels = job["spec"], job["metadata"]["labels"]
    assert job["metadata"]["name"].startswith("carryover-0123456789ab-")
    assert job["metadata"]["name"].endswith("-3")
    assert (labels["kueue.x-k8s.io/queue-name"], labels["kueue.x-k8s.io/priority-class"]) == ("gpus", "low")
    assert (labels["team"], labels["carryover.dev/run-key"]) == ("vision", "0123456789abcdef01234567")
    trainer = spec["trainer"]
    assert (trainer["numNodes"], trainer["numProcPerNode"]) == (2, 2)
    assert trainer["resourcesPerNode"]["limits"] == {"cpu": "8", "memory": "32Gi", "nvidia.com/gpu": "2"}
    assert trainer["args"][-6:] == ["--owner", "me", "--lease", "it", "--lease-seconds", "1800"]
    env = {item["name"]: item for item in trainer["env"]}
    assert env["RANKS"]["value"] == "2"
    assert env["AWS_REGION"]["valueFrom"]["secretKeyRef"]["optional"]
    (patch,) = spec["runtimePatches"]
    pod = patch["trainingRuntimeSpec"]["template"]["spec"]["replicatedJobs"][0]["template"]["spec"]["template"]["spec"]
    assert pod["nodeSelector"] == {"pool": "spot"}
    assert pod["volumes"][0]["emptyDir"]["sizeLimit"] == "8Gi"
    assert pod["serviceAccountName"] == "carryover-node"


def test_another_wish_is_another_job_and_the_same_wish_is_not() -> None:
    def base(text: str) -> str:
        return made(read_settings(text))["metadata"]["name"]

    assert base("image: i") == base("{image: i, lease_seconds: 60}")
    assert len({base("image: i"), base("image: j"), base("{image: i, memory: 1Gi}")}) == 3


@pytest.mark.parametrize(
    ("codes", "wanted"),
    [
        ({0: 75, 1: 2}, (1, 2)),
        ({0: 76, 1: 75}, (0, 76)),
        ({0: 143, 1: 1}, (0, 75)),
        ({0: 0, 1: 137}, (1, 137)),
        ({0: None}, (0, 1)),
        ({}, (0, 1)),
    ],
)
def test_which_node_ended_a_failed_job(codes: dict[int, int | None], wanted: tuple[int, int]) -> None:
    assert jobs.ended_by(codes) == wanted


def test_states_are_read_from_conditions() -> None:
    def state(*conditions: tuple[str, str], **metadata: str) -> Phase:
        items = [{"type": kind, "status": status, "reason": "R", "message": "m"} for kind, status in conditions]
        return jobs.state_of({"metadata": metadata, "status": {"conditions": items}}).phase

    assert jobs.state_of({"metadata": {}}).phase is Phase.ALIVE
    assert state(("Suspended", "True")) is Phase.ALIVE
    assert state(("Suspended", "False"), ("Complete", "True")) is Phase.COMPLETE
    assert state(("Failed", "True"), deletionTimestamp="now") is Phase.FAILED
    assert state(("Suspended", "False"), deletionTimestamp="now") is Phase.GONE


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("gpus: 1", "job.gpus: unknown key; did you mean 'job.gpu'?"),
        ("env: {PET_NNODES: 2}", "job.env.PET_NNODES: .* Trainer sets those itself"),
        ("cpu: many", "job.cpu: 'many' is not possible; it must be a quantity"),
        ("priority_class: low", "job.priority_class: 'low' is not possible; it must be empty without a queue"),
        ("lease_seconds: 1", "job.lease_seconds: 1 is not possible"),
        ("labels: {on: true}", "job.labels.* is not possible"),
        ("nowhere.yaml", "job nowhere.yaml: can't be read"),
    ],
)
def test_settings_that_are_refused(text: str, words: str) -> None:
    with pytest.raises(WrongInput, match=words):
        read_settings(text)


def test_an_image_must_be_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CARRYOVER_IMAGE", raising=False)
    with pytest.raises(WrongInput, match=r"job\.image: missing"):
        image_of(JobSettings())
    monkeypatch.setenv("CARRYOVER_IMAGE", "carryover:v0.1.0")
    assert image_of(JobSettings()) == "carryover:v0.1.0"


def test_how_a_training_is_told_of_reaches_the_pods(monkeypatch: pytest.MonkeyPatch) -> None:
    """And leaves the job what it is: a retry with --debug finds the one that lives."""
    before = made(read_settings(EVERYTHING))
    monkeypatch.setenv("CARRYOVER_LOG_FORMAT", "json")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://mlflow:5000")
    job = made(read_settings(EVERYTHING))
    env = {item["name"]: item.get("value") for item in job["spec"]["trainer"]["env"]}
    assert (env["CARRYOVER_LOG_FORMAT"], env["MLFLOW_TRACKING_URI"]) == ("json", "http://mlflow:5000")
    assert job["metadata"]["name"] == before["metadata"]["name"]
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://me:secret@mlflow:5000")
    assert "secret@" not in str(made(read_settings(EVERYTHING)))
