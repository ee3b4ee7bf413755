"""An HTTP proxy on loopback in front of an S3 server, that lets chosen calls go wrong as networks and stores do.

It knows S3's calls by method, path and query (`kind_of`), and passes everything on with its Host, so signatures hold.

    500 | 503     the server says so; the call was not carried out
    403           as these: we may not do that (any more)
    slow          carried out and answered, late
    reset         the connection is reset before the call is passed on
    hole          no answer ever comes; not carried out
    lost          carried out, and the connection reset before its answer
    silent        carried out, and no answer ever comes
    cut           the connection is reset in the middle of the answer's body
    short         the answer's body is shorter, and the answer says so itself
    flip          one byte of the answer's body is another
"""

import asyncio
import random
import socket
import struct
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType
from urllib.parse import parse_qs

from aiohttp import ClientSession, DummyCookieJar, TCPConnector, web
from yarl import URL

KINDS = (
    "put-record",
    "put-object",
    "put-other",
    "create-multipart",
    "put-part",
    "complete-multipart",
    "get-record",
    "get-object",
    "get-other",
    "head",
    "list",
    "delete",
)
BEFORE = ("500", "503", "reset", "hole")
AFTER = ("lost", "silent")
BODY = ("cut", "short", "flip")
HOWS = (*BEFORE, "slow", *AFTER, *BODY)
SLOW_SECONDS = 0.4
_BIGGEST = 1 << 30
_ERRORS = {
    "403": (403, "AccessDenied", "Access Denied"),
    "500": (500, "InternalError", "We encountered an internal error"),
    "503": (503, "SlowDown", "Reduce"),
}
_HOP = {"connection", "keep-alive", "transfer-encoding", "expect", "te", "trailer", "upgrade"}


@dataclass
class Fault:
    """What goes wrong, and how often.

    Attributes:
        kind: one of `KINDS`, "" for every call.
        how: one of `HOWS`.
        skip: so many calls of this kind pass unharmed first.
        times: so many calls after these are struck, None means all.
        struck: how many calls were.
    """

    kind: str
    how: str
    skip: int = 0
    times: int | None = 1
    struck: int = 0
    seen: int = field(default=0, repr=False)

    def strikes(self, kind: str) -> bool:
        """Tell whether this call is struck, and count it."""
        if self.kind and kind != self.kind:
            return False
        self.seen += 1
        if self.seen <= self.skip or (self.times is not None and self.struck >= self.times):
            return False
        self.struck += 1
        return True


def kind_of(method: str, path: str, query: str) -> str:
    """Return which of `KINDS` a call is."""
    asked = parse_qs(query, keep_blank_values=True)
    if method == "HEAD":
        return "head"
    if method == "DELETE" or "delete" in asked:
        return "delete"
    if method == "POST":
        return "create-multipart" if "uploads" in asked else "complete-multipart"
    if method == "GET" and ("list-type" in asked or path.strip("/").count("/") == 0):
        return "list"
    if "partNumber" in asked:
        return "put-part"
    what = "record" if "/log/" in path else "object" if "/objects/" in path else "other"
    return f"{method.lower()}-{what}"


