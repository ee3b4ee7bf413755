"""One play of a run on S3 behind a faulty proxy, and the judge of what it left.

undisturbed   attempt 1 commits steps 1 and 2
the fault     attempt 2 of the same owner claims, loads, commits 3 and 4, finishes; a save is tried again as in
              training; then the run is loaded and verified
undisturbed   attempt 1, a zombie by now, tries to commit; attempt 3 goes on and commits
"""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from unittest import mock

from carryover.checkpoint import log as logs
from carryover.checkpoint.home import RunHome
from carryover.checkpoint.layout import Damaged, record_name
from carryover.checkpoint.log import Head, Kind, Log, Record
from carryover.checkpoint.pack import RawTensor
from carryover.checkpoint.verify import verify
from carryover.checkpoint.writer import Writer
from carryover.ground import failures, storage
from carryover.ground.errors import Superseded
from carryover.ground.storage import Store
from tests.checkpoint.support import content, end, plain, start, tensors_of
from tests.support.faulty import AFTER, BODY, Fault, FaultyProxy

MULTIPART = ("create-multipart", "put-part", "complete-multipart")
# So little that a play takes seconds where nothing answers; what S3 itself allows as a part.
READ_SECONDS, CALL_SECONDS, PART_BYTES = 0.8, 6.0, 5 << 20
_BIG = RawTensor("U8", (11 << 20,), bytes(range(256)) * (11 << 12))
TRIES = 3


@dataclass
class Played:
    """How a play went.

    Attributes:
        struck: how often the fault struck.
        error: what ended the attempt under the fault, None when nothing did.
        found: what must not happen and did, one line each.
    """

    struck: int = 0
    error: BaseException | None = None
    found: list[str] = field(default_factory=list)

    @property
    def code(self) -> int:
        """The exit code that the attempt would have had."""
        if self.error is None:
            return 0
        named = failures.named(self.error)
        return named.exit_code if named else 1


@contextlib.contextmanager
def behind(proxy: FaultyProxy) -> Iterator[None]:
    """Let stores that are opened now lead through the proxy, with deadlines of a second or so."""
    options = {
        "endpoint_url": proxy.url,
        "default_block_size": PART_BYTES,
        "config_kwargs": {"connect_timeout": 1, "read_timeout": READ_SECONDS, "retries": {"total_max_attempts": 2}},
    }
    with mock.patch.object(storage, "S3_OPTIONS", options), mock.patch.object(storage, "_CALL_SECONDS", CALL_SECONDS):
        yield


def play(uri: str, proxy: FaultyProxy, fault: Fault, *, store: type[Store] = Store) -> Played:
    """Play it on an empty run home; `fault` strikes in its middle."""
    played, acknowledged = Played(), [1, 2]
    direct = RunHome(store(uri))
    direct.start({"recipe": {"seed": 1}})
    zombie = start(direct, "job")
    for step in acknowledged:
        _commit(zombie, step, fault.kind)
    with behind(proxy):
        disturbed = RunHome(store(uri))
        assert disturbed.exists()
        proxy.arm(fault)
        try:
            _disturbed(disturbed, fault, acknowledged, played)
        except Exception as error:
            played.error = error
        finally:
            proxy.arm()
    played.struck = fault.struck
    _look_at_error(fault, played)
    try:
        _afterwards(direct, zombie, fault.kind, acknowledged, played)
    except Exception as error:
        played.found.append(f"undisturbed, and yet: {error!r}")
    played.found += judge(direct, acknowledged)
    return played


def _disturbed(home: RunHome, fault: Fault, acknowledged: list[int], played: Played) -> None:
    reports: list[str] = []
    home.run()
    writer = start(home, "job")
    for step in (3, 4):
        _persistently(lambda step=step: _commit(writer, step, fault.kind))
        acknowledged.append(step)
    _persistently(lambda: end(writer, 4))
    loaded = home.load_newest(reports.append)
    if loaded is None or loaded.record.step != 4 or content(loaded) != plain(_tensors(4, fault.kind)):
        played.found.append(f"loaded {loaded and loaded.record.step} instead of 4, or other tensors")
    played.found += [f"called damaged: {report}" for report in reports]
    played.found += [f"verify: {problem}" for problem in verify(home).problems]


