"""Owns what writes leave behind that never ended: temporary files on a local disk, multipart uploads on S3.

No reader sees any of it, but it takes space until somebody removes it. Nothing here asks how old it is: an upload may
rightly take a day, and the clocks of a client and a server differ. Who may remove what is decided by whoever asks
(checkpoint/writer.py). Object stores of other kinds end such uploads by themselves.
"""

import contextlib
import os
from dataclasses import dataclass

from carryover.ground.storage import TEMPORARY, Store


@dataclass(frozen=True, order=True)
class Unfinished:
    """One write that has not ended: the file that it would become or the temporary one, and the upload's id on S3."""

    name: str
    upload: str = ""


def unfinished(store: Store, folder: str) -> list[Unfinished]:
    """Return the writes directly into a folder that have not ended, sorted."""
    if store.local:
        top = store.local / folder
        names = os.listdir(top) if top.is_dir() else []
        return sorted(Unfinished(f"{folder}/{name}") for name in names if name.startswith(TEMPORARY))
    return sorted(_uploads(store, folder)) if store.scheme == "s3" else []


def abandon(store: Store, write: Unfinished) -> None:
    """Free what a write holds; no error when it has ended meanwhile. It can't end well any more."""
    if not write.upload:
        store.delete(write.name)
        return
    bucket, key, _ = store.fs.split_path(store.at(write.name))
    with contextlib.suppress(FileNotFoundError):
        store.fs.call_s3("abort_multipart_upload", Bucket=bucket, Key=key, UploadId=write.upload, **store.deadline())


def _uploads(store: Store, folder: str) -> list[Unfinished]:
    bucket, prefix, _ = store.fs.split_path(store.at(f"{folder}/"))
    found: list[Unfinished] = []
    after: dict[str, str] = {}
    while True:
        page = store.fs.call_s3("list_multipart_uploads", Bucket=bucket, Prefix=prefix, **after, **store.deadline())
        uploads = page.get("Uploads") or []
        found += [Unfinished(f"{folder}/{one['Key'].removeprefix(prefix)}", one["UploadId"]) for one in uploads]
        if not page.get("IsTruncated"):
            return found
        after = {"KeyMarker": page["NextKeyMarker"], "UploadIdMarker": page["NextUploadIdMarker"]}