class FaultyProxy:
    """Passes calls on to `endpoint`; `choose` says for each what goes wrong, "" for nothing."""

    def __init__(self, endpoint: str) -> None:
        self.endpoint = endpoint
        self.calls: Counter[str] = Counter()
        self.faults: list[Fault] = []
        self.choose: Callable[[str], str] = self._armed
        self.chance = random.Random(5)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="faulty", daemon=True)
        self._thread.start()
        self.url = asyncio.run_coroutine_threadsafe(self._start(), self._loop).result(30)

    def arm(self, *faults: Fault) -> None:
        """From now on these faults strike, and no others; none: all is well."""
        self.faults = list(faults)
        self.choose = self._armed

    def __enter__(self) -> "FaultyProxy":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.arm()
        asyncio.run_coroutine_threadsafe(self._stop(), self._loop).result(30)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _armed(self, kind: str) -> str:
        return next((fault.how for fault in self.faults if fault.strikes(kind)), "")

    async def _start(self) -> str:
        connector = TCPConnector(limit=0)
        # Nothing is added to what was signed, and nothing unpacked.
        self._session = ClientSession(
            connector=connector,
            auto_decompress=False,
            cookie_jar=DummyCookieJar(),
            skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding", "Content-Type"),
        )
        self._closing = asyncio.Event()
        app = web.Application(client_max_size=_BIGGEST)
        app.router.add_route("*", "/{path:.*}", self._answer)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        server = site._server
        assert isinstance(server, asyncio.Server)
        return f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"

    async def _stop(self) -> None:
        self._closing.set()
        await self._runner.cleanup()
        await self._session.close()

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        try:
            return await self._treat(request)
        except ConnectionError:
            return web.Response()  # The client has hung up; nobody reads this.

    async def _treat(self, request: web.Request) -> web.StreamResponse:
        kind = kind_of(request.method, request.path, request.query_string)
        self.calls[kind] += 1
        how = self.choose(kind)
        if how in _ERRORS:
            await request.read()
            return _error(how, request)
        if how == "reset":
            return _reset(request)
        body = await request.read()
        if how == "hole":
            return await self._never(request)
        if how == "slow":
            await asyncio.sleep(SLOW_SECONDS)
        status, headers, content = await self._pass_on(request, body)
        if how == "lost":
            return _reset(request)
        if how == "silent":
            return await self._never(request)
        if how in BODY and len(content) > 1 and request.method == "GET":
            return await self._spoilt(request, status, headers, content, how)
        return await _whole(request, status, headers, content)

    async def _pass_on(self, request: web.Request, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
        headers = [(name, value) for name, value in request.headers.items() if name.lower() not in _HOP]
        url = URL(self.endpoint + request.raw_path, encoded=True)
        async with self._session.request(
            request.method, url, headers=headers, data=body or None, allow_redirects=False
        ) as answer:
            kept = [(name, value) for name, value in answer.headers.items() if name.lower() not in _HOP]
            return answer.status, kept, await answer.read()

    async def _spoilt(
        self, request: web.Request, status: int, headers: list[tuple[str, str]], content: bytes, how: str
    ) -> web.StreamResponse:
        at = self.chance.randrange(len(content))
        if how == "flip":
            content = content[:at] + bytes([content[at] ^ 1 << self.chance.randrange(8)]) + content[at + 1 :]
            return await _whole(request, status, headers, content)
        if how == "short":
            return await _whole(request, status, headers, content[:at])
        response = web.StreamResponse(status=status, headers=headers)
        response.content_length = len(content)
        await response.prepare(request)
        await response.write(content[:at])
        await asyncio.sleep(0.05)
        return _reset(request)

    async def _never(self, request: web.Request) -> web.StreamResponse:
        """Wait until the other side has hung up (or the test is over)."""
        while request.transport and not request.transport.is_closing() and not self._closing.is_set():
            await asyncio.sleep(0.05)
        return _reset(request)


def _error(how: str, request: web.Request) -> web.Response:
    status, code, message = _ERRORS[how]
    text = f'<?xml version="1.0"?><Error><Code>{code}</Code><Message>{message}</Message></Error>'
    return web.Response(status=status, text="" if request.method == "HEAD" else text, content_type="application/xml")


async def _whole(
    request: web.Request, status: int, headers: list[tuple[str, str]], content: bytes
) -> web.StreamResponse:
    response = web.StreamResponse(status=status, headers=[(n, v) for n, v in headers if n.lower() != "content-length"])
    said = next((value for name, value in headers if name.lower() == "content-length"), None)
    if request.method == "HEAD":
        response.content_length = int(said or 0)
    elif status not in (204, 304):
        response.content_length = len(content)
    await response.prepare(request)
    if content and request.method != "HEAD":
        await response.write(content)
    await response.write_eof()
    return response


def _reset(request: web.Request) -> web.Response:
    """Close so that the other side gets a reset and not an end."""
    if request.transport is not None:
        connection = request.transport.get_extra_info("socket")
        if connection is not None:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        request.transport.abort()
    return web.Response()
