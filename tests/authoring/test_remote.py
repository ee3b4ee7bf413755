"""submit and retry, over real HTTP against a small KFP server on loopback."""

import socket
from collections.abc import Iterator

import pytest
import yaml

from carryover.ground.errors import WrongInput
from carryover_kfp import catalog, remote
from carryover_kfp.compiling import compiled
from tests.authoring import kfp_server


@pytest.fixture
def server(monkeypatch, tmp_path) -> Iterator[kfp_server.KfpServer]:
    with kfp_server.serving(monkeypatch, tmp_path) as server:
        yield server


SUBMIT = ("--param", "source=s3://bucket/a.csv", "--param", "label=stars", "--store", "s3://bucket/carryover")


def test_submit_sends_the_pipeline_and_its_parameters(server, carryover_cli, tmp_path):
    (tmp_path / "recipe.yaml").write_text("seed: 3\n")
    more = ("--recipe", "recipe.yaml", "--set", "optimization.max_epochs=2", "--param", "nproc_per_node=2")
    names = ("--experiment", "mine", "--run-name", "first", "--pipeline-root", "s3://bucket/kfp")
    ended = carryover_cli("submit", "train", "--host", server.url, *SUBMIT, *more, *names, "--image", "own:v2")
    assert ended.rc == 0, ended.stderr
    assert ended.stdout == f"run: run-1\npage: {server.url}/#/runs/details/run-1\n"
    run = server.runs["run-1"]
    assert run["display_name"] == "first"
    assert run["experiment_id"] == server.experiments["mine"]
    assert run["runtime_config"]["pipeline_root"] == "s3://bucket/kfp"
    assert run["runtime_config"]["parameters"] == {
        "source": ["s3://bucket/a.csv"],
        "label": "stars",
        "store": "s3://bucket/carryover",
        # One text: a dict would come back with 3.0.
        "recipe": "seed: 3\n",
        "set": ["optimization.max_epochs=2"],
        "nproc_per_node": 2,
    }
    sent = run["pipeline_spec"]
    expected = yaml.safe_load(compiled(catalog.load_pipeline("train"), image="own:v2"))
    for task in expected["root"]["dag"]["tasks"].values():
        task["cachingOptions"] = {"enableCache": False}
    for task in sent["root"]["dag"]["tasks"].values():
        task["cachingOptions"].setdefault("enableCache", False)
    assert sent == expected


def test_submit_logs_in_with_a_token(server, carryover_cli):
    server.token = "a-bearer-token"
    refused = carryover_cli("submit", "train", "--host", server.url, *SUBMIT)
    assert refused.rc == 2
    assert "401" in refused.stderr
    assert "--token" in refused.stderr
    assert "Traceback" not in refused.stderr
    taken = carryover_cli(
        "submit", "train", "--host", server.url, *SUBMIT, env={"CARRYOVER_KFP_TOKEN": "a-bearer-token"}
    )
    assert taken.rc == 0, taken.stderr
    assert "a-bearer-token" not in taken.stdout + taken.stderr + refused.stdout + refused.stderr


def test_a_login_by_browser_is_kept_where_the_sdk_keeps_it(server, tmp_path):
    """In a home of the test's own; see `serving`."""
    assert remote.connection(remote.Server(server.url)).cookie is None
    context = tmp_path / ".config" / "kfp" / "context.json"
    context.parent.mkdir(parents=True)
    context.write_text('{"namespace": "", "client_authentication_cookie": "session=abc"}')
    assert remote.connection(remote.Server(server.url)).cookie == "session=abc"
    context.write_text("{")
    with pytest.raises(WrongInput, match="mend or remove it"):
        remote.connection(remote.Server(server.url))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (SUBMIT[:4], "also needs store"),
        ((*SUBMIT[:4], "--store", "here/below"), "means nothing to a pod"),
        ((*SUBMIT, "--param", "epochs=3"), "has no parameter 'epochs'"),
        ((*SUBMIT, "--param", "store=s3://other"), "--store and --param store=... say the same thing"),
    ],
)
def test_submit_refuses_before_it_asks_the_server(server, carryover_cli, arguments, said):
    ended = carryover_cli("submit", "train", "--host", server.url, *arguments)
    assert ended.rc == 2
    assert said in ended.stderr
    assert server.requests == []


def test_retry_keeps_the_run(server, carryover_cli):
    assert carryover_cli("submit", "train", "--host", server.url, *SUBMIT).rc == 0
    server.runs["run-1"]["state"] = "FAILED"
    ended = carryover_cli("retry", "run-1", "--host", server.url)
    assert ended.rc == 0, ended.stderr
    assert "run: run-1" in ended.stdout
    assert server.runs["run-1"]["state"] == "PENDING"
    assert ("POST", f"{kfp_server.RUNS}/run-1:retry") in [request[:2] for request in server.requests]
    again = carryover_cli("retry", "run-1", "--host", server.url)
    assert again.rc == 2
    assert "must be Failed/Error" in again.stderr


def test_retry_of_no_run_is_one_clear_line(server, carryover_cli):
    ended = carryover_cli("retry", "run-7", "--host", server.url)
    assert ended.rc == 2
    assert "404" in ended.stderr
    assert "run-7 not found" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_no_server_is_one_clear_line(carryover_cli):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
    ended = carryover_cli("retry", "run-1", "--host", url)
    assert ended.rc == 1
    assert "no KFP server answers there" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_host_without_a_scheme_is_refused(carryover_cli):
    ended = carryover_cli("retry", "run-1", "--host", "kubeflow.example")
    assert ended.rc == 2
    assert "must start with http:// or https://" in ended.stderr
