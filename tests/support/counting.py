"""What a run asks of its store, counted: calls by kind, and bytes both ways.

Counted          over a Store, in this process: any kind of store, and no server
CountingProxy    in front of an S3 server: what really goes over the wire, of all processes
"""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from aiohttp import web
from s3fs import S3FileSystem

from carryover.ground.storage import Store
from tests.support.faulty import FaultyProxy, kind_of

# A Store's words -> the kind of call. What is not named here and is called nevertheless is counted by its own name.
_KINDS = {
    **dict.fromkeys(("read", "read_range", "read_into", "pieces", "open", "download"), "get"),
    **dict.fromkeys(("exists", "size", "info"), "head"),
    **dict.fromkeys(("names", "folders", "listing", "walk"), "list"),
    **dict.fromkeys(("write", "write_pieces", "create", "open_write", "upload"), "put"),
    **dict.fromkeys(("delete", "delete_folder"), "delete"),
}
_FREE = {"at", "sub", "deadline"}


class Tally:
    """How many calls of each kind there were, and how many bytes they carried to the store and from it."""

    def __init__(self) -> None:
        self.calls: Counter[str] = Counter()
        self.up: Counter[str] = Counter()
        self.down: Counter[str] = Counter()

    def add(self, kind: str, *, up: int = 0, down: int = 0) -> None:
        """Take in one call."""
        self.calls[kind] += 1
        self.up[kind] += up
        self.down[kind] += down

    @property
    def all_up(self) -> int:
        """Bytes to the store."""
        return sum(self.up.values())

    @property
    def all_down(self) -> int:
        """Bytes from the store."""
        return sum(self.down.values())

    @contextmanager
    def during(self) -> Iterator["Tally"]:
        """Give a tally of what the block does alone."""
        before = [Counter(one) for one in (self.calls, self.up, self.down)]
        found = Tally()
        yield found
        now = (self.calls, self.up, self.down)
        found.calls, found.up, found.down = (
            Counter({kind: one[kind] - old[kind] for kind in one if one[kind] != old[kind]})
            for one, old in zip(now, before, strict=True)
        )


class Counted:
    """A Store that counts; what stands in its place behaves as it does."""

    def __init__(self, store: Store, tally: Tally | None = None) -> None:
        self._store = store
        self.tally = tally or Tally()

    def sub(self, name: str) -> "Counted":
        return Counted(self._store.sub(name), self.tally)

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._store, name)
        if not callable(found) or name.startswith("_") or name in _FREE:
            return found
        kind = _KINDS.get(name, name)

        def call(*args: Any, **more: Any) -> Any:
            if name == "open_write":
                return self._writing(found(*args, **more))
            up = len(args[1]) if name in ("write", "create") else more.get("size", 0)
            self.tally.add(kind, up=up)
            answer = found(*args, **more)
            self.tally.down[kind] += _size(name, answer)
            return self._reading(answer) if name == "pieces" else answer

        return call

    @contextmanager
    def _writing(self, opened: Any) -> Iterator[Any]:
        self.tally.add("put")
        with opened as file:
            yield _Written(file, self.tally)

    def _reading(self, pieces: Any) -> Iterator[Any]:
        for piece in pieces:
            self.tally.down["get"] += len(piece)
            yield piece


class _Written:
    def __init__(self, file: Any, tally: Tally) -> None:
        self._file, self._tally = file, tally

    def write(self, data: Any) -> Any:
        self._tally.up["put"] += memoryview(data).nbytes
        return self._file.write(data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


def _size(name: str, answer: Any) -> int:
    if isinstance(answer, (bytes, bytearray)):
        return len(answer)
    if isinstance(answer, list):
        return sum(len(one) for one in answer if isinstance(one, str))
    return answer if name == "read_into" else 0


class CountingProxy(FaultyProxy):
    """Passes all calls on to an S3 server, unharmed, and counts them; kinds are `faulty.KINDS`.

    Clients of this process are forgotten when its block begins and ends: each keeps the endpoint that it was made with.
    """

    def __init__(self, endpoint: str) -> None:
        self.tally = Tally()
        super().__init__(endpoint)

    def __enter__(self) -> "CountingProxy":
        S3FileSystem.clear_instance_cache()
        return self

    def __exit__(self, *exc: Any) -> None:
        S3FileSystem.clear_instance_cache()
        super().__exit__(*exc)

    async def _pass_on(self, request: web.Request, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
        status, headers, content = await super()._pass_on(request, body)
        kind = kind_of(request.method, request.path, request.query_string)
        self.tally.add(kind, up=len(body), down=0 if request.method == "HEAD" else len(content))
        return status, headers, content
