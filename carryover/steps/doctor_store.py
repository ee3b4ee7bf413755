"""Owns the doctor's looks at a store: who we are there, each call that a run makes by itself, its clock and its speed.

reach   a connection, in seconds       only where a server is asked over a network
write   PutObject                      STORE/doctor-<random>/..., all of it removed at the end
read    GetObject, HeadObject
list    ListBucket
once    PutObject with If-None-Match, twice: the second must be refused
uploads ListBucketMultipartUploads     what writes that never ended left behind
clock   Last-Modified against ours     a signature has a time in it
speed   8 MB there and back
delete  DeleteObject
"""

import contextlib
import os
import socket
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

from carryover.ground import failures, storage
from carryover.ground.amounts import size
from carryover.ground.storage import Store, first_line
from carryover.ground.unfinished import unfinished
from carryover.ground.uris import shown
from carryover.steps.doctor_look import FAIL, OK, WARN, Finding
from carryover.steps.doctor_machine import disk
from carryover.steps.results import in_cluster, is_of_machine

# S3 refuses a signature whose time is more than a quarter of an hour away.
_MOST_SKEW = 300.0
_REACH_SECONDS = 4.0
_SIZE = 8 << 20
_SLOW = 1 << 20
_RUNS_SHOWN = 20


def store(uri: str) -> Iterator[Finding]:
    """Look at the store at `uri`: nothing of a run is touched, and what is written is removed."""
    place = storage.open_store(uri)
    if place.local:
        yield from _local(place.local)
    elif is_of_machine(uri):
        yield Finding("store", WARN, f"{uri} is this process's memory", "name a folder or an object store")
    if place.scheme == "s3":
        reached = list(_s3(place))
        yield from reached
        if any(one.state == FAIL for one in reached):
            return
    yield from _round_trip(place)


def _local(folder: Path) -> Iterator[Finding]:
    if in_cluster():
        mend = "give an object store: --store s3://bucket/carryover"
        yield Finding("store", FAIL, f"{folder} is inside this pod and ends with it", mend, "local-place")
    yield disk("store disk", folder, "carryover checkpoint prune, or another --store")


def _s3(place: Store) -> Iterator[Finding]:
    """Look at who we are and whether the server can be reached, before the client tries that at length."""
    from botocore.session import get_session

    session = get_session()
    found = session.get_credentials()
    if found is None:
        mend = (
            "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (in a cluster: by a secret), or give the pod an identity"
        )
        yield Finding("store credentials", FAIL, "none found", mend, "no-credentials")
    else:
        # How they were found, never what they are.
        yield Finding("store credentials", OK, f"found by {found.method}")
    region = session.get_config_variable("region") or "us-east-1"
    # (An instance's own address for credentials is not asked here: no call is made.)
    endpoint = session.create_client("s3", region_name=region).meta.endpoint_url
    address = urlsplit(endpoint)
    port = address.port or (443 if address.scheme == "https" else 80)
    try:
        with socket.create_connection((address.hostname or "", port), timeout=_REACH_SECONDS):
            yield Finding("store address", OK, f"{shown(endpoint)} can be reached")
    except OSError as error:
        named = "AWS_ENDPOINT_URL_S3" if "AWS_ENDPOINT_URL_S3" in os.environ else "AWS_ENDPOINT_URL"
        mend = f"is it running, and is {named} right? In a cluster a network policy may be in between"
        proxied = any(name in os.environ for name in ("HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy"))
        text = f"{shown(endpoint)} can't be reached ({error.strerror or error})"
        yield Finding("store address", WARN if proxied else FAIL, text, mend, "store-unreachable")


def _round_trip(place: Store) -> Iterator[Finding]:
    """Try each call; what needs a file that could not be written is left out."""
    probe = place.sub(f"doctor-{uuid.uuid4().hex}")
    first = _tried("store write", "s3:PutObject", lambda: probe.write("a", b"first"), place)
    yield first
    if first.state == FAIL:
        # What needs no file of ours tells whether it is this right alone.
        yield _tried("store list", "s3:ListBucket", lambda: _counted(place), place)
        return
    yield _tried("store read", "s3:GetObject", lambda: _read(probe), place)
    yield _tried("store list", "s3:ListBucket", lambda: _listed(probe), place)
    yield _once(probe, place)
    if place.scheme == "s3":
        yield _tried("store uploads", "s3:ListBucketMultipartUploads", lambda: _uploads(place), place)
        yield _clock(probe)
    yield _speed(probe, place)
    yield _tried("store delete", "s3:DeleteObject", lambda: probe.delete("a"), place)
    with contextlib.suppress(Exception):
        place.delete_folder(probe.uri.rpartition("/")[2])


