"""Owns row d: how fast bulk bytes go to and from S3, beside a raw client with the same connections.

    python -m benchmarks.throughput [--quick]

raw         threads with http.client: parts of 8 MiB on 16 connections, unsigned payloads, received where they shall lie
ours        Store.write and Store.read_into, by obstore and by s3fs's calls alone; "verified" hashes what arrives, as a
            restore does; "pieces" is open_write, for files that are made while they are sent
others      s3fs's open(), boto3's transfers with as many threads, s3torchconnector in an environment of its own

Each arm writes and reads one object of 260 MB, at three places: a server in memory 25 ms and 80 MB/s a connection away,
Ceph's gateway behind such a way, and Ceph's gateway as it is (where it can be installed, else moto's server). The
server and the way are other processes of the same machine, so their CPU is missing where a client needs much.
"""

import argparse
import hashlib
import hmac
import http.client
import io
import os
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, BinaryIO, cast
from urllib.parse import quote, urlsplit

from benchmarks.arms import Arm, Figures, Goal, interleaved, ratio, spread, version, write
from benchmarks.peers.programs import Absent, python_of, run_in, versions
from benchmarks.s3_places import serving
from carryover.ground import storage
from carryover.ground.digests import Hasher
from carryover.ground.remote_folder import CHOICE
from carryover.ground.storage import Store, open_store
from tests.support import s3_server as s3

SIZE, PART, CONNECTIONS = 260 << 20, 8 << 20, 16
NEAR, FAR_CEPH, FAR = "Ceph", "Ceph, 25 ms away", "memory, 25 ms away"
_CHUNK = 4 << 20


@dataclass
class Raw:
    """The least that S3 can be written and read with: threads, sockets and presigned requests."""

    endpoint: str
    _local: threading.local = field(default_factory=threading.local)
    _pool: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(CONNECTIONS))

    def put(self, key: str, data: memoryview) -> None:
        """Write an object in parts."""
        upload = _between(self._ask("POST", key, {"uploads": ""}), "UploadId")
        starts = range(0, len(data), PART)

        def send(number: int) -> str:
            start = starts[number]
            query = {"partNumber": str(number + 1), "uploadId": upload}
            answer = self._send("PUT", key, query, data[start : start + PART])
            answer.read()
            return answer.headers["ETag"]

        tags = list(self._pool.map(send, range(len(starts))))
        parts = (f"<Part><PartNumber>{i + 1}</PartNumber><ETag>{tag}</ETag></Part>" for i, tag in enumerate(tags))
        body = f"<CompleteMultipartUpload>{''.join(parts)}</CompleteMultipartUpload>".encode()
        self._ask("POST", key, {"uploadId": upload}, body)

    def get(self, key: str, buffer: memoryview) -> None:
        """Fill the buffer with an object, range by range."""

        def fetch(start: int) -> None:
            end = min(start + PART, len(buffer))
            answer = self._send("GET", key, {}, None, {"Range": f"bytes={start}-{end - 1}"})
            while start < end:
                start += answer.readinto(buffer[start:end])
            answer.read()

        list(self._pool.map(fetch, range(0, len(buffer), PART)))

    def _ask(self, method: str, key: str, query: Mapping[str, str], body: bytes | None = None) -> str:
        return self._send(method, key, query, body).read().decode()

    def _send(
        self,
        method: str,
        key: str,
        query: Mapping[str, str],
        body: Any = None,
        headers: Mapping[str, str] | None = None,
    ) -> http.client.HTTPResponse:
        host = urlsplit(self.endpoint).netloc
        if not hasattr(self._local, "connection"):
            self._local.connection = http.client.HTTPConnection(host, timeout=120)
        self._local.connection.request(method, _presigned(method, host, key, query), body, dict(headers or {}))
        answer = self._local.connection.getresponse()
        if answer.status >= 300:
            raise RuntimeError(f"{method} {key}: {answer.status} {answer.read()[:300]!r}")
        return answer


