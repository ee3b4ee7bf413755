"""schedule, over real HTTP against a small KFP server on loopback; what is sent is held against KFP's API."""

from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from carryover.ground.errors import WrongInput
from carryover_kfp import catalog
from carryover_kfp.compiling import compiled
from carryover_kfp.cron import check_cron
from tests.authoring import kfp_server


@pytest.fixture
def server(monkeypatch, tmp_path) -> Iterator[kfp_server.KfpServer]:
    with kfp_server.serving(monkeypatch, tmp_path) as server:
        yield server


PARAMS = ("--param", "source=s3://bucket/*.csv", "--param", "label=stars", "--store", "s3://bucket/carryover")
DAILY = ("--cron", "0 30 3 * * *")


def test_a_schedule_is_one_run_at_a_time_without_catching_up(server, carryover_cli):
    names = (
        "--name",
        "nightly",
        "--experiment",
        "mine",
        "--pipeline-root",
        "s3://bucket/kfp",
        "--service-account",
        "me",
    )
    ended = carryover_cli("schedule", "train", "--host", server.url, *DAILY, *PARAMS, *names, "--image", "own:v2")
    assert ended.rc == 0, ended.stderr
    assert ended.stdout == f"schedule: schedule-1\npage: {server.url}/#/recurringrun/details/schedule-1\n"
    (body,) = [body for method, path, body, _ in server.requests if (method, path) == ("POST", kfp_server.RECURRING)]
    assert body["max_concurrency"] in (1, "1")
    assert body["no_catchup"] is True
    assert body["mode"] == "ENABLE"
    assert body["trigger"] == {"cron_schedule": {"cron": "0 30 3 * * *"}}
    assert (body["display_name"], body["service_account"]) == ("nightly", "me")
    assert body["experiment_id"] == server.experiments["mine"]
    assert body["runtime_config"] == {
        "parameters": {"source": ["s3://bucket/*.csv"], "label": "stars", "store": "s3://bucket/carryover"},
        "pipeline_root": "s3://bucket/kfp",
    }
    expected = yaml.safe_load(compiled(catalog.load_pipeline("train"), image="own:v2"))
    for spec in (expected, body["pipeline_spec"]):
        for task in spec["root"]["dag"]["tasks"].values():
            assert not task["cachingOptions"].pop("enableCache", False)
    assert body["pipeline_spec"] == expected


@pytest.mark.parametrize("name", [name for name in catalog.pipelines() if name != "train"])
def test_every_pipeline_can_be_scheduled(server, carryover_cli, name):
    """Those with an If in them too, whose tasks are not all in one list."""
    pipeline = catalog.load_pipeline(name)
    params = [word for key in pipeline.required_inputs if key != "store" for word in ("--param", f"{key}=s3://b/x")]
    ended = carryover_cli("schedule", name, "--host", server.url, *DAILY, *params, "--store", "s3://b/store")
    assert ended.rc == 0, ended.stderr
    (made,) = server.schedules.values()
    sent, wanted = made["pipeline_spec"], yaml.safe_load(compiled(pipeline))
    assert caching(sent) and not any(caching(sent)), "no step is ever answered from KFP's cache"
    assert sent["deploymentSpec"] == wanted["deploymentSpec"]


def caching(spec: dict[str, Any]) -> list[bool]:
    """Whether each step of a pipeline may be answered from the cache, those inside of an If too."""
    dags = [spec["root"]["dag"], *(one["dag"] for one in spec["components"].values() if "dag" in one)]
    tasks = [task for dag in dags for task in dag["tasks"].values()]
    steps = [task for task in tasks if "dag" not in spec["components"][task["componentRef"]["name"]]]
    return [task["cachingOptions"].get("enableCache", False) for task in steps]


def test_list_pause_resume_delete(server, carryover_cli):
    def say(*words: str):
        return carryover_cli("schedule", "--host", server.url, *words)

    assert say("--list").stdout == "no schedules\n"
    for name in ("one", "two", "three"):
        ended = say("train", *PARAMS, "--cron", "@daily", "--name", name)
        assert ended.rc == 0, ended.stderr
    twice = say("train", *PARAMS, "--cron", "@daily", "--name", "three")
    assert twice.rc == 2 and "has a schedule of that name, schedule-3 (@daily)" in twice.stderr
    assert say("--pause", "schedule-2").stdout == "schedule-2: paused\n"
    lines = say("--list").stdout.splitlines()
    assert [line.split() for line in lines] == [
        ["schedule-1", "on", "@daily", "one"],
        ["schedule-2", "off", "@daily", "two"],
        ["schedule-3", "on", "@daily", "three"],
    ]
    assert say("--resume", "schedule-2").stdout == "schedule-2: resumed\n"
    assert server.schedules["schedule-2"]["status"] == "ENABLED"
    assert say("--delete", "schedule-1").rc == 0
    assert list(server.schedules) == ["schedule-2", "schedule-3"]
    gone = say("--delete", "schedule-1")
    assert gone.rc == 2 and "schedule-1 not found" in gone.stderr and "Traceback" not in gone.stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "say one thing"),
        (("--list", "--delete", "x"), "say one thing"),
        (("--list", "--cron", "@daily"), "--cron: belongs to a PIPELINE that is to be scheduled, not to --list"),
        (("train", *PARAMS), "--cron: missing"),
        (
            ("train", *PARAMS, "--cron", "30 3 * * *"),
            "six fields, the first of them seconds; did you mean '0 30 3 * * *'",
        ),
        (("train", *PARAMS[:4], *DAILY), "also needs store"),
        (("train", *PARAMS[:4], *DAILY, "--store", "here"), "means nothing to a pod"),
        (("trian", *PARAMS, *DAILY), "did you mean 'train'?"),
    ],
)
def test_wrong_words_are_one_clear_line(server, carryover_cli, words, said):
    ended = carryover_cli("schedule", "--host", server.url, *words)
    assert ended.rc == 2
    assert said in ended.stderr and "Traceback" not in ended.stderr
    assert server.requests == []


@pytest.mark.parametrize(
    "text",
    [
        "0 30 3 * * *",
        "0 0/15 8-18 ? * mon-fri",
        "0 0 0 1,15 JAN *",
        "*/10 * * * * 0",
        "@daily",
        "@every 1h30m",
        " 0  0 0 1 1 ? ",
    ],
)
def test_cron_as_the_server_reads_it(text):
    assert check_cron(text) == " ".join(text.split())


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "must have six fields"),
        ("* * *", "must have six fields"),
        ("0 60 3 * * *", "minute '60': must be 0 to 59"),
        ("0 0 24 * * *", "hour '24': must be 0 to 23"),
        ("0 0 3 0 * *", "day of month '0': must be 1 to 31"),
        ("0 0 3 * foo *", "month 'foo': must be 1 to 12, or jan to dec"),
        ("0 0 3 * * 7", "day of week '7': must be 0 to 6, or sun to sat"),
        ("0 0 18-8 * * *", "the range 18-8 ends before it begins"),
        ("0 */0 3 * * *", "the step must be 1 or more"),
        ("0 0 3 L * *", "day of month 'L'"),
        ("0 0 *-3 * * *", "'*-3' is no value, range (1-5) or step"),
        ("0 0 1,,3 * * *", "'' is no value"),
        ("@fortnightly", "there are @yearly"),
        ("@every day", "'@every 6h'"),
    ],
)
def test_cron_that_the_server_would_refuse(text, said):
    with pytest.raises(WrongInput) as caught:
        check_cron(text)
    assert said in str(caught.value)
