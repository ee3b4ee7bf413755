"""watch, over real HTTP against a small KFP server on loopback: what is retried, what is not, and what it counts by."""

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import pytest

from carryover.ground.errors import CarryoverError, WrongInput
from carryover_kfp import remote, watching
from tests.authoring import kfp_api, kfp_server

PACE = watching.Pace(every=0.01, pause=0.01)
OK = {"preflight": "SUCCEEDED", "prepare-data": "SUCCEEDED"}
TRAINING = {**OK, "train-ddp": "RUNNING"}
LOST = {**OK, "train-ddp": "FAILED"}
DONE = {**OK, "train-ddp": "SUCCEEDED"}
FAST = ("--every", "0.02", "--pause", "0.01")


@pytest.fixture
def server(monkeypatch, tmp_path) -> Iterator[kfp_server.KfpServer]:
    with kfp_server.serving(monkeypatch, tmp_path) as server:
        yield server


def add(server: kfp_server.KfpServer, *frames: kfp_server.Frame, **words: Any) -> str:
    """A run that becomes one frame after the other; a spec of its own names its steps."""
    dag = {"dag": {"tasks": {name: {} for name in ("preflight", "prepare-data", "train-ddp")}}}
    body = {"display_name": "mine", "pipeline_spec": {"root": dag}, "runtime_config": {}, **words}
    run = server.add_run(body)
    server.lives[run["run_id"]] = list(frames)
    return run["run_id"]


def follow(server: kfp_server.KfpServer, run_id: str, *, most: int = 20) -> tuple[str, list[str]]:
    said: list[str] = []
    seen = watching.follow(remote.Server(server.url), run_id, most=most, pace=PACE, say=said.append)
    return seen.state, said


def retries(server: kfp_server.KfpServer) -> int:
    return sum((method, path[-6:]) == ("POST", ":retry") for method, path, *_ in server.requests)


def test_a_lost_pod_is_retried_until_the_run_succeeds(server, carryover_cli):
    run_id = add(
        server,
        ("RUNNING", TRAINING),
        ("FAILED", LOST),
        ("RUNNING", TRAINING),
        ("FAILED", LOST),
        ("RUNNING", TRAINING),
        ("SUCCEEDED", DONE),
    )
    ended = carryover_cli("watch", run_id, "--host", server.url, *FAST)
    assert ended.rc == 0, ended.stderr
    lines = [line.split(maxsplit=1)[1] for line in ended.stdout.splitlines()]
    running = "RUNNING    preflight SUCCEEDED, prepare-data SUCCEEDED, train-ddp RUNNING"
    failed = "FAILED     preflight SUCCEEDED, prepare-data SUCCEEDED, train-ddp FAILED"
    assert lines == [
        running,
        failed,
        "retry 1 of 20 in 0 s",
        running,
        failed,
        "retry 2 of 20 in 0 s",
        running,
        "SUCCEEDED  preflight SUCCEEDED, prepare-data SUCCEEDED, train-ddp SUCCEEDED",
    ]
    assert retries(server) == 2


def test_the_bound_counts_what_the_run_itself_remembers(server):
    """Whoever watches may be another one each time: two retries are spent before it looks first."""
    run_id = add(server, ("FAILED", LOST))
    for state in ("FAILED", "PENDING", "FAILED", "PENDING"):
        server.become(run_id, state, LOST)
    state, said = follow(server, run_id, most=2)
    assert (state, retries(server)) == ("FAILED", 0)
    assert said[-1] == "not tried again: it was tried again 2 times, and 2 are allowed"
    server.lives[run_id] = [("SUCCEEDED", DONE)]
    state, said = follow(server, run_id, most=3)
    assert (state, retries(server)) == ("SUCCEEDED", 1)
    assert "retry 3 of 3 in 0 s" in said


@pytest.mark.parametrize(
    ("frames", "attempts", "said"),
    [
        ([("FAILED", {"preflight": "FAILED"})], [], "its preflight failed"),
        ([("FAILED", LOST)], [900.0, 4.0, 3.0, 5.0], "the last 3 attempts of a step ended within 60 s each"),
        # KFP calls a run that somebody terminated failed in the end.
        ([("CANCELING", TRAINING)], [], "somebody terminated it"),
    ],
)
def test_what_a_retry_can_not_mend_is_not_retried(server, frames, attempts, said):
    run_id = add(server, ("RUNNING", TRAINING), *frames, ("FAILED", frames[-1][1]))
    server.attempts[run_id] = attempts
    state, lines = follow(server, run_id)
    assert (state, retries(server)) == ("FAILED", 0)
    assert said in lines[-1]


def test_preempted_attempts_are_no_attempts_that_end_at_once(server):
    run_id = add(server, ("FAILED", LOST), ("SUCCEEDED", DONE))
    server.attempts[run_id] = [3.0, 4.0, 5.0, 900.0]
    assert follow(server, run_id)[0] == "SUCCEEDED"


