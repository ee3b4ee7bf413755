"""What checkpoint tests share: small tensors that say which step they are of, and ways to spoil a file."""

import struct
from collections.abc import Callable

from carryover.checkpoint.claims import claim
from carryover.checkpoint.home import Loaded, RunHome
from carryover.checkpoint.layout import OBJECTS, object_name, record_name
from carryover.checkpoint.log import Record
from carryover.checkpoint.pack import RawTensor
from carryover.checkpoint.retention import Keep
from carryover.checkpoint.writer import Writer


def numbers(*values: float, dtype: str = "F32") -> RawTensor:
    """Return a vector."""
    code = {"F32": "f", "F64": "d", "I64": "q"}[dtype]
    return RawTensor(dtype, (len(values),), struct.pack(f"<{len(values)}{code}", *values))


def tensors_of(step: int) -> dict[str, RawTensor]:
    """Return a state whose head and moments are of this step, over a backbone that never changes."""
    return {
        "model/backbone": numbers(*range(1000)),
        "model/head": numbers(step, step + 0.5),
        "optim/head/exp_avg": numbers(step * 2.0, 1.0),
    }


def start(home: RunHome, owner: str = "me", *, takeover: bool = False) -> Writer:
    """Claim a run and become its writer, as the two processes of an attempt do one after the other."""
    claimed = claim(home, owner=owner, takeover=takeover)
    assert claimed is not None
    return Writer.resume(home, claimed.handoff(), home.load_newest())


def save(writer: Writer, step: int, *, score: float | None = None, keep: Keep = Keep()) -> Record:  # noqa: B008 - frozen
    """Commit the state of a step."""
    return writer.commit(
        step=step,
        epoch=step // 10,
        tensors=tensors_of(step),
        state={"step": step, "position": step * 8},
        files={"preprocessors/words.json": b'["a"]'},
        score=score,
        keep=keep,
    )


def end(writer: Writer, step: int) -> Record:
    """Finish with the weights of a step."""
    return writer.finish(
        step=step,
        reason="max_steps",
        tensors={name: raw for name, raw in tensors_of(step).items() if name.startswith("model/")},
        files={"preprocessors/words.json": b'["a"]', "tokenizer/vocab.txt": b"a\nb\n"},
        metrics={"accuracy": 0.5},
        model="f" * 32,
        limits={"max_steps": step},
    )


def content(loaded: Loaded | None) -> dict[str, tuple[str, tuple[int, ...], bytes]]:
    """Return what was loaded, as values that compare."""
    assert loaded is not None
    return plain(loaded.tensors())


def plain(tensors: dict[str, RawTensor]) -> dict[str, tuple[str, tuple[int, ...], bytes]]:
    """Return tensors as values that compare."""
    return {name: (raw.dtype, raw.shape, bytes(raw.data)) for name, raw in tensors.items()}


def stored_bytes(home: RunHome) -> int:
    """Return how many bytes all objects have."""
    return sum(home.store.size(f"{OBJECTS}/{name}") or 0 for name in home.store.names(OBJECTS))


def flip(data: bytes) -> bytes:
    """Flip one bit in the middle."""
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 4]) + data[middle + 1 :]


def spoil(home: RunHome, name: str, change: Callable[[bytes], bytes | None]) -> None:
    """Change one stored file in place; None removes it."""
    changed = change(home.store.read(name))
    if changed is None:
        home.store.delete(name)
    else:
        home.store.write(name, changed)


def own_pack(home: RunHome, newer: Record, older: Record) -> str:
    """Return the name of a pack that only the newer of two commits refers to."""
    packs = set(home.objects.load_table(newer.table).packs) - set(home.objects.load_table(older.table).packs)
    return object_name(min(ref.digest for ref in packs))


def table_name(record: Record) -> str:
    """Return the name of a commit's table."""
    return object_name(record.table.digest)


def log_name(record: Record) -> str:
    """Return the name of a record."""
    return record_name(record.number)
