"""Owns the client for bulk bytes made of obstore: Rust's HTTP, off Python's lock, with s3fs's idea of who and where.

    s3fs's own client    bucket's address and style of addressing (as it would sign a call to it), region, timeouts
    its session          credentials, asked again before they can have run out
    ours                 payloads unsigned: TLS proves them on their way, and digests of ours when they are read

What s3fs was told that obstore has no word for (`refused`) leaves the bucket to s3fs. So does a fork: a child of a
process that has used obstore would wait for threads that it does not have.
"""

import asyncio
import atexit
import contextlib
import importlib.util
import os
import re
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, urlsplit

from carryover.ground.errors import StoreFailed
from carryover.ground.transfer import EMPTY, IN_FLIGHT, PART, Content, Part

# The options of s3fs, and of its clients, that are understood here.
_OPTIONS = {"anon", "key", "secret", "token", "endpoint_url", "profile", "use_ssl", "requester_pays", "client_kwargs",
            "config_kwargs", "default_block_size", "use_listings_cache", "skip_instance_cache", "asynchronous",
            "cache_regions", "max_concurrency", "default_fill_cache", "default_cache_type"}  # fmt: skip
_CLIENT = {"region_name", "endpoint_url", "use_ssl"}
_CONFIG = {"connect_timeout", "read_timeout", "retries", "max_pool_connections", "request_checksum_calculation",
           "response_checksum_validation", "region_name"}  # fmt: skip
_S3 = {"addressing_style", "payload_signing_enabled", "use_accelerate_endpoint", "use_dualstack_endpoint",
       "us_east_1_regional_endpoint"}  # fmt: skip
_AWS = ("amazonaws.com", "amazonaws.com.cn")
# obstore asks for credentials again five minutes before they end; s3fs's renew themselves ten minutes before.
_CREDENTIALS_MINUTES = 6
_CREDENTIALS_SECONDS = 60.0
_SLOWEST_BYTES_A_SECOND = 1 << 20
# Larger pieces of an answer come in memory that the system has to clear first.
_PIECE = 2 << 20
_CODE = re.compile(r"<Code>(\w+)</Code>")
# Where nobody answered, the reason stands deep in what the error shows of itself.
_REASON = re.compile(r'(?:message|error): "([^"]+)"|(InvalidCertificate\(\s*\w+)|\b(TimedOut)\b')
_STATUS = re.compile(r"status code: (\d{3})")
_ENDING_SECONDS, _SETTLED_SECONDS = 5.0, 0.05
# The process whose obstore has threads by now, and what they are doing.
_used_by: int | None = None
_going: set["asyncio.Task[Any]"] = set()
_is_ending = False


def refused(fs: Any) -> str:
    """Return why the buckets of this s3fs file system can't be left to obstore here, "" where they can."""
    if importlib.util.find_spec("obstore") is None:
        return "obstore is not installed (pip install obstore)"
    if _used_by not in (None, os.getpid()):
        return "obstore was used before this process was forked"
    config = fs.config_kwargs
    unknown = set(fs.storage_options) - _OPTIONS or set(fs.client_kwargs) - _CLIENT or set(config) - _CONFIG
    if unknown := unknown or set(config.get("s3") or {}) - _S3:
        return f"obstore has no word for s3fs's option {min(unknown)}"
    return ""


