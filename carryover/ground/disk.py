"""Owns what makes files on a local disk durable: bytes, and the names that lead to them."""

import errno
import os
from pathlib import Path

FULL = (errno.ENOSPC, errno.EDQUOT)
Bytes = bytes | bytearray | memoryview


def write_synced(path: Path, data: Bytes) -> None:
    """Write a whole file; its bytes are on the disk when this returns."""
    with open(path, "wb", buffering=0) as file:
        view = memoryview(data)
        while view:
            view = view[file.write(view[: 1 << 30]) or 0 :]
        os.fsync(file.fileno())


def make_folder(path: Path) -> None:
    """Make a folder and those above it; each new name is durable before anything is put below it."""
    if path.is_dir():
        return
    make_folder(path.parent)
    path.mkdir(exist_ok=True)
    sync_folder(path.parent)


def sync_folder(path: Path) -> None:
    """Make new names in a folder durable."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
