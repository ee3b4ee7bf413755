"""Every call of an S3 store gone wrong in every way, once and for good: nothing acknowledged lost, one history.

CARRYOVER_TORTURE_STORE_SKIPS says at how many instants a single fault strikes: the first, second ... call of its kind.
"""

import os
import uuid
from collections import Counter
from collections.abc import Iterator

import pytest

from carryover.ground import failures
from carryover.ground.errors import WrongInput
from carryover.ground.storage import open_store
from tests.support.faulty import BODY, HOWS, KINDS, Fault, FaultyProxy
from tests.support.s3_server import S3Server
from tests.torture.harness import note
from tests.torture.stores import Overwriting, Played, behind, play, without_nonce, without_second_read

SKIPS = int(os.environ.get("CARRYOVER_TORTURE_STORE_SKIPS", "1"))
# One of each kind of ending, in seconds; `make torture` tries all.
SMALL = [
    Fault("put-record", "lost", skip=1),
    Fault("put-record", "silent"),
    Fault("put-object", "hole"),
    Fault("complete-multipart", "lost"),
    Fault("get-record", "flip"),
    Fault("get-object", "short"),
    Fault("list", "flip"),
    Fault("get-record", "flip", times=None),
    Fault("put-record", "lost", times=None, skip=1),
]


def name_of(fault: Fault) -> str:
    return "-".join((fault.kind, fault.how, "once" if fault.times else "always", str(fault.skip)))


@pytest.fixture(scope="module")
def proxy(s3_server: S3Server) -> Iterator[FaultyProxy]:
    with FaultyProxy(s3_server.endpoint) as proxy:
        yield proxy


def _all() -> list[Fault]:
    """Every kind of call in every way that it can go wrong, once and always."""
    faults: list[Fault] = []
    for kind in KINDS:
        for how in HOWS:
            if how in BODY and not (kind.startswith("get-") or kind == "list"):
                continue
            faults += [Fault(kind, how, skip=skip) for skip in range(SKIPS)]
            faults.append(Fault(kind, how, times=None))
    return faults


@pytest.mark.slow
@pytest.mark.parametrize("fault", SMALL, ids=name_of)
def test_fault_of_the_store(s3_store_uri: str, proxy: FaultyProxy, fault: Fault) -> None:
    played = play(f"{s3_store_uri}/runs/key", proxy, Fault(fault.kind, fault.how, fault.skip, fault.times))
    assert played.struck
    assert played.found == []


@pytest.mark.slow
def test_a_store_that_takes_no_more_writes(s3_store_uri: str, proxy: FaultyProxy) -> None:
    """Credentials that may only read from some instant on: wrong input, and all that was committed stays."""
    fault = Fault("put-object", "403", times=None)
    played = play(f"{s3_store_uri}/runs/key", proxy, fault)
    assert fault.struck and played.found == []
    assert played.code == 2 and "check the credentials" in str(failures.named(played.error or Exception()))
    with behind(proxy):
        proxy.arm(Fault("put-other", "403", times=None))
        with pytest.raises(WrongInput, match="can't be written"):
            open_store(s3_store_uri).probe()
        proxy.arm()


@pytest.mark.torture
@pytest.mark.timeout(7200)
def test_every_fault_of_the_store(s3_store_uri: str, proxy: FaultyProxy) -> None:
    found: list[str] = []
    ends: Counter[str] = Counter()
    for fault in _all():
        played = play(f"{s3_store_uri}/runs/{uuid.uuid4().hex}", proxy, fault)
        # What has no such call (no multipart upload, no third listing) was not tried.
        if fault.struck:
            print(name_of(fault), played.code, played.found, flush=True)
            ends["once" if fault.times else "always"] += 1
            found += [f"{name_of(fault)}: {line}" for line in played.found]
    store = "S3 (Ceph)"
    note(
        "one call of a store goes wrong (kind of call x fault)",
        store=store,
        count=ends["once"],
        violations=_of(found, "once"),
    )
    note("all calls of a kind go wrong (x fault)", store=store, count=ends["always"], violations=_of(found, "always"))
    assert ends["once"] >= 80 and ends["always"] >= 80
    assert found == []


def _of(found: list[str], times: str) -> int:
    return sum(f"-{times}-" in line.partition(":")[0] for line in found)


@pytest.mark.slow
@pytest.mark.parametrize("what", ["unconditional PUT", "no nonce", "no second read"])
def test_controls_are_caught(s3_store_uri: str, proxy: FaultyProxy, what: str) -> None:
    uri = f"{s3_store_uri}/runs/key"
    played: Played
    if what == "unconditional PUT":
        played = play(uri, proxy, Fault("put-record", "slow"), store=Overwriting)
    elif what == "no nonce":
        with without_nonce():
            played = play(uri, proxy, Fault("put-record", "lost", skip=1))
    else:
        with without_second_read():
            played = play(uri, proxy, Fault("get-object", "flip"))
    note(f"control, must fail: faults of a store, {what}", store="S3 (Ceph)", count=1, violations=len(played.found))
    assert played.found != []