class ObstoreClient:
    """Carries the objects of one bucket."""

    name = "obstore"

    def __init__(self, fs: Any, bucket: str, loop: asyncio.AbstractEventLoop, stores: tuple[Any, Any]) -> None:
        self.loop = loop
        self._fs, self._bucket = fs, bucket
        self._reading, self._writing = stores

    async def fetch(self, key: str, start: int, buffer: memoryview) -> Part:
        """Fill the buffer from `start` on, piece by piece as they come."""
        import obstore

        at = 0
        try:
            with _named(self._bucket, key):
                wanted: Any = {"range": (start, start + len(buffer))}
                answer = await obstore.get_async(self._reading, key, options=wanted)
                async for piece in answer.stream(min_chunk_size=_PIECE):
                    buffer[at : at + len(piece)] = piece
                    at += len(piece)
        except StoreFailed as error:
            if error.code == EMPTY:
                return Part(0, 0, "")
            raise
        total = answer.meta["size"]
        if at != min(len(buffer), total - start):
            raise ConnectionError(f"{key}: the store answers with fewer bytes than it says")
        return Part(at, total, answer.meta["e_tag"] or "")

    async def put(self, key: str, content: Content, part: int) -> None:
        """Write an object, in one request where it is no longer than a part."""
        import obstore

        if isinstance(content, memoryview) and len(content) <= part:
            with _named(self._bucket, key, is_put=True):
                await obstore.put_async(self._writing, key, content, use_multipart=False)
            return
        # (Pieces of an iterator are sent from where they lie; other contents would be copied.)
        source: Any = _slices(content, part) if isinstance(content, memoryview) else content
        try:
            with _named(self._bucket, key, is_put=True):
                await obstore.put_async(self._writing, key, source, chunk_size=part, max_concurrency=IN_FLIGHT)
        except BaseException:
            await self._drop(key)
            raise

    async def _drop(self, key: str) -> None:
        """Abort what is left of an upload of this object: obstore itself does so, but not when its last parts fail.

        It does not tell the upload's id. Somebody else's of the same name is hit too; that one is then tried again.
        """
        with contextlib.suppress(Exception):
            found = await self._fs._call_s3("list_multipart_uploads", Bucket=self._bucket, Prefix=key)
            for upload in found.get("Uploads") or []:
                if upload["Key"] == key:
                    words = {"Bucket": self._bucket, "Key": key, "UploadId": upload["UploadId"]}
                    await self._fs._call_s3("abort_multipart_upload", **words)


def connect(fs: Any, bucket: str) -> ObstoreClient | None:
    """Return a client for a bucket; None where s3fs finds its way there by itself only. Asks AWS for the region."""
    return asyncio.run_coroutine_threadsafe(_connect(fs, bucket, fs.loop), fs.loop).result()


async def _connect(fs: Any, bucket: str, loop: asyncio.AbstractEventLoop) -> ObstoreClient | None:
    global _used_by
    await fs.set_session()
    client = await fs.get_s3(bucket)
    times = client.meta.config
    if times.proxies or times.client_cert or not (fs.anon or times.signature_version == "s3v4"):
        return None
    address = urlsplit(await client.generate_presigned_url("head_bucket", Params={"Bucket": bucket}))
    region = client.meta.region_name
    region = "us-east-1" if region in (None, "aws-global") else region
    if await _is_elsewhere(fs, bucket, region, address):
        return None
    from botocore.httpsession import where as where_roots
    from obstore.store import S3Store

    if _used_by is None:
        atexit.register(_end)
    _used_by = os.getpid()
    who: dict[str, Any] = {"skip_signature": True} if fs.anon else {"skip_signature": False}
    provider: Any = None if fs.anon else _Credentials(fs, await _credentials(fs))
    config: Any = {
        **place(bucket, region, address),
        **who,
        "unsigned_payload": True,
        "request_payer": fs.requester_pays,
    }
    plain: dict[str, Any] = {"allow_http": True, "connect_timeout": timedelta(seconds=times.connect_timeout)}
    if address.scheme == "https":
        # (Images of containers may have no certificates of the system's.)
        plain["root_certificate"] = Path(_own_roots(fs) or where_roots()).read_bytes()
    # All parts may share a slow line, so each may take as long as all of them.
    longest = timedelta(seconds=times.read_timeout + IN_FLIGHT * PART / _SLOWEST_BYTES_A_SECOND)
    retries: Any = {"max_retries": fs.retries, "retry_timeout": timedelta(seconds=2 * times.read_timeout)}
    # While a part is sent nothing is read, however well it goes.
    reading: Any = {**plain, "timeout": longest, "read_timeout": timedelta(seconds=times.read_timeout)}
    writing: Any = {**plain, "timeout": longest}
    how: Any = {"config": config, "retry_config": retries, "credential_provider": provider}
    stores = S3Store(bucket, client_options=reading, **how), S3Store(bucket, client_options=writing, **how)
    made = ObstoreClient(fs, bucket, loop, stores)
    return made if address.scheme != "https" or not _own_roots(fs) or await _trusts(made) else None


async def _is_elsewhere(fs: Any, bucket: str, region: str, address: SplitResult) -> bool:
    """Tell whether s3fs would be led on to another region, or it can't be known. Only AWS leads on."""
    if not (address.hostname or "").endswith(_AWS):
        return False
    try:
        found = await fs._call_s3("head_bucket", Bucket=bucket)
    except (PermissionError, FileNotFoundError):
        # (To ask may need a right that the calls themselves do not.)
        return True
    return found.get("BucketRegion", region) != region