def _presigned(method: str, host: str, key: str, query: Mapping[str, str]) -> str:
    """A path with a signature of version 4 in its query (AWS's "authenticating requests: using query parameters")."""
    now = datetime.now(UTC)
    day, scope = f"{now:%Y%m%d}", f"{now:%Y%m%d}/{s3.REGION}/s3/aws4_request"
    words = {
        "X-Amz-Algorithm": "AWS4-HMAC-SHA256",
        "X-Amz-Credential": f"{s3.ACCESS_KEY}/{scope}",
        "X-Amz-Date": f"{now:%Y%m%dT%H%M%SZ}",
        "X-Amz-Expires": "3600",
        "X-Amz-SignedHeaders": "host",
        **query,
    }
    path = quote(f"/{s3.BUCKET}/{key}")
    text = "&".join(f"{quote(name, safe='')}={quote(words[name], safe='')}" for name in sorted(words))
    asked = f"{method}\n{path}\n{text}\nhost:{host}\n\nhost\nUNSIGNED-PAYLOAD"
    said = f"AWS4-HMAC-SHA256\n{words['X-Amz-Date']}\n{scope}\n{hashlib.sha256(asked.encode()).hexdigest()}"
    secret = f"AWS4{s3.SECRET_KEY}".encode()
    for word in (day, s3.REGION, "s3", "aws4_request"):
        secret = hmac.digest(secret, word.encode(), "sha256")
    return f"{path}?{text}&X-Amz-Signature={hmac.digest(secret, said.encode(), 'sha256').hex()}"


def _between(text: str, name: str) -> str:
    return text.partition(f"<{name}>")[2].partition("</")[0]


@dataclass
class Bench:
    """The arms of one place."""

    place: str
    endpoint: str
    size: int

    def __post_init__(self) -> None:
        self._data = memoryview(os.urandom(1 << 20) * (self.size >> 20))
        # Touched once: what a client writes into has been there before, for all of them.
        self._buffer = bytearray(self._data)

    def arms(self) -> list[Arm]:
        """All arms; those that can't be run are missing."""
        raw, store = Raw(self.endpoint), self._store()
        pairs: dict[str, tuple[Callable[[], object], Callable[[], object]]] = {
            "raw": (lambda: raw.put("raw", self._data), lambda: raw.get("raw", memoryview(self._buffer))),
            "ours, obstore": (self._by("obstore", store, "put"), self._by("obstore", store, "get")),
            "ours, obstore, pieces / verified": (
                self._by("obstore", store, "pieces"),
                self._by("obstore", store, "verified"),
            ),
            "ours, fsspec": (self._by("fsspec", store, "put"), self._by("fsspec", store, "get")),
            "s3fs open()": self._s3fs(),
            "boto3": self._boto3(),
        }
        found = [Arm(f"{self.place} / {name}", self._timed(*pair)) for name, pair in pairs.items()]
        try:
            python_of("s3torchconnector")
            found.append(Arm(f"{self.place} / s3torchconnector", self._connector))
        except Absent:
            pass
        return found

    def _timed(self, put: Callable[[], object], get: Callable[[], object]) -> Callable[[], dict[str, float]]:
        def run() -> dict[str, float]:
            marks = [(time.monotonic(), time.process_time())]
            put()
            marks.append((time.monotonic(), time.process_time()))
            got = get()
            marks.append((time.monotonic(), time.process_time()))
            assert memoryview(got if isinstance(got, (bytes, bytearray)) else self._buffer) == self._data
            (a, b), (c, d), (e, f) = marks
            return {"put_s": c - a, "put_cpu_s": d - b, "get_s": e - c, "get_cpu_s": f - d}

        return run

    def _store(self) -> Store:
        storage.S3_OPTIONS["endpoint_url"] = self.endpoint
        store = open_store(f"s3://{s3.BUCKET}/bench")
        store.fs.connect()
        return store

    def _by(self, client: str, store: Store, what: str) -> Callable[[], object]:
        def pieces() -> None:
            with store.open_write("pieces", size=self.size) as file:
                for start in range(0, self.size, _CHUNK):
                    file.write(self._data[start : start + _CHUNK])

        calls: dict[str, Callable[[], object]] = {
            "put": lambda: store.write(client, self._data),
            "get": lambda: store.read_into(client, self._buffer),
            "pieces": pieces,
            "verified": lambda: store.read_into("pieces", self._buffer, seen=Hasher().update),
        }

        def call() -> None:
            os.environ[CHOICE] = client
            calls[what]()

        return call

    def _s3fs(self) -> tuple[Callable[[], object], Callable[[], object]]:
        import s3fs

        fs, path = s3fs.S3FileSystem(endpoint_url=self.endpoint, skip_instance_cache=True), f"{s3.BUCKET}/s3fs"

        def put() -> None:
            with cast(BinaryIO, fs.open(path, "wb")) as file:
                for start in range(0, self.size, _CHUNK):
                    file.write(self._data[start : start + _CHUNK])

        def get() -> bytes:
            with cast(BinaryIO, fs.open(path, "rb")) as file:
                return file.read()

        return put, get

    def _boto3(self) -> tuple[Callable[[], object], Callable[[], object]]:
        import boto3
        from boto3.s3.transfer import TransferConfig
        from botocore.config import Config

        client = boto3.client("s3", endpoint_url=self.endpoint, config=Config(max_pool_connections=CONNECTIONS))
        how = TransferConfig(multipart_chunksize=PART, max_concurrency=CONNECTIONS)

        def get() -> bytes:
            file = io.BytesIO()
            client.download_fileobj(s3.BUCKET, "boto3", file, Config=how)
            return file.getvalue()

        return lambda: client.upload_fileobj(io.BytesIO(self._data), s3.BUCKET, "boto3", Config=how), get

    def _connector(self) -> dict[str, float]:
        place = f"s3://{s3.BUCKET}/connector"
        return run_in("s3torchconnector", "s3_throughput", [self.endpoint, place, self.size]).line()


