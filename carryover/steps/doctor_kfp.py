"""Owns the doctor's looks at a Kubeflow Pipelines server: that it answers, which version, and whether we may ask.

Only HTTP is spoken here: KFP's SDK belongs to the authoring side.
"""

import json
import os
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from http.client import HTTPException
from pathlib import Path
from typing import Any

from carryover.ground.uris import shown
from carryover.steps.doctor_look import FAIL, OK, Finding

_SECONDS = 8.0
# As carryover_kfp/login.py finds them.
_TOKEN, _TOKEN_PATH = "CARRYOVER_KFP_TOKEN", "KF_PIPELINES_SA_TOKEN_PATH"
_POD_TOKEN = "/var/run/secrets/kubeflow/pipelines/token"


def server(host: str, namespace: str) -> Iterator[Finding]:
    """Look at the server at `host`, as whoever the environment says we are."""
    address = host.rstrip("/")
    if not address.startswith(("http://", "https://")) or shown(address) != address:
        mend = "give http://... or https://..., without a password in it"
        yield Finding("kfp", FAIL, f"{shown(address)} is no address", mend, "bad-uri")
        return
    try:
        status, told = _get(f"{address}/apis/v2beta1/healthz", "")
    except (OSError, ValueError, HTTPException) as error:
        why = getattr(error, "reason", error)
        mend = "is the address right, and the port-forward running? docs/cluster.md has both"
        yield Finding("kfp", FAIL, f"{address} does not answer as KFP does ({why})", mend, "kfp-unreachable")
        return
    who, token = _who()
    if status in (401, 403) and token:
        status, told = _get(f"{address}/apis/v2beta1/healthz", token)
    if status != 200:
        yield Finding("kfp", FAIL, f"{address} answers {status}", _login(status), "kfp-refused")
        return
    # Its version stands in the older of its two APIs only, which a server may have switched off.
    older = _get(f"{address}/apis/v1beta1/healthz", token)[1]
    version = older.get("tag_name") or older.get("apiServerTagName") or "of an unknown version"
    users = "many users" if told.get("multi_user") else "one user"
    yield Finding("kfp", OK, f"{address} answers: KFP {version}, for {users}")
    yield _rights(address, namespace, who, token, is_shared=bool(told.get("multi_user")))


def _rights(address: str, namespace: str, who: str, token: str, *, is_shared: bool) -> Finding:
    if is_shared and not namespace:
        return Finding("kfp login", FAIL, "it has many users, and no namespace is named", "--namespace PROFILE")
    words = {"page_size": "1", **({"namespace": namespace} if namespace else {})}
    status, told = _get(f"{address}/apis/v2beta1/runs?{urllib.parse.urlencode(words)}", token)
    if status == 200:
        count = told.get("total_size", 0)
        return Finding("kfp login", OK, f"runs can be listed as {who} ({count} there)")
    return Finding("kfp login", FAIL, f"listing runs as {who} is answered with {status}", _login(status), "kfp-refused")


def _get(url: str, token: str) -> tuple[int, dict[str, Any]]:
    headers = {"Accept": "application/json", **({"Authorization": f"Bearer {token}"} if token else {})}
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=_SECONDS) as answer:
            # A login page is HTML, and no JSON.
            told = json.loads(answer.read())
            return answer.status, told if isinstance(told, dict) else {}
    except urllib.error.HTTPError as error:
        error.close()
        return error.code, {}


def _who() -> tuple[str, str]:
    """Return who we are in words, and the token that says so."""
    if os.environ.get(_TOKEN):
        return f"{_TOKEN} says", os.environ[_TOKEN]
    path = Path(os.environ.get(_TOKEN_PATH) or _POD_TOKEN)
    try:
        return f"the token at {path} says", path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeError):
        return "nobody (no token)", ""


def _login(status: int) -> str:
    if status == 401:
        return f"log in: set {_TOKEN}, or name a token's file in {_TOKEN_PATH}"
    if status == 403:
        return "ask for rights on runs in this --namespace, or set another token"
    return "look at the log of ml-pipeline" if status >= 500 else "is this the address of KFP's API or UI?"
