"""Damaged checkpoints by thousands: what is loaded is what some commit saved, what is damaged is said, or it refuses.

CARRYOVER_TORTURE_DAMAGES says how many on the local disk, a twentieth of them on S3; CARRYOVER_TORTURE_SEED, which.
"""

import os
import random
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import pytest

from carryover.checkpoint import store
from carryover.checkpoint.home import RunHome
from carryover.checkpoint.layout import LAST, LOG, object_name, record_name
from carryover.checkpoint.log import Record
from carryover.checkpoint.retention import Keep
from carryover.ground.errors import CarryoverError
from carryover.ground.storage import open_store
from tests.checkpoint.support import content, plain, save, start, tensors_of
from tests.torture.conftest import Place
from tests.torture.harness import note

pytestmark = [pytest.mark.torture, pytest.mark.timeout(7200)]
DAMAGES = int(os.environ.get("CARRYOVER_TORTURE_DAMAGES", "200"))
STEPS = (10, 20, 30)


@dataclass
class Victim:
    """A run of three generations, all its files as they were written, and those of another run of the same steps."""

    home: RunHome
    records: dict[int, Record]
    files: dict[str, bytes]
    others: dict[str, bytes]

    @classmethod
    def of(cls, uri: str) -> "Victim":
        """Make it."""
        saved: list[Record] = []
        runs = [RunHome.open(open_store(uri), key) for key in ("victim", "another")]
        files: list[dict[str, bytes]] = []
        for home in runs:
            home.start({"recipe": {}})
            writer = start(home)
            saved = [save(writer, step, score=0.5, keep=Keep(last=3, best=1)) for step in STEPS]
            names = [name for name in home.store.walk() if name.startswith((LOG, "objects", LAST))]
            files.append({name: home.store.read(name) for name in names})
        records = {record.step: record for record in runs[0].commits()}
        assert [record.step for record in saved] == list(records) == list(STEPS)
        return cls(runs[0], records, files[0], files[1])

    def needs(self, record: Record) -> set[str]:
        """Return the files without which a commit is not what it was."""
        return {record_name(record.number), *(object_name(ref.digest) for ref in record.objects)}


def _truncated(victim: Victim, name: str, chance: random.Random) -> bytes:
    return victim.files[name][: chance.randrange(len(victim.files[name]))]


def _flipped(victim: Victim, name: str, chance: random.Random) -> bytes:
    data = bytearray(victim.files[name])
    data[chance.randrange(len(data))] ^= chance.randrange(1, 256)
    return bytes(data)


def _hole(victim: Victim, name: str, chance: random.Random) -> bytes:
    data = bytearray(victim.files[name])
    at, size = chance.randrange(len(data)), chance.choice((16, 512, 4096))
    data[at : at + size] = bytes(len(data[at : at + size]))
    return bytes(data)


def _missing(victim: Victim, name: str, chance: random.Random) -> None:
    return None


def _empty(victim: Victim, name: str, chance: random.Random) -> bytes:
    return b""


def _mixed(victim: Victim, name: str, chance: random.Random) -> bytes:
    """The whole file of another generation or run, or the head of one with the tail of another."""
    kind, sources = name.partition("/")[0], (victim.files, victim.others)
    alike = [
        data
        for source in sources
        for other, data in source.items()
        if other.partition("/")[0] == kind and data != victim.files[name]
    ]
    mine, other = victim.files[name], chance.choice(alike or [victim.files[record_name(1)]])
    if chance.random() < 0.5:
        return other
    at = chance.randrange(min(len(mine), len(other)) or 1)
    return mine[:at] + other[at:]


KINDS: Mapping[str, Callable[[Victim, str, random.Random], bytes | None]] = {
    "truncated": _truncated,
    "flipped byte": _flipped,
    "hole": _hole,
    "missing object": _missing,
    "empty record": _empty,
    "two generations mixed": _mixed,
}


def _damage(victim: Victim, kind: str, chance: random.Random) -> str:
    """Damage one file, load, and put it back; return what is wrong with how that ended, "" when nothing is."""
    start = {"missing object": "objects/", "empty record": f"{LOG}/"}.get(kind, "")
    name = chance.choice([name for name in victim.files if name.startswith(start)])
    spoilt = KINDS[kind](victim, name, chance)
    if spoilt == victim.files[name]:
        return ""  # a hole where zeros were
    try:
        if spoilt is None:
            victim.home.store.delete(name)
        else:
            victim.home.store.write(name, spoilt)
        return _judge(victim, name)
    finally:
        victim.home.store.write(name, victim.files[name])


def _judge(victim: Victim, name: str) -> str:
    said: list[str] = []
    try:
        loaded = victim.home.load_newest(said.append)
    except CarryoverError:
        return ""  # It refuses, with one line.
    if loaded is None:
        return f"{name}: it would start from zero"
    record = loaded.record
    if record.step not in STEPS or content(loaded) != plain(tensors_of(record.step)):
        return f"{name}: what was loaded is not what step {record.step} saved"
    if loaded.files != {"preprocessors/words.json": b'["a"]'}:
        return f"{name}: other files than step {record.step} saved"
    if record.data != victim.records[record.step].data or name in victim.needs(record):
        return f"{name}: step {record.step} was loaded, and this of it is damaged"
    return "" if record.step == STEPS[-1] or said else f"{name}: step {record.step} is taken and nobody is told why"


def _sitting(victim: Victim, count: int) -> tuple[list[str], Counter[str]]:
    chance = random.Random(int(os.environ.get("CARRYOVER_TORTURE_SEED", "0")) or time.time_ns())
    found, tried = [], Counter[str]()
    for number in range(count):
        kind = list(KINDS)[number % len(KINDS)]
        tried[kind] += 1
        if wrong := _damage(victim, kind, chance):
            found.append(f"{kind}: {wrong}")
    return found, tried


def test_damaged_checkpoints(place: Place) -> None:
    victim = Victim.of(place.uri)
    count = DAMAGES if place.kind == "local disk" else max(len(KINDS), DAMAGES // 20)
    found, tried = _sitting(victim, count)
    note(f"damaged checkpoints loaded silently ({', '.join(KINDS)})", store=place.kind, count=count,
         violations=len(found))  # fmt: skip
    assert found == []
    assert min(tried.values()) > 0
    # All was put back, so nothing was carried over from one damage to the next.
    assert content(victim.home.load_newest(pytest.fail)) == plain(tensors_of(STEPS[-1]))


def test_without_digests_damage_is_loaded_silently(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """The control: the same damages, where sizes and digests of objects are not looked at."""
    if place.kind != "local disk":
        pytest.skip("what the store is makes no difference to it")
    victim = Victim.of(place.uri)
    monkeypatch.setattr(store, "_check", lambda ref, size, found: None)
    count = max(120, DAMAGES // 10)
    found, _ = _sitting(victim, count)
    note("control, must fail: damaged checkpoints where no digest is checked", store=place.kind, count=count,
         violations=len(found))  # fmt: skip
    assert found != []