def _persistently(save: Callable[[], Record]) -> Record:
    """As `train.saver` does, without its pauses."""
    for number in range(TRIES):
        try:
            return save()
        except Superseded:
            raise
        except Exception as error:
            if failures.of_store(error) is None or number == TRIES - 1:
                raise
    raise AssertionError


def _look_at_error(fault: Fault, played: Played) -> None:
    if not fault.struck and not (fault.how in (*AFTER, *BODY) or fault.times):
        played.found.append("the fault never struck: nothing was tried")
    if played.error is None:
        return
    said = f"{type(played.error).__name__}: {played.error}"
    if played.code not in (75, 2):
        played.found.append(f"ended with {played.code}: {said}")
    if fault.times == 1 or fault.how == "slow":
        played.found.append(f"one fault ended the attempt: {said}")


def _afterwards(home: RunHome, zombie: Writer, kind: str, acknowledged: list[int], played: Played) -> None:
    # Where the claim failed, attempt 1 still has the run and may write.
    if home.log.head().attempt > 1:
        try:
            _commit(zombie, 90, kind)
            played.found.append("a zombie committed")
        except Superseded:
            pass
    reports: list[str] = []
    loaded = home.load_newest(reports.append)
    played.found += reports
    step = loaded.record.step if loaded else 0
    if step < acknowledged[-1]:
        played.found.append(f"step {acknowledged[-1]} was acknowledged, the next attempt starts from {step}")
    elif content(loaded) != plain(_tensors(step, kind)):
        played.found.append(f"other tensors than step {step} had")
    _commit(start(home, "job"), step + 1, kind)
    acknowledged.append(step + 1)


def _tensors(step: int, kind: str) -> dict[str, RawTensor]:
    """Return a state; where multipart uploads are tried, with one tensor that takes three parts and changes."""
    tensors = tensors_of(step)
    if kind in MULTIPART:
        tensors["optim/big"] = RawTensor("U8", _BIG.shape, bytes([step]) + bytes(_BIG.data)[1:])
    return tensors


def _commit(writer: Writer, step: int, kind: str) -> Record:
    return writer.commit(
        step=step,
        epoch=0,
        tensors=_tensors(step, kind),
        state={"step": step},
        files={"preprocessors/words.json": b'["a"]'},
    )


def judge(home: RunHome, acknowledged: list[int]) -> list[str]:
    """Return what is wrong with a history: one line in which every acknowledged step stands."""
    found = list(verify(home).problems)
    attempt, newest, steps = 0, None, set()
    for record in home.log.scan():
        if isinstance(record, Damaged):
            found.append(str(record))
            continue
        attempt += record.kind == "claim"
        if record.attempt != attempt:
            found.append(f"{record_name(record.number)} is of attempt {record.attempt}, but {attempt} has the run")
        if record.kind == "commit":
            before = (newest.number, newest.step, newest.attempt) if newest else (None, 0, 0)
            # A try whose answer was lost stands in the history, and the next try behind it.
            again = (record.step, record.attempt) == before[1:]
            if record.body["parent"] != before[0] or not (again or record.step == before[1] + 1):
                found.append(f"{record_name(record.number)} (step {record.step}) does not follow step {before[1]}")
            newest = record
            steps.add(record.step)
    if lost := set(acknowledged) - steps:
        found.append(f"acknowledged steps {sorted(lost)} are lost")
    return found


class Overwriting(Store):
    """A control: a store whose PUT knows no condition."""

    def create(self, name: str, data: bytes) -> bool:
        self.write(name, data)
        return True


@contextlib.contextmanager
def without_nonce() -> Iterator[None]:
    """A control: who finds the number taken does not look whose record it is."""

    def append(log: Log, head: Head, *, kind: Kind, attempt: int, body: dict) -> Record:
        record = logs._make(head, kind=kind, attempt=attempt, body=body)
        if not log.home.create(record_name(record.number), record.data):
            raise Superseded("taken")
        return record

    with mock.patch.object(Log, "append", append):
        yield


@contextlib.contextmanager
def without_second_read() -> Iterator[None]:
    """A control: what does not verify at once counts as damaged."""
    with (
        mock.patch("carryover.checkpoint.log.settled", lambda look: look()),
        mock.patch("carryover.checkpoint.store.settled", lambda look: look()),
    ):
        yield