def test_a_run_that_is_retried_after_a_person_stopped_it_is_alive_again(server):
    run_id = add(server, ("FAILED", LOST), ("SUCCEEDED", DONE))
    for state in ("CANCELING", "FAILED", "PENDING", "RUNNING"):
        server.become(run_id, state)
    assert follow(server, run_id)[0] == "SUCCEEDED"


def test_a_server_that_is_away_for_a_moment_does_not_end_the_watch(server):
    run_id = add(server, ("RUNNING", TRAINING), ("RUNNING", DONE), ("SUCCEEDED", DONE))
    said: list[str] = []

    def say(text: str) -> None:
        said.append(text)
        server.out_of_order = 2 if len(said) == 1 else 0

    seen = watching.follow(remote.Server(server.url), run_id, most=0, pace=PACE, say=say)
    assert seen.state == "SUCCEEDED"
    lost = add(server, ("FAILED", LOST), ("SUCCEEDED", DONE))
    said.clear()

    def away_at_the_retry(text: str) -> None:
        said.append(text)
        server.out_of_order = 1 if said.count("retry 1 of 1 in 0 s") == 1 and text.startswith("retry") else 0

    seen = watching.follow(remote.Server(server.url), lost, most=1, pace=PACE, say=away_at_the_retry)
    assert (seen.state, seen.retries) == ("SUCCEEDED", 1)
    assert said.count("retry 1 of 1 in 0 s") == 2
    server.out_of_order = 1
    with pytest.raises(CarryoverError):
        # But one that never answered is no server.
        watching.follow(remote.Server(server.url), run_id, most=0, pace=PACE, say=said.append)


def test_a_run_that_did_not_succeed_ends_the_command_with_1(server, carryover_cli):
    run_id = add(server, ("CANCELED", TRAINING))
    ended = carryover_cli("watch", run_id, "--host", server.url, *FAST)
    assert ended.rc == 1
    assert f"run {run_id} ended as CANCELED" in ended.stderr


def test_the_watcher_retries_marked_runs_only(server, carryover_cli):
    mark = {"description": remote.mark(2)}
    server.schedules["nightly"] = {"recurring_run_id": "nightly", **mark}
    marked = add(server, ("FAILED", LOST), **mark)
    plain = add(server, ("FAILED", LOST))
    scheduled = add(server, ("FAILED", LOST), recurring_run_id="nightly")
    orphan = add(server, ("FAILED", LOST), recurring_run_id="removed")
    broken = add(server, ("FAILED", {"preflight": "FAILED"}), **mark)
    spent = add(server, ("FAILED", LOST), **mark)
    archived = add(server, ("FAILED", LOST), **mark, storage_state="ARCHIVED")
    running = add(server, ("RUNNING", TRAINING), **mark)
    server.runs[archived]["storage_state"] = "ARCHIVED"
    for run_id in (marked, plain, scheduled, orphan, spent, archived):
        server.become(run_id, "FAILED", LOST)
    server.become(broken, "FAILED", {"preflight": "FAILED"})
    for state in ("PENDING", "FAILED", "PENDING", "FAILED"):
        server.become(spent, state, LOST)
    ended = carryover_cli("watch", "--all", "--once", "--host", server.url)
    assert ended.rc == 0, ended.stderr
    states = {run_id: run["state"] for run_id, run in server.runs.items()}
    assert [run_id for run_id, state in states.items() if state == "PENDING" and run_id != running] == [
        marked,
        scheduled,
    ]
    assert f"{marked}  mine: retry 1 of 2" in ended.stdout
    assert f"{broken}  mine: not tried again: its preflight failed" in ended.stdout
    assert f"{spent}  mine: not tried again: it was tried again 2 times" in ended.stdout
    assert plain not in ended.stdout


def test_the_watcher_goes_on_and_is_restarted_without_harm(server, tmp_path):
    run_id = add(server, description=remote.mark(3))
    command = [sys.executable, "-m", "carryover", "watch", "--all", "--host", server.url, *FAST]
    for number in range(2):
        server.become(run_id, "FAILED", LOST)
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=tmp_path)
        deadline = time.monotonic() + 120
        while retries(server) <= number and time.monotonic() < deadline:
            time.sleep(0.05)
        process.send_signal(signal.SIGTERM)
        out = process.communicate(timeout=60)[0]
        assert retries(server) == number + 1, out
        assert f"retry {number + 1} of 3" in out


def test_an_interrupt_ends_the_watch_and_not_the_run(server, tmp_path):
    run_id = add(server, *[("RUNNING", TRAINING)] * 3)
    command = [sys.executable, "-m", "carryover", "watch", run_id, "--host", server.url]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path)
    assert process.stdout and "RUNNING" in process.stdout.readline()
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert f"the run goes on; follow it again: carryover watch {run_id}" in err
    assert [method for method, *_ in server.requests] == ["GET"]


