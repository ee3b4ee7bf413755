"""Owns the S3 servers that clients are measured at: one in memory that costs next to nothing, and a slow way to any.

    python -m benchmarks.s3_places memory PORT DELAY_S BYTES_A_SECOND      a server of its own
    python -m benchmarks.s3_places way PORT DELAY_S BYTES_A_SECOND SERVER  passes on to the server's port

DELAY_S is added to each request, BYTES_A_SECOND (0: no limit) is what one connection takes: as from another building.
The server in memory knows what uploads and downloads ask for, checks no signature and forgets all when it ends.
"""

import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from urllib.parse import parse_qs, unquote

from tests.support.s3_server import free_port

DELAY_S, BYTES_A_SECOND = 0.025, 80e6
_PIECE = 1 << 18
_TAIL = b"\r\n\r\n"
_LISTED = "<ETag>&quot;x&quot;</ETag><LastModified>2026-11-22T00:00:00.000Z</LastModified>"


@contextmanager
def serving(kind: str, server: int = 0, *, delay: float = DELAY_S, rate: float = BYTES_A_SECOND) -> Iterator[str]:
    """Give the endpoint of a `memory` server, or of a `way` to another server's port; both are processes."""
    port = free_port()
    words = [kind, str(port), str(delay), str(rate), str(server)]
    process = subprocess.Popen([sys.executable, "-m", "benchmarks.s3_places", *words])
    try:
        while process.poll() is None:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            except OSError:
                time.sleep(0.05)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()


class Pace:
    """Holds the bytes of a connection back to a rate."""

    def __init__(self, rate: float) -> None:
        self._rate, self._began, self._bytes = rate, time.monotonic(), 0

    def wait(self, count: int) -> None:
        """Return when so many bytes more may have passed."""
        self._bytes += count
        ahead = self._bytes / self._rate - (time.monotonic() - self._began) if self._rate else 0
        if ahead > 0.001:
            time.sleep(ahead)


@dataclass
class Request:
    """One request of a client, read to its end."""

    method: str
    path: str
    query: str
    headers: dict[str, str]
    body: bytearray


class Memory:
    """Objects and unfinished uploads in memory."""

    def __init__(self, delay: float, rate: float) -> None:
        self._delay, self._rate = delay, rate
        self._objects: dict[str, bytes | bytearray] = {}
        self._uploads: dict[str, dict[int, bytearray]] = {}

    def serve(self, client: socket.socket) -> None:
        """Answer one connection until it ends."""
        while (asked := self._read(client)) is not None:
            time.sleep(self._delay)
            if asked.method == "GET" and "list-type=2" in asked.query:
                answer = self._listing(asked)
            elif asked.method in ("GET", "HEAD"):
                self._give(client, asked)
                continue
            else:
                answer = self._take(asked)
            status = "412 Precondition Failed" if answer is None else "200 OK"
            client.sendall(_head(status, len(answer or b"")) + (answer or b""))

    def _read(self, client: socket.socket) -> Request | None:
        start = b""
        while _TAIL not in start:
            piece = client.recv(1 << 16)
            if not piece:
                return None
            start += piece
        head, _, rest = start.partition(_TAIL)
        first, *lines = head.decode().split("\r\n")
        method, target, _ = first.split(" ")
        headers = {name.lower(): value.strip() for name, value in (line.split(":", 1) for line in lines)}
        if "expect" in headers:
            client.sendall(b"HTTP/1.1 100 Continue" + _TAIL)
        body = bytearray(int(headers.get("content-length", 0)))
        view, at, pace = memoryview(body), len(rest), Pace(self._rate)
        view[:at] = rest
        while at < len(body):
            count = client.recv_into(view[at : at + _PIECE])
            if not count:
                return None
            at += count
            pace.wait(count)
        path, _, query = target.partition("?")
        return Request(method, unquote(path), query, headers, body)

    def _take(self, asked: Request) -> bytes | None:
        """Do what is asked; None where the name is taken that is to be new."""
        upload = re.search("uploadId=([^&]+)", asked.query)
        part = re.search("partNumber=([0-9]+)", asked.query)
        if asked.method == "PUT" and upload and part:
            self._uploads[upload[1]][int(part[1])] = asked.body
        elif asked.method == "PUT" and "x-amz-copy-source" in asked.headers:
            source = "/" + unquote(asked.headers["x-amz-copy-source"]).lstrip("/")
            self._objects[asked.path] = self._objects[source]
            return _xml("CopyObjectResult", inner=_LISTED)
        elif asked.method == "PUT":
            if "if-none-match" in asked.headers:
                return b"" if self._objects.setdefault(asked.path, asked.body) is asked.body else None
            self._objects[asked.path] = asked.body
        elif asked.method == "DELETE":
            self._objects.pop(asked.path, None)
        elif asked.method == "POST" and asked.query.startswith("delete"):
            for name in re.findall("<Key>([^<]+)</Key>", asked.body.decode()):
                self._objects.pop(f"{asked.path.rstrip('/')}/{name}", None)
            return _xml("DeleteResult")
        elif asked.method == "POST" and upload:
            parts = self._uploads.pop(upload[1])
            self._objects[asked.path] = b"".join(parts[number] for number in sorted(parts))
            return _xml("CompleteMultipartUploadResult", Bucket="b", Key="k", ETag='"x"')
        elif asked.method == "POST":
            name = f"u{time.monotonic_ns()}"
            self._uploads[name] = {}
            return _xml("InitiateMultipartUploadResult", Bucket="b", Key="k", UploadId=name)
        return b""

    def _listing(self, asked: Request) -> bytes:
        query = {name: values[0] for name, values in parse_qs(asked.query).items()}
        bucket, prefix, after = f"{asked.path.rstrip('/')}/", query.get("prefix", ""), query.get("start-after", "")
        keys = sorted(key.removeprefix(bucket) for key in list(self._objects) if key.startswith(bucket + prefix))
        files, folders = "", dict[str, None]()
        for key in keys:
            if (end := key.find("/", len(prefix))) >= 0 and "delimiter" in query:
                folders[key[: end + 1]] = None
            elif key > after:
                size = len(self._objects[bucket + key])
                files += f"<Contents><Key>{key}</Key><Size>{size}</Size>{_LISTED}</Contents>"
        files += "".join(f"<CommonPrefixes><Prefix>{name}</Prefix></CommonPrefixes>" for name in folders)
        return _xml("ListBucketResult", Name="b", Prefix=prefix, IsTruncated="false", KeyCount=len(keys), inner=files)

    def _give(self, client: socket.socket, asked: Request) -> None:
        found = self._objects.get(asked.path)
        if found is None:
            client.sendall(_head("404 Not Found", 0))
            return
        view, status, more = memoryview(found), "200 OK", ""
        if wanted := re.match(r"bytes=(\d+)-(\d*)", asked.headers.get("range", "")):
            start, end = int(wanted[1]), min(int(wanted[2] or len(view) - 1), len(view) - 1)
            status, more = "206 Partial Content", f"Content-Range: bytes {start}-{end}/{len(view)}\r\n"
            view = view[start : end + 1]
        client.sendall(_head(status, len(view), more))
        pace = Pace(self._rate)
        for start in range(0, len(view) if asked.method == "GET" else 0, _PIECE):
            client.sendall(view[start : start + _PIECE])
            pace.wait(_PIECE)


