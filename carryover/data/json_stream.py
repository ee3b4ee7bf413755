"""Owns reading one large JSON object item by item: its lists are never in memory whole.

{"info": {...}, "images": [{...}, {...}, ...], ...}  -->  ("info", {...})  ("images", {...})  ("images", {...}) ...
"""

import json
from collections.abc import Iterator
from typing import Any, BinaryIO

CHUNK = 1 << 20
# One picture with all of its annotations is far below this; what is not, is no such list.
LONGEST = 64 << 20
_BLANK = " \t\r\n"
_ENDS = frozenset(",:]}" + _BLANK)


def items(stream: BinaryIO) -> Iterator[tuple[str, Any]]:
    """Yield (key, item) for each item of a list at the top, and (key, value) for each other value there.

    An empty list yields (key, None).

    Raises:
        ValueError: no JSON object, or one that is cut off.
    """
    text = _Text(stream)
    text.expect("{")
    if text.skip("}"):
        return
    while True:
        key = text.value()
        if not isinstance(key, str):
            raise ValueError(f"a key must be text, not {key!r}")
        text.expect(":")
        if not text.skip("["):
            yield key, text.value()
        elif text.skip("]"):
            yield key, None
        else:
            yield key, text.value()
            while text.skip(","):
                yield key, text.value()
            text.expect("]")
        if not text.skip(","):
            text.expect("}")
            return


class _Text:
    """The text of a stream, as far as it is needed."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._decoder = json.JSONDecoder()
        self._bytes = b""
        self._text = ""
        self._place = 0
        self._passed = 0
        self._ended = False

    def value(self) -> Any:
        """Return the next value."""
        self._peek()
        while True:
            try:
                value, end = self._decoder.raw_decode(self._text, self._place)
                # Where no value can end, a number goes on: -22. is the beginning of one.
                if self._ended or self._text[end : end + 1] in _ENDS:
                    self._place = end
                    return value
            except RecursionError:
                raise ValueError(f"nested too deeply at character {self._passed + self._place:,}") from None
            except json.JSONDecodeError as error:
                if self._ended:
                    raise ValueError(f"{error.msg} at character {self._passed + error.pos:,}") from None
            if len(self._text) - self._place > LONGEST:
                raise ValueError(
                    f"one value is longer than {LONGEST >> 20} MiB at character {self._passed + self._place:,}"
                )
            self._read(max(CHUNK, len(self._text) - self._place))

    def skip(self, sign: str) -> bool:
        """Pass a sign where it comes next; tell whether it did."""
        found = self._peek() == sign
        self._place += found
        return found

    def expect(self, sign: str) -> None:
        """Pass a sign that must come next."""
        if not self.skip(sign):
            raise ValueError(f"'{sign}' expected at character {self._passed + self._place:,}")

    def _peek(self) -> str:
        while True:
            while self._place < len(self._text) and self._text[self._place] in _BLANK:
                self._place += 1
            if self._place < len(self._text) or self._ended:
                return self._text[self._place : self._place + 1]
            self._read(CHUNK)

    def _read(self, size: int) -> None:
        """Read on; what was passed is forgotten."""
        data = self._stream.read(size)
        self._ended = not data
        whole, self._bytes = _whole(self._bytes + data, ended=self._ended)
        first = not self._passed and not self._text
        self._passed += self._place
        self._text = self._text[self._place :] + whole.decode("utf-8-sig" if first else "utf-8")
        self._place = 0


def _whole(data: bytes, *, ended: bool) -> tuple[bytes, bytes]:
    """Cut bytes where a character ends."""
    if ended:
        return data, b""
    for back in range(1, min(4, len(data)) + 1):
        if data[-back] & 0xC0 != 0x80:
            # A lead byte whose character may not be whole goes with what comes next.
            return (data, b"") if data[-back] < 0x80 else (data[:-back], data[-back:])
    return data, b""
