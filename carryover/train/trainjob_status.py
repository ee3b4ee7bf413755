"""Owns what the TrainJob that a run is part of says of its progress: percentage, seconds left, newest metrics.

Trainer's controller, with its feature gate TrainJobStatus, gives each pod a URL, a certificate and a token that it
renews; node 0 posts there: https://github.com/kubeflow/trainer/tree/master/docs/proposals/2779-trainjob-progress

    {"trainerStatus": {"progressPercentage", "estimatedRemainingSeconds", "metrics": [{"name", "value"}],
                       "lastUpdatedTime"}}
"""

import json
import os
import ssl
import urllib.request
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from carryover.checkpoint.home import RunHome

URL = "KUBEFLOW_TRAINER_SERVER_URL"
CERTIFICATE = "KUBEFLOW_TRAINER_SERVER_CA_CERT"
TOKEN = "KUBEFLOW_TRAINER_SERVER_TOKEN"
# The controller's own client keeps to this too.
_EVERY_SECONDS = 5.0
_CALL_SECONDS = 5.0
_MOST_METRICS, _LONGEST = 256, 64
_NEWEST = ("step", "total", "epoch", "max_epochs", "attempt", "loss", "learning_rate", "rows_per_second", "commit_step")


def listener(home: RunHome, run_key: str, recipe: Mapping[str, Any]) -> "TrainJobStatus | None":
    """Return the listener where the controller asks to be told, else None."""
    return TrainJobStatus(os.environ[URL]) if os.environ.get(URL) else None


class TrainJobStatus:
    """Posts the newest state of a run to Trainer's controller."""

    name = "the TrainJob's status"
    every = _EVERY_SECONDS

    def __init__(self, url: str) -> None:
        self._url = url
        self._scores: dict[str, float] = {}
        self._newest: Mapping[str, Any] = {}

    def hear(self, lines: Sequence[Mapping[str, Any]], newest: Mapping[str, Any]) -> None:
        """See `listeners.Listener`."""
        for line in lines:
            self._scores |= {name: value for name, value in line.items() if name.startswith("val_")}
            if line.get("event") == "start" and line.get("lost_steps"):
                self._scores["lost_steps"] = self._scores.get("lost_steps", 0) + line["lost_steps"]
        self._newest = newest
        if newest:
            # All is done when the Model is there, and not before.
            percent = min(99, int(100 * newest["step"] / max(1, newest["total"])))
            self._post(percent, newest.get("eta_seconds"))

    def end(self, exit_code: int, home: RunHome) -> None:
        """See `listeners.Listener`."""
        if exit_code == 0:
            self._post(100, 0)

    def _post(self, percent: int, seconds: float | None) -> None:
        known = {name: self._newest.get(name) for name in _NEWEST} | self._scores
        metrics = [
            {"name": name[:_LONGEST], "value": f"{value:.6g}" if isinstance(value, float) else str(value)}
            for name, value in known.items()
            if value is not None
        ]
        status: dict[str, Any] = {
            "progressPercentage": percent,
            "metrics": metrics[:_MOST_METRICS],
            "lastUpdatedTime": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        }
        if seconds is not None:
            status["estimatedRemainingSeconds"] = min(round(seconds), 2**31 - 1)
        # The token is renewed under us: it is read each time.
        token = Path(os.environ[TOKEN]).read_text().strip()
        request = urllib.request.Request(
            self._url,
            data=json.dumps({"trainerStatus": status}).encode(),
            headers={"Authorization": f"Bearer {token}", "Content-Type": "application/json"},
        )
        context = ssl.create_default_context(cafile=os.environ.get(CERTIFICATE) or None)
        # The controller is inside the cluster: a proxy for the world outside must not see the token.
        opener = urllib.request.build_opener(
            urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context)
        )
        opener.open(request, timeout=_CALL_SECONDS).close()
