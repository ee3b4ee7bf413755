"""Checkpoints: a log of small records made by put-if-absent, over content named by its digest."""

from carryover.checkpoint.heartbeat import Beat
from carryover.checkpoint.home import Loaded, RunHome
from carryover.checkpoint.layout import Damaged
from carryover.checkpoint.log import Record
from carryover.checkpoint.owners import local_owner
from carryover.checkpoint.policy import CheckpointConfig, Due
from carryover.checkpoint.retention import Keep
from carryover.checkpoint.store import RawTensor, Ref, Table
from carryover.checkpoint.writer import Writer

__all__ = [
    "Beat",
    "CheckpointConfig",
    "Damaged",
    "Due",
    "Keep",
    "Loaded",
    "RawTensor",
    "Record",
    "Ref",
    "RunHome",
    "Table",
    "Writer",
    "local_owner",
]
