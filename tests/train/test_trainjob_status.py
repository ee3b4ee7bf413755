"""What Trainer's controller is told: by HTTPS with its own certificate and the pod's token, in the CRD's own form."""

import datetime
import ipaddress
import json
import ssl
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any, cast

import jsonschema
import pytest
import yaml

from carryover.checkpoint.home import RunHome
from carryover.train.listeners import Listener, heard
from carryover.train.trainjob_status import CERTIFICATE, TOKEN, URL, TrainJobStatus, listener
from tests.support.kube_server import SCHEMA, closed

PATH = "/apis/trainer.kubeflow.org/v1alpha1/namespaces/team/trainjobs/job/status"


class Controller:
    """The controller's endpoint: refuses a token that it did not give, and what the CRD would."""

    def __init__(self, folder: Path, schema: dict[str, Any]) -> None:
        self.told: list[dict[str, Any]] = []
        self.refused = 0
        self.token = "first"
        self._schema = schema
        self._server = HTTPServer(("127.0.0.1", 0), self._handler())
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*certificate(folder))
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self.url = f"https://127.0.0.1:{self._server.server_port}{PATH}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        controller = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                known = self.headers["Authorization"] == f"Bearer {controller.token}" and self.path == PATH
                if known:
                    assert set(body) == {"trainerStatus"}
                    jsonschema.validate(body["trainerStatus"], controller._schema)
                    assert "lastUpdatedTime" in body["trainerStatus"]
                    controller.told.append(body["trainerStatus"])
                controller.refused += not known
                self.send_response(200 if known else 401)
                self.end_headers()

            def log_message(self, format: str, *args: Any) -> None:
                pass

        return Handler


def certificate(folder: Path) -> tuple[Path, Path]:
    """A certificate for 127.0.0.1 that vouches for itself, and its key."""
    x509 = pytest.importorskip("cryptography.x509", reason="it is of the test server's own dependencies")
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.datetime.now(datetime.UTC)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "controller")])
    address = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(address, critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    (folder / "ca.crt").write_bytes(made.public_bytes(pem))
    (folder / "key.pem").write_bytes(key.private_bytes(pem, form, serialization.NoEncryption()))
    return folder / "ca.crt", folder / "key.pem"


@pytest.fixture
def controller(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Controller]:
    if not SCHEMA.exists():
        pytest.skip(f"no published schema at {SCHEMA}")
    crd = yaml.safe_load(SCHEMA.read_text())
    status = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["status"]
    found = Controller(tmp_path, closed(status["properties"]["trainerStatus"]))
    (tmp_path / "token").write_text("first\n")
    for name, value in ((URL, found.url), (CERTIFICATE, tmp_path / "ca.crt"), (TOKEN, tmp_path / "token")):
        monkeypatch.setenv(name, str(value))
    monkeypatch.setattr(TrainJobStatus, "every", 0.2)
    yield found
    found.close()


def until(check: Any) -> None:
    deadline = time.monotonic() + 30
    while not check():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_it_is_told_how_far_the_run_is(controller: Controller, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    newest: dict[str, Any] = {"step": 30, "total": 90, "epoch": 1, "max_epochs": 3, "attempt": 2, "loss": 0.123456789}
    newest |= {"learning_rate": 1e-4, "rows_per_second": 812.5, "eta_seconds": 61.4, "commit_step": 20}
    line = {"step": 30, "epoch": 1, "attempt": 1, "val_f1": 0.75, "val_loss": None}
    (scratch / "metrics.jsonl").write_text(json.dumps(line) + "\n")
    (scratch / "progress.json").write_text(json.dumps(newest))
    told = listener(cast(RunHome, None), "key", {})
    assert told is not None
    with heard(scratch, cast(RunHome, None), [cast(Listener, told)]) as hearing:
        until(lambda: controller.told)
        # The token is renewed under the pod.
        controller.token = "second"
        until(lambda: controller.refused)
        (tmp_path / "token").write_text("second")
        (scratch / "progress.json").write_text(json.dumps({**newest, "step": 90, "eta_seconds": 0.0}))
        until(lambda: controller.told[-1]["progressPercentage"] == 99)
        hearing.exit_code = 0
    first, last = controller.told[0], controller.told[-1]
    assert (first["progressPercentage"], first["estimatedRemainingSeconds"]) == (33, 61)
    metrics = {one["name"]: one["value"] for one in first["metrics"]}
    assert (metrics["loss"], metrics["val_f1"], metrics["step"]) == ("0.123457", "0.75", "30")
    assert "val_loss" not in metrics
    assert (last["progressPercentage"], last["estimatedRemainingSeconds"]) == (100, 0)
    assert capsys.readouterr().err.count("warning: the TrainJob's status could not be told") == 1


def test_a_controller_with_another_certificate_is_told_nothing(
    controller: Controller, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "other").mkdir()
    other, _ = certificate(tmp_path / "other")
    monkeypatch.setenv(CERTIFICATE, str(other))
    with pytest.raises(OSError, match="CERTIFICATE_VERIFY_FAILED"):
        TrainJobStatus(controller.url).hear([], {"step": 1, "total": 2})
    assert controller.told == []