def _tried(name: str, right: str, call: Callable[[], str | None], place: Store) -> Finding:
    began = time.monotonic()
    try:
        said = call()
    except Exception as error:
        missing = isinstance(error, FileNotFoundError) and not place.local
        trouble = "store-forbidden" if missing else failures.trouble_of(error, "path-refused")
        why = "there is no such bucket; create it first" if missing else first_line(error)
        if place.local and (refused := failures.of_path(error)):
            return Finding(name, FAIL, str(refused), "", trouble)
        mend = (
            f"allow {right} below {place.uri}" if place.scheme == "s3" else f"give this user the right to {place.uri}"
        )
        if trouble == "store-unreachable":
            mend = "look whether the server is well; a policy is not what is missing"
        return Finding(name, FAIL, why, mend, trouble)
    return Finding(name, OK, said or f"{(time.monotonic() - began) * 1000:.0f} ms")


def _read(probe: Store) -> None:
    if probe.read("a") != b"first" or probe.size("a") != len(b"first"):
        raise ValueError("another content than was written")


def _counted(place: Store) -> str:
    return f"{len(place.folders())} folders"


def _listed(probe: Store) -> None:
    if probe.names() != ["a"]:
        raise ValueError(f"a file that was written is not listed (it lists {probe.names()})")


def _once(probe: Store, place: Store) -> Finding:
    name = "store conditions"
    try:
        is_kept = probe.create("once", b"1") and not probe.create("once", b"2") and probe.read("once") == b"1"
    except Exception as error:
        return Finding(name, FAIL, first_line(error), f"allow s3:PutObject with If-None-Match below {place.uri}")
    if is_kept:
        return Finding(name, OK, "put-if-absent is honoured: of two writers one wins")
    mend = "use Amazon S3, Ceph, MinIO or a local folder; take a proxy that removes If-None-Match out of the way"
    return Finding(name, FAIL, "put-if-absent is ignored: two attempts could write over each other", mend, _REFUSES)


_REFUSES = "store-refuses-conditions"


def _uploads(place: Store) -> str:
    """Say how much writes that never ended left behind; those of living attempts are among them."""
    runs = place.folders("runs")[:_RUNS_SHOWN]
    left = [one for run in runs for one in unfinished(place, f"runs/{run}/objects")]
    return (
        f"{len(left)} unfinished in {len(runs)} run{'' if len(runs) == 1 else 's'} (training and prune remove old ones)"
    )


def _clock(probe: Store) -> Finding:
    before = time.time()
    probe.write("clock", b"")
    after = time.time()
    bucket, key, _ = probe.fs.split_path(probe.at("clock"))
    theirs = probe.fs.call_s3("head_object", Bucket=bucket, Key=key, **probe.deadline())["LastModified"].timestamp()
    # The header has whole seconds.
    skew = max(0.0, before - theirs - 1, theirs - after)
    if skew <= _MOST_SKEW:
        return Finding("store clock", OK, f"within {max(1, round(skew))} s of ours")
    mend = "set this machine's clock (chrony, ntpd): beyond 15 minutes S3 refuses every signature"
    return Finding("store clock", WARN, f"{skew:.0f} s away from ours", mend, "store-forbidden")


def _speed(probe: Store, place: Store) -> Finding:
    data = os.urandom(_SIZE)
    try:
        began = time.monotonic()
        probe.write("speed", data)
        written = time.monotonic()
        whole = probe.read("speed", large=True) == data
        done = time.monotonic()
    except Exception as error:
        return Finding("store speed", FAIL, first_line(error), f"8 MB can't be carried to {place.uri} and back",
                       failures.trouble_of(error, "store-unreachable"))  # fmt: skip
    if not whole:
        return Finding("store speed", FAIL, "8 MB came back changed", "the way to the store spoils it", "damaged")
    there, back = _SIZE / max(written - began, 1e-6), _SIZE / max(done - written, 1e-6)
    by = f", by {probe.carrier()}" if probe.carrier() else ""
    text = f"{size(there)}/s written, {size(back)}/s read{by}"
    slow = min(there, back) < _SLOW
    mend = "saves of large models will take long; checkpoints follow their cost (docs/reliability.md)" if slow else ""
    return Finding("store speed", WARN if slow else OK, text, mend)