def place(bucket: str, region: str, address: SplitResult) -> dict[str, Any]:
    """Return in obstore's words where a bucket is, from the address that botocore signs for it."""
    # The bucket is the last part of the path, or else the first of the host.
    base, slash, last = address.path.rstrip("/").rpartition("/")
    is_virtual = not (slash and last == bucket)
    # Signed in advance, an address names no region.
    host = re.sub(r"\bs3\.amazonaws\.com$", f"s3.{region}.amazonaws.com", address.netloc)
    endpoint = f"{address.scheme}://{host}{address.path.rstrip('/') if is_virtual else base}"
    # (The second one is what a variable of the environment would set, and counts more than the first.)
    places = {"endpoint": endpoint, "aws_endpoint_url_s3": endpoint}
    return {"region": region, "virtual_hosted_style_request": is_virtual, **places}


async def _credentials(fs: Any) -> Any:
    if fs.key and fs.secret:
        return None
    if found := await fs.session.get_credentials():
        return found
    from botocore.exceptions import NoCredentialsError

    raise NoCredentialsError


class _Credentials:
    """Gives obstore the credentials that s3fs would sign with at this moment.

    Not as a coroutine: the parts of an upload run where obstore finds no event loop to await one on.
    """

    def __init__(self, fs: Any, found: Any) -> None:
        self._fs, self._found = fs, found

    def __call__(self) -> dict[str, Any]:
        if self._found is None:
            return _words(self._fs.key, self._fs.secret, self._fs.token)
        # obstore asks from a thread of its own.
        asked = asyncio.run_coroutine_threadsafe(self._found.get_frozen_credentials(), self._fs.loop)
        now = asked.result(_CREDENTIALS_SECONDS)
        ends = datetime.now(UTC) + timedelta(minutes=_CREDENTIALS_MINUTES)
        return _words(now.access_key, now.secret_key, now.token, ends)


def _words(key: str, secret: str, token: str | None, ends: datetime | None = None) -> dict[str, Any]:
    return {"access_key_id": key, "secret_access_key": secret, "token": token, "expires_at": ends}


def _own_roots(fs: Any) -> str:
    """Return the file of certificates that a person names for s3fs's client, "" for none."""
    return fs.session.get_config_variable("ca_bundle") or os.environ.get("REQUESTS_CA_BUNDLE") or ""


async def _trusts(client: ObstoreClient) -> bool:
    """Tell whether a server with a certificate of a person's own is believed: Python takes some that Rust refuses."""
    try:
        await client.fetch("carryover-asks-who-is-there", 0, memoryview(bytearray(1)))
    except StoreFailed as error:
        return "InvalidCertificate" not in str(error)
    except FileNotFoundError:
        return True
    return True


def _slices(view: memoryview, part: int) -> Iterator[memoryview]:
    for start in range(0, len(view), part):
        yield view[start : start + part]


def _end() -> None:
    """Stop all transfers before the interpreter ends: threads of Rust that come back to it later abort the process."""
    global _is_ending
    _is_ending = True
    deadline = time.monotonic() + _ENDING_SECONDS
    while _used_by == os.getpid() and _going and time.monotonic() < deadline:
        for task in list(_going):
            task.get_loop().call_soon_threadsafe(task.cancel)
        time.sleep(_SETTLED_SECONDS)


@contextlib.contextmanager
def _named(bucket: str, key: str, *, is_put: bool = False) -> Iterator[None]:
    """Raise obstore's errors as the kinds that s3fs raises, with what the store said of them and no more.

    Their own words hold whole answers, in which stores repeat what they were sent.
    """
    from obstore.exceptions import BaseError

    task = asyncio.current_task()
    if _is_ending or task is None:
        raise StoreFailed("this process is ending")
    _going.add(task)
    try:
        yield
    except (BaseError, FileNotFoundError) as error:
        text = str(error).partition("\n")[0]
        code = next((found[1] for found in (_CODE.search(text), _STATUS.search(text)) if found), "")
        said = text.partition(": <?xml")[0].partition("<Error>")[0].rstrip(": ")
        why = code or next((" ".join(found[0].split()) for found in [_REASON.search(str(error))] if found), "")
        if isinstance(error, FileNotFoundError) and not is_put:
            raise FileNotFoundError(f"s3://{bucket}/{key}") from None
        raise StoreFailed(f"{said}{f': {why}' if why else ''}", code=code) from None
    finally:
        _going.discard(task)