class Way:
    """A slow way to a server: a request is where a client speaks after it was spoken to."""

    def __init__(self, delay: float, rate: float, server: int) -> None:
        self._delay, self._rate, self._server = delay, rate, server

    def serve(self, client: socket.socket) -> None:
        """Pass on one connection, both ways, until it ends."""
        with socket.create_connection(("127.0.0.1", self._server)) as server:
            server.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            spoken = threading.Event()
            spoken.set()
            threading.Thread(target=self._pass, args=(server, client, spoken, False), daemon=True).start()
            self._pass(client, server, spoken, True)

    def _pass(self, source: socket.socket, target: socket.socket, spoken: threading.Event, asks: bool) -> None:
        buffer = memoryview(bytearray(_PIECE))
        pace = Pace(self._rate)
        try:
            while count := source.recv_into(buffer):
                if asks and spoken.is_set():
                    spoken.clear()
                    time.sleep(self._delay)
                    pace = Pace(self._rate)
                elif not asks and not spoken.is_set():
                    spoken.set()
                    pace = Pace(self._rate)
                target.sendall(buffer[:count])
                pace.wait(count)
            target.shutdown(socket.SHUT_WR)
        except OSError:
            return


def _head(status: str, length: int, more: str = "") -> bytes:
    stamp = "Last-Modified: Sun, 22 Nov 2026 00:00:00 GMT\r\n"
    return f'HTTP/1.1 {status}\r\nETag: "x"\r\n{stamp}{more}Content-Length: {length}\r\n\r\n'.encode()


def _xml(name: str, *, inner: str = "", **fields: object) -> bytes:
    inner = "".join(f"<{key}>{value}</{key}>" for key, value in fields.items()) + inner
    return f'<?xml version="1.0"?><{name}>{inner}</{name}>'.encode()


def _listen(port: int, place: Memory | Way) -> None:
    def one(client: socket.socket) -> None:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with client:
            try:
                place.serve(client)
            except OSError:
                return

    listener = socket.create_server(("127.0.0.1", port), backlog=128)
    while True:
        threading.Thread(target=one, args=(listener.accept()[0],), daemon=True).start()


if __name__ == "__main__":
    kind, port, delay, rate, server = sys.argv[1:]
    slow = float(delay), float(rate)
    _listen(int(port), Memory(*slow) if kind == "memory" else Way(*slow, int(server)))
