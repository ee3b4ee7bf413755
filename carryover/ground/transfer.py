"""Owns how bulk bytes go to and from an object store: in parts, many at once, through little memory.

    caller's thread                    |  the file system's event loop                 |  store
    fetching(): part after part        | <- up to IN_FLIGHT fetches, ahead of the caller <-  GET, a range each
    sending(): write(any bytes)        | -> parts of PART bytes, up to IN_FLIGHT         ->  PUT, a part each

A `Client` is what carries parts: transfer_obstore.py, and transfer_s3fs.py where that one can't. Neither shows an
object before it is whole, and both give a failed upload back to the store. What holds for every call of a store holds
here: it has a deadline by the number of bytes that are on their way, and may be interrupted.
"""

import asyncio
import concurrent.futures
import contextlib
import io
from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO, Protocol, TypeVar, cast

from carryover.ground.disk import Bytes

# What is smaller goes in one request, with those that carry records.
LEAST = 1 << 20
PART = 8 << 20
# Object stores give about 80 MB/s to a connection, whatever the machine could take.
IN_FLIGHT = 16
# S3's error for a range that starts behind the end: of an empty object every one does.
EMPTY = "InvalidRange"
# S3 allows 10,000 parts to an object.
_MOST_PARTS = 9000
_GIVING_UP_SECONDS, _SETTLED_SECONDS = 10.0, 0.01
Content = Bytes | Iterator[Bytes] | AsyncIterator[Bytes]
Seconds = Callable[[int], float]
Result = TypeVar("Result")


@dataclass(frozen=True)
class Part:
    """How many bytes of an object arrived, and its size and its version (ETag) when they were read."""

    count: int
    total: int
    version: str


class Client(Protocol):
    """Carries the objects of one bucket; all coroutines run on `loop`.

    Raises:
        FileNotFoundError: from `fetch`, when there is no such object.
    """

    name: str
    loop: asyncio.AbstractEventLoop

    async def fetch(self, key: str, start: int, buffer: memoryview) -> Part:
        """Fill the buffer with the bytes of an object from `start` on, as far as there are so many."""
        ...

    async def put(self, key: str, content: Content, part: int) -> None:
        """Write an object in parts of `part` bytes; iterators yield pieces of any length, which stand still."""
        ...


