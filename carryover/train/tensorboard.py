"""Owns the TensorBoard files of a run: the lines of its curve as scalars, one curve over all attempts.

<run home>/tensorboard/events.out.tfevents.<attempt>.<segment>      ten digits each, so that they are read in order

    attempt 1   START 1   step 10, 20, 30, 40 ......... killed; 40 was saved, with all before it
    attempt 2             START 41   step 50, 60 ...    whatever a reader has from step 41 on, it drops at START

Files are written with each commit, before its record, as whole files: the newest segment again until it is full, then
another, so that object stores work (they can't append), and a long run costs no more a save than a short one.
Events are TensorBoard's own messages. Its record writer takes seconds to import, so the frame around them is made here
(https://github.com/tensorflow/tensorboard/blob/master/tensorboard/summary/writer/record_writer.py).
"""

import importlib
import json
import struct
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from carryover.checkpoint.metrics import OLDER, Segments, read_lines, step_of
from carryover.ground.storage import Store

FOLDER = "tensorboard"
_VERSION = "brain.Event:2"
_WHERE = ("step", "epoch", "attempt", "time", "event")
_SAVE = {"seconds": "save/seconds_blocked", "write_seconds": "save/seconds_behind", "bytes": "save/bytes"}


class Events:
    """The files of one attempt, which goes on from `step`; used by one thread at a time.

    Args:
        home: the run's folder; looked into once, for a curve that an older version wrote without these files.
    """

    def __init__(self, home: Store, *, step: int, attempt: int) -> None:
        self._home = home
        self._step = step
        self._attempt = attempt
        self._began = False
        self._waiting: list[bytes] = []
        self._segments = Segments(lambda number: f"{FOLDER}/events.out.tfevents.{attempt:010d}.{number:010d}")

    def content(self, lines: Sequence[bytes]) -> dict[str, bytes]:
        """Return the file to write so that these new lines of the curve are told too: name -> content.

        Asked again without lines, it is the same.
        """
        # Where the look into the home fails, they are told with the next try.
        self._waiting += lines
        if not self._began:
            self._begin()
        new = [json.loads(line) for line in self._waiting]
        if new and self._segments.full:
            self._segments.add(_record(_event(new[0], file_version=_VERSION)))
        self._segments.add(b"".join(_record(event) for line in new for event in _events(line)))
        self._waiting = []
        return self._segments.content()

    def written(self) -> None:
        """Take note that what `content` gave last has been written."""
        self._segments.written()

    def _begin(self) -> None:
        earlier: list[bytes] = []
        if self._step and self._home.exists(OLDER) and not self._home.names(FOLDER):
            earlier = read_lines(self._home, before=self._attempt, upto=self._step)
        self._waiting = [*(line for line in earlier if step_of(line) is not None), *self._waiting]
        first = {"step": 1 if earlier else self._step + 1, "time": 0.0}
        self._segments.add(_record(_event(first, file_version=_VERSION)) + _record(_event(first, starts=True)))
        self._began = True


def _events(line: Mapping[str, Any]) -> list[bytes]:
    """Return the messages that a line stands for."""
    name = line.get("event", "")
    if name == "start":
        return [_event({**line, "step": line["step"] + 1}, text=_words(line))]
    if name == "stop":
        return [_event(line, text=f"attempt {line['attempt']} ended at step {line['step']}: {line['reason']}")]
    if name == "save":
        return [_event(line, scalars={_SAVE[key]: line[key] for key in _SAVE if line.get(key) is not None})]
    values = {_tag(key): value for key, value in line.items() if key not in _WHERE and value is not None}
    if "loss" in line:
        values |= {"attempt": line["attempt"], "epoch": line["epoch"]}
    return [_event(line, scalars=values)] if values else []


def _tag(key: str) -> str:
    return f"validation/{key.removeprefix('val_')}" if key.startswith("val_") else f"train/{key}"


def _words(line: Mapping[str, Any]) -> str:
    began = f"goes on from step {line['from_step']}" if line["from_step"] else "starts"
    lost = {None: "; lost steps: not known", 0: ""}.get(line["lost_steps"], f"; lost steps: {line['lost_steps']}")
    changes = "".join(f"; {key}: {old} -> {new}" for key, (old, new) in line.get("changes", {}).items())
    return f"attempt {line['attempt']} {began}, ranks: {line['ranks']}, nodes: {line['nodes']}{lost}{changes}"


def _event(
    line: Mapping[str, Any],
    *,
    scalars: Mapping[str, float] | None = None,
    text: str = "",
    starts: bool = False,
    file_version: str = "",
) -> bytes:
    events, summaries = _messages("event"), _messages("summary")
    event = events.Event(wall_time=line.get("time", 0.0), step=line["step"])
    if file_version:
        event.file_version = file_version
    if starts:
        event.session_log.status = events.SessionLog.START
    if scalars:
        event.summary.value.extend(
            summaries.Summary.Value(tag=tag, simple_value=value) for tag, value in scalars.items()
        )
    if text:
        value = event.summary.value.add(tag="attempts")
        value.metadata.plugin_data.plugin_name = "text"
        value.metadata.data_class = summaries.DATA_CLASS_TENSOR
        value.tensor.dtype = _messages("types").DT_STRING
        value.tensor.tensor_shape.dim.add(size=1)
        value.tensor.string_val.append(text.encode())
    return event.SerializeToString()


def _messages(name: str) -> Any:
    """Return TensorBoard's generated module of messages; its attributes are made when it is imported."""
    return importlib.import_module(f"tensorboard.compat.proto.{name}_pb2")


def _record(data: bytes) -> bytes:
    """Return a message in its frame: length, checksum of the length, the message, checksum of it."""
    head = struct.pack("<Q", len(data))
    return head + struct.pack("<I", _masked(head)) + data + struct.pack("<I", _masked(data))


def _masked(data: bytes) -> int:
    crc, table = 0xFFFFFFFF, _table()
    for byte in data:
        crc = table[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    crc ^= 0xFFFFFFFF
    return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF


@cache
def _table() -> list[int]:
    """Return the table of CRC-32C (Castagnoli, reflected polynomial 0x82F63B78)."""
    table = []
    for byte in range(256):
        for _ in range(8):
            byte = (byte >> 1) ^ (0x82F63B78 if byte & 1 else 0)
        table.append(byte)
    return table