def goals(figures: Figures) -> list[Goal]:
    """The row of the table: with latency, where the server costs least."""
    why = {
        "put_s": "requests in Rust need less of the cores than threads of Python, which the raw client has",
        "get_s": "each byte is copied once more, out of the memory of Rust's client",
    }
    slower = "every byte passes Python's event loop, so one core does all of it"
    found = []
    for client, reach in (("obstore", {"put_s": 0.95, "get_s": 0.95}), ("fsspec", {"put_s": 0.5, "get_s": 0.75})):
        for figure, least in reach.items():
            got = ratio(figures, f"{FAR} / raw", f"{FAR} / ours, {client}", figure)
            others = {
                name: ratio(figures, f"{FAR} / raw", f"{FAR} / {name}", figure).median
                for name in ("s3fs open()", "boto3", "s3torchconnector")
                if f"{FAR} / {name}" in figures
            }
            best = max(others, key=lambda name: others[name])
            what = f"{figure[:3].upper()} of 260 MB over raw, by {client}"
            reason = why[figure] if client == "obstore" else slower
            found.append(
                Goal("d", what, got.median, 1.0, f">= {least}", reason, got.low, got.high, f"{best} {others[best]:.2f}")
            )
    return found


def cpu_notes(figures: Figures, size: int) -> list[str]:
    """CPU seconds of the client for each GB, a line a place."""
    lines = []
    for place in (FAR, FAR_CEPH, NEAR):
        names = [name for name in figures if name.startswith(f"{place} / ")]
        words = [
            f"{name.partition(' / ')[2]} {spread(figures[name]['put_cpu_s']).median / size * 1e9:.2f} | "
            f"{spread(figures[name]['get_cpu_s']).median / size * 1e9:.2f}"
            for name in names
        ]
        if words:
            lines.append(f"{place}: CPU s/GB of PUT | GET: {'; '.join(words)}")
    return lines


def main() -> None:
    """Measure all places and write the file."""
    parser = argparse.ArgumentParser(description="throughput to and from S3 over a raw client's")
    parser.add_argument("--quick", action="store_true", help="the server in memory alone, three times")
    parser.add_argument("--repeats", type=int, default=7)
    given = parser.parse_args()
    figures: Figures = {}
    busy = os.getloadavg()[0] > (os.cpu_count() or 1)
    with ExitStack() as stack:
        ceph = s3.start()
        stack.callback(ceph.stop)
        os.environ.update(ceph.env)
        port = int(ceph.endpoint.rpartition(":")[2])
        places = {FAR: stack.enter_context(serving("memory"))}
        if not given.quick:
            places |= {FAR_CEPH: stack.enter_context(serving("way", port)), NEAR: ceph.endpoint}
        for place, endpoint in places.items():
            figures |= interleaved(Bench(place, endpoint, SIZE).arms(), 3 if given.quick else given.repeats)
    notes = [
        "Parts of 8 MiB on 16 connections; client, way and server share the cores, so a ratio over 1 is CPU left free.",
        *([] if ceph.kind == "ceph" else ["Ceph could not be installed here: moto's server stood in its place."]),
        *cpu_notes(figures, SIZE),
        *(["Taken beside much other work on the same cores: to be measured again."] if busy else []),
    ]
    others = {name: version(name) for name in ("obstore", "s3fs", "boto3")} | versions("s3torchconnector")
    command = f"python -m benchmarks.throughput{' --quick' if given.quick else ''}"
    write("throughput", command, figures, goals(figures), notes, others)


if __name__ == "__main__":
    main()
