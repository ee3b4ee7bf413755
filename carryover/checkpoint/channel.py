"""Owns how rank 0 and the writing process talk: a line of JSON each way, and bytes behind it where it names some.

{"do": "commit", ..., "bytes": {"metrics.jsonl": 5120}}\n<5120 bytes>
"""

import contextlib
import json
import socket
from collections.abc import Mapping
from typing import Any

_BYTES = "bytes"


class Closed(Exception):
    """The other side has gone."""


class Channel:
    """One end of the talk; one thread at a time uses it."""

    def __init__(self, end: socket.socket) -> None:
        self._end = end
        self._incoming = end.makefile("rb")

    def send(self, values: Mapping[str, Any], contents: Mapping[str, bytes] | None = None) -> None:
        """Send a message, and contents by name behind it.

        Raises:
            Closed: when nobody is there to read it.
        """
        contents = contents or {}
        line = json.dumps({**values, _BYTES: {name: len(data) for name, data in contents.items()}})
        try:
            self._end.sendall(b"".join([line.encode(), b"\n", *contents.values()]))
        except OSError as error:
            raise Closed from error

    def receive(self) -> tuple[dict[str, Any], dict[str, bytes]]:
        """Wait for the next message; returns it with the contents by name.

        Raises:
            Closed: when none will come.
        """
        try:
            values = json.loads(self._line())
            return values, {name: self._content(size) for name, size in values.pop(_BYTES).items()}
        except OSError as error:
            raise Closed from error

    def waiting(self) -> bool:
        """Tell whether something can be received now, be it that the other side has gone; before the first message."""
        self._end.setblocking(False)
        try:
            return len(self._end.recv(1, socket.MSG_PEEK)) >= 0
        except BlockingIOError:
            return False
        except OSError:
            return True
        finally:
            self._end.setblocking(True)

    def close(self) -> None:
        """Hang up, for processes that were forked meanwhile and have this end too."""
        with contextlib.suppress(OSError):
            self._end.shutdown(socket.SHUT_RDWR)
        self._incoming.close()
        self._end.close()

    def _line(self) -> bytes:
        line = self._incoming.readline()
        if not line.endswith(b"\n"):
            raise Closed
        return line

    def _content(self, size: int) -> bytes:
        data = self._incoming.read(size)
        if len(data) != size:
            raise Closed
        return data