def part_size(size: int) -> int:
    """Return how many bytes a part has, for a file of so many bytes (0: nobody knows)."""
    return max(PART, -(-size // _MOST_PARTS))


def fetching(
    client: Client, key: str, size: int, place: Callable[[int, int], memoryview], *, seconds: Seconds
) -> Iterator[tuple[memoryview, int]]:
    """Yield an object of `size` bytes in order, with the size that it has; what comes next is on its way meanwhile.

    Args:
        client: carries it.
        key: its name.
        size: how many bytes are wanted.
        place: start and end of a part -> where its bytes shall lie.
        seconds: number of bytes on their way -> the deadline for them.

    Raises:
        FileNotFoundError: when there is none.
        ConnectionError: when it is another object in the middle than at its start.
    """
    starts, version = iter(range(0, size, PART)), None
    waiting: deque[tuple[memoryview, concurrent.futures.Future[Part]]] = deque()
    try:
        while True:
            while len(waiting) < IN_FLIGHT and (start := next(starts, None)) is not None:
                buffer = place(start, min(start + PART, size))
                waiting.append((buffer, _begin(client, client.fetch(key, start, buffer))))
            if not waiting:
                return
            buffer, fetch = waiting[0]
            part = _wait(fetch, seconds(len(waiting) * PART))
            waiting.popleft()
            if version not in (None, part.version):
                raise ConnectionError(f"{key}: was replaced while it was read")
            version = part.version
            yield buffer[: part.count], part.total
    finally:
        for _, fetch in waiting:
            fetch.cancel()
        if waiting:
            # Nothing may be written into the caller's memory after this, nor hold it.
            with contextlib.suppress(TimeoutError):
                _wait(_begin(client, asyncio.sleep(_SETTLED_SECONDS)), 1.0)


def put(client: Client, key: str, content: Bytes | Iterator[Bytes], size: int, *, seconds: Seconds) -> None:
    """Write a whole object of `size` bytes, straight from where they lie."""
    if isinstance(content, (bytes, bytearray, memoryview)):
        content = memoryview(content).cast("B")
    _wait(_begin(client, client.put(key, content, part_size(size))), seconds(size))


@contextlib.contextmanager
def sending(client: Client, key: str, size: int, *, seconds: Seconds) -> Iterator[BinaryIO]:
    """Give a file to write an object in pieces; it appears when the block ends without an error.

    Args:
        client: carries it.
        key: its name.
        size: about how large it will be, 0 where nobody knows; without it 75 GB are the limit.
        seconds: number of bytes on their way -> the deadline for them.
    """
    file = _Sending(client, key, part_size(size), seconds)
    try:
        yield cast(BinaryIO, file)
        file.finish()
    except BaseException:
        file.give_up()
        raise


class _Parts:
    """What the caller's thread has written, as the loop's coroutines take it."""

    def __init__(self) -> None:
        self.queue: asyncio.Queue[Bytes | BaseException | None] = asyncio.Queue(maxsize=1)

    def __aiter__(self) -> "_Parts":
        return self

    async def __anext__(self) -> Bytes:
        part = await self.queue.get()
        if part is None:
            raise StopAsyncIteration
        if isinstance(part, BaseException):
            raise part
        return part


class _Sending(io.RawIOBase):
    """A file that goes away in parts; what never exceeds one part goes in one request at the end."""

    def __init__(self, client: Client, key: str, part: int, seconds: Seconds) -> None:
        self._client, self._key, self._part, self._seconds = client, key, part, seconds
        self._buffer = memoryview(bytearray(part))
        self._filled = self._sent = 0
        self._parts: _Parts | None = None
        self._put: concurrent.futures.Future[None] | None = None

    def writable(self) -> bool:
        return True

    def write(self, data: Any, /) -> int:
        view = memoryview(data).cast("B")
        at = 0
        while at < len(view):
            if self._filled == self._part:
                self._hand_over(self._buffer)
                # (A buffer belongs to the client from then on, until its part has arrived.)
                self._buffer, self._filled = memoryview(bytearray(self._part)), 0
            count = min(self._part - self._filled, len(view) - at)
            self._buffer[self._filled : self._filled + count] = view[at : at + count]
            self._filled += count
            at += count
        return len(view)

    def finish(self) -> None:
        """Send the rest, and return when the object is there."""
        rest = self._buffer[: self._filled]
        if self._put is None:
            put(self._client, self._key, rest, len(rest), seconds=self._seconds)
            return
        self._hand_over(rest)
        self._hand_over(None)
        _wait(self._put, self._on_their_way())

    def give_up(self) -> None:
        """Let the upload end without an object, if the store can still be asked."""
        if self._put is None or self._parts is None or self._put.done():
            return
        _begin(self._client, self._parts.queue.put(_GivenUp("the file was not finished")))
        concurrent.futures.wait([self._put], _GIVING_UP_SECONDS)
        self._put.cancel()

    def _hand_over(self, part: Bytes | None) -> None:
        if self._put is None or self._parts is None:
            self._parts = _Parts()
            self._put = _begin(self._client, self._client.put(self._key, self._parts, self._part))
        handed = _begin(self._client, self._parts.queue.put(part))
        concurrent.futures.wait([handed, self._put], self._on_their_way(), concurrent.futures.FIRST_COMPLETED)
        if handed.done():
            self._sent += 0 if part is None else len(part)
            return
        handed.cancel()
        # Either the upload has failed, and says why, or nothing at all goes on.
        _wait(self._put, 0.0)

    def _on_their_way(self) -> float:
        return self._seconds(min(self._sent, IN_FLIGHT * self._part))


class _GivenUp(Exception):
    """Tells a client that no more parts will come; nobody else sees it."""


def _begin(client: Client, call: Coroutine[Any, Any, Result]) -> "concurrent.futures.Future[Result]":
    return asyncio.run_coroutine_threadsafe(call, client.loop)


def _wait(call: "concurrent.futures.Future[Result]", seconds: float) -> Result:
    """Return what a call gives; whoever stops waiting, for whatever reason, ends it."""
    try:
        return call.result(seconds)
    except TimeoutError:
        call.cancel()
        raise TimeoutError(f"no answer in {seconds:.0f} s") from None
    except BaseException:
        call.cancel()
        raise
