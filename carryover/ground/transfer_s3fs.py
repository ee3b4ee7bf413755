"""Owns the client for bulk bytes that needs nothing but s3fs: its own calls, made many at once.

It is slower than transfer_obstore.py (every byte passes Python's event loop), and follows all that a person may have
configured for s3fs, as these are its calls. Opening a file there would send or fetch one part after the other.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from typing import Any

from carryover.ground.disk import Bytes
from carryover.ground.transfer import EMPTY, IN_FLIGHT, Content, Part

_TRIES = 3


class S3fsClient:
    """Carries the objects of one bucket by the calls of an s3fs file system.

    It has one of its own: of the same options, but that payloads are not signed unless a person wants that. To hash
    them in the event loop holds all others up; digests of ours prove them when they are read.
    """

    name = "s3fs"

    def __init__(self, fs: Any, bucket: str) -> None:
        config = fs.storage_options.get("config_kwargs") or {}
        unsigned = {**config, "s3": {"payload_signing_enabled": False, **(config.get("s3") or {})}}
        self._fs = type(fs)(**{**fs.storage_options, "config_kwargs": unsigned})
        self._fs.retries = fs.retries
        self._bucket = bucket
        self.loop: asyncio.AbstractEventLoop = self._fs.loop

    async def fetch(self, key: str, start: int, buffer: memoryview) -> Part:
        """Fill the buffer from `start` on; an answer that breaks off is asked for again."""
        for tried in range(_TRIES):
            try:
                answer = await self._call("get_object", key, Range=f"bytes={start}-{start + len(buffer) - 1}")
            except OSError as error:
                said = getattr(error.__cause__, "response", None) or {}
                if said.get("Error", {}).get("Code") == EMPTY:
                    return Part(0, 0, "")
                raise
            try:
                async with answer["Body"] as body:
                    data = await body.read()
            except Exception:
                if tried == _TRIES - 1:
                    raise
                continue
            # "bytes 0-8388607/12582912"; a server that knows no ranges sends all.
            total = int(answer.get("ContentRange", f"/{len(data)}").rpartition("/")[2])
            if len(data) == min(len(buffer), total - start):
                buffer[: len(data)] = data
                return Part(len(data), total, answer["ETag"])
        raise ConnectionError(f"{key}: the store answers with fewer bytes than it says")

    async def put(self, key: str, content: Content, part: int) -> None:
        """Write an object, in one request where it is no longer than a part."""
        if isinstance(content, memoryview) and len(content) <= part:
            await self._call("put_object", key, Body=bytes(content))
            return
        content = _parts(content, part)
        upload = (await self._call("create_multipart_upload", key))["UploadId"]
        try:
            await self._send(key, upload, content)
        except BaseException:
            with contextlib.suppress(Exception):
                # What went wrong first is what is said; a later sweep finds an upload that stays (unfinished.py).
                await self._call("abort_multipart_upload", key, UploadId=upload)
            raise

    async def _send(self, key: str, upload: str, content: AsyncIterator[Bytes]) -> None:
        room, tags = asyncio.Semaphore(IN_FLIGHT), dict[int, str]()

        async def send(number: int, data: Bytes) -> None:
            try:
                answer = await self._call("upload_part", key, UploadId=upload, PartNumber=number, Body=bytes(data))
                tags[number] = answer["ETag"]
            finally:
                room.release()

        number, going = 0, list[asyncio.Task[None]]()
        try:
            async for data in content:
                await room.acquire()
                number += 1
                await asyncio.gather(*(task for task in going if task.done()))
                going = [*(task for task in going if not task.done()), asyncio.ensure_future(send(number, data))]
            await asyncio.gather(*going)
        finally:
            for task in going:
                task.cancel()
            # An upload can't be dropped while parts of it are on their way.
            await asyncio.gather(*going, return_exceptions=True)
        parts = [{"PartNumber": number, "ETag": tags[number]} for number in sorted(tags)]
        await self._call("complete_multipart_upload", key, UploadId=upload, MultipartUpload={"Parts": parts})

    async def _call(self, method: str, key: str, **words: Any) -> Any:
        return await self._fs._call_s3(method, Bucket=self._bucket, Key=key, **words)


async def _parts(content: Content, part: int) -> AsyncIterator[Bytes]:
    """Yield pieces of any length as parts of just one."""
    gathered = bytearray()
    async for piece in _each(content):
        view, at = memoryview(piece).cast("B"), 0
        while at < len(view):
            taken = view[at : at + part - len(gathered)]
            gathered += taken
            at += len(taken)
            if len(gathered) == part:
                yield gathered
                gathered = bytearray()
    if gathered:
        yield gathered


async def _each(content: Content) -> AsyncIterator[Bytes]:
    if isinstance(content, AsyncIterator):
        async for piece in content:
            yield piece
    elif isinstance(content, Iterator):
        for piece in content:
            yield piece
    else:
        yield content
