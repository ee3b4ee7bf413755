"""Owns how node 0's log is followed: every line once, over streams that break and pods that are replaced.

A stream is opened again from a little before where it broke; lines are told apart by the times that the cluster gives
them, so clocks of two machines are never compared.
"""

import math
import threading
import time
from collections import deque
from collections.abc import Callable

from carryover.ground.errors import CarryoverError
from carryover.launch.cluster import Cluster
from carryover.launch.trainjob import Pod

_PAUSE_SECONDS = 1.0
# A stream is opened again from so much before its last line.
_OVERLAP_SECONDS = 5
_KEPT_LINES = 20


class NodeLog:
    """The log of one node, pod after pod.

    Attributes:
        tail: the newest lines.
    """

    def __init__(self, cluster: Cluster, show: Callable[[str], None]) -> None:
        self.tail: deque[str] = deque(maxlen=_KEPT_LINES)
        self._cluster = cluster
        self._show = show
        self._uid = ""
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None

    def see(self, pod: Pod) -> None:
        """Take in the node's pod as it is now; called at every look."""
        if pod.begun and pod.uid != self._uid:
            self.close()
            self._uid, self._ended = pod.uid, threading.Event()
            self._thread = threading.Thread(target=self._follow, args=(pod.name, self._ended), daemon=True)
            self._thread.start()
        if pod.uid == self._uid and pod.exit_code is not None:
            self._ended.set()

    def close(self, seconds: float = 10.0) -> None:
        """Wait for the last lines of a pod that has ended, or is gone."""
        self._ended.set()
        if self._thread:
            self._thread.join(seconds)

    def _follow(self, pod: str, ended: threading.Event) -> None:
        newest, same, looked_at = "", 0, 0.0
        while True:
            final = ended.is_set()
            since = math.ceil(time.monotonic() - looked_at) + _OVERLAP_SECONDS if looked_at else 0
            skip, before = same, newest
            try:
                for line in self._cluster.log(pod, since_seconds=since):
                    when, _, words = line.partition(" ")
                    when = _sortable(when)
                    looked_at = time.monotonic()
                    # Several lines may have one time: of those as many are old as were seen.
                    if when < before:
                        continue
                    if when == before and skip:
                        skip -= 1
                        continue
                    same = same + 1 if when == newest else 1
                    newest = when
                    self.tail.append(words)
                    self._show(words)
            except CarryoverError:
                # Not there yet, or gone with its pod, or no answer: the one who looks at the job says what it is.
                if final:
                    return
            if final:
                return
            ended.wait(_PAUSE_SECONDS)


def _sortable(when: str) -> str:
    """Return a time as the cluster writes it, with a fraction of nine digits: text that sorts as the times do."""
    seconds, _, fraction = when.rstrip("Z").partition(".")
    return f"{seconds}.{fraction:0<9}"