def test_submit_marks_and_watches(server, carryover_cli):
    params = ("--param", "source=s3://bucket/a.csv", "--param", "label=stars", "--store", "s3://bucket/carryover")
    server.lives["run-1"] = [("RUNNING", TRAINING), ("FAILED", LOST), ("SUCCEEDED", DONE)]
    words = ("--retry-by-watcher", "7", "--watch", "--most-retries", "5", *FAST)
    ended = carryover_cli("submit", "train", "--host", server.url, *params, *words)
    assert ended.rc == 0, ended.stderr
    assert remote.marked(server.runs["run-1"]["description"]) == 7
    assert "retry 1 of 5" in ended.stdout
    made = carryover_cli(
        "schedule", "train", "--host", server.url, *params, "--cron", "@daily", "--retry-by-watcher", "4"
    )
    assert made.rc == 0, made.stderr
    assert remote.marked(server.schedules["schedule-1"]["description"]) == 4


def test_a_pod_reads_its_token_again(server, monkeypatch, tmp_path):
    """Kubernetes renews the file; a watch that read it once would be a stranger an hour later."""
    monkeypatch.setenv("KF_PIPELINES_SA_TOKEN_PATH", str(tmp_path / "token"))
    run_id = add(server, ("RUNNING", TRAINING), ("RUNNING", DONE), ("SUCCEEDED", DONE))
    server.token = "first"
    (tmp_path / "token").write_text("first\n")

    def renew(_text: str) -> None:
        server.token += "r"
        (tmp_path / "token").write_text(f"{server.token}\n")

    assert watching.follow(remote.Server(server.url), run_id, most=0, pace=PACE, say=renew).state == "SUCCEEDED"
    (tmp_path / "token").write_text("stale")
    with pytest.raises(WrongInput, match=r"audience pipelines\.kubeflow\.org"):
        watching.get_run(remote.Server(server.url), run_id)
    (tmp_path / "token").unlink()
    with pytest.raises(WrongInput, match="KF_PIPELINES_SA_TOKEN_PATH"):
        watching.get_run(remote.Server(server.url), run_id)
    assert watching.get_run(remote.Server(server.url, token=server.token), run_id).state == "SUCCEEDED"


def test_the_watcher_needs_no_more_of_kfp_than_its_generated_client():
    """That is what our images have."""
    code = "import sys, carryover_kfp.watch_command, carryover_kfp.watching; print('kfp' in sys.modules)"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ended.stdout == "False\n"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "say one thing: a RUN_ID, or --all"),
        (("run-1", "--all"), "say one thing: a RUN_ID, or --all"),
        (("run-1", "--once"), "--once: belongs to --all"),
        (("--all", "--most-retries", "3"), "--most-retries: with --all each run says its own"),
        (("run-1", "--every", "0"), "--every: 0 is not possible"),
        (("--all", "--once", "--pause", "3"), "--once: looks once"),
        (("run-9",), "Run run-9 not found"),
    ],
)
def test_wrong_words_are_one_clear_line(server, carryover_cli, words, said):
    ended = carryover_cli("watch", "--host", server.url, *words)
    assert ended.rc == 2
    assert said in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize(
    ("method", "path", "body", "said"),
    [
        ("POST", "/apis/v2beta1/runs", {"display_name": "x", "runtime_config": {"parametres": {}}}, "parametres"),
        ("POST", "/apis/v2beta1/runs", {"display_name": 3, "runtime_config": {}}, "is not of type 'string'"),
        ("POST", "/apis/v2beta1/runs", {"runtime_config": {}}, "missing: display_name"),
        (
            "POST",
            "/apis/v2beta1/runs",
            {"display_name": "x", "runtime_config": {}, "state": "FAILED"},
            "only the server",
        ),
        ("GET", "/apis/v2beta1/runs?page_sise=3", None, "no query parameter page_sise"),
        ("GET", "/apis/v2beta1/runs?page_size=x", None, "is no number"),
        ("PATCH", "/apis/v2beta1/runs", None, "no such operation"),
        ("POST", "/apis/v2beta1/runs/a:retry", {}, "takes no body"),
    ],
)
def test_a_request_that_does_not_fit_the_api_is_caught(method, path, body, said):
    if not kfp_api.FILE.is_file():
        pytest.skip(f"no API definition at {kfp_api.FILE}")
    assert said in kfp_api.Api().request_breach(method, path, body)


def test_a_wrong_request_fails_the_test(monkeypatch, tmp_path):
    if not kfp_api.FILE.is_file():
        pytest.skip(f"no API definition at {kfp_api.FILE}")
    wrong = {"display_name": "x", "runtime_config": {}, "experiment": "mine"}
    with pytest.raises(AssertionError, match="experiment"), kfp_server.serving(monkeypatch, tmp_path) as server:
        assert server.answer("POST", kfp_server.RUNS, wrong, "")[0] == 400
