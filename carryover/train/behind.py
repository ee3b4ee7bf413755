"""Owns the thread behind the loop: one save at a time, tried again while training goes on."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

from carryover.checkpoint.scribe import FailedThere, Saved
from carryover.ground import failures
from carryover.ground.console import warn
from carryover.ground.errors import CarryoverError, RunAgain, Superseded
from carryover.ground.storage import first_line

_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 30.0


class Behind:
    """One thread that runs one save at a time, trying again when it fails."""

    def __init__(self, *, give_up_seconds: float) -> None:
        self._give_up = give_up_seconds
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="save")
        self._job: Future[None] | None = None
        self._closing = threading.Event()

    def idle(self) -> bool:
        """Tell whether nothing is on its way; raises what ended it."""
        if self._job is None:
            return True
        if not self._job.done():
            return False
        self.wait()
        return True

    def wait(self) -> None:
        """Wait for what is on its way; raises what ended it."""
        job, self._job = self._job, None
        if job is not None:
            job.result()

    def do(self, work: Callable[[], None]) -> None:
        """Run something behind the caller."""
        assert self._job is None, "one at a time"
        self._job = self._pool.submit(work)

    def until_saved(self, save: Callable[[], Saved], written: Callable[[Saved, float], None]) -> None:
        """In the thread: save until it succeeds, then call `written` with what was saved and the seconds it took.

        Raises:
            RunAgain: when nothing could be saved for too long.
            Superseded: when another attempt owns the run.
        """
        started, pause = time.monotonic(), _FIRST_PAUSE
        while True:
            try:
                saved = save()
            except Superseded:
                raise
            except Exception as error:
                said, ours = _meaning(error)
                if ours is None:
                    raise
                spent = time.monotonic() - started
                if spent + pause > self._give_up or self._closing.is_set():
                    raise RunAgain(f"nothing could be saved for {spent:.0f} s: {ours}", trouble=ours.trouble) from error
                warn(f"a save failed and is tried again in {pause:g} s, training goes on: {said}")
                self._closing.wait(pause)
                pause = min(2 * pause, _LONGEST_PAUSE)
            else:
                return written(saved, time.monotonic() - started)

    def close(self) -> None:
        """End the thread, after the try that it is at."""
        self._closing.set()
        self._pool.shutdown(wait=True)


def _meaning(error: Exception) -> tuple[str, CarryoverError | None]:
    """Return what a failed save said, and what that means where it is the store's failure."""
    if isinstance(error, FailedThere):
        return str(error), error.ours
    return first_line(error), failures.of_store(error)
