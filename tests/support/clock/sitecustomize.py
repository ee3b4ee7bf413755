"""Loaded by every Python process whose clock libfaketime moves: it refuses the call that `time.sleep` makes.

(clock_nanosleep to an instant of the monotonic clock ends with EINVAL as soon as that clock is left alone.)
"""

import select
import time


def _sleep(seconds: float) -> None:
    select.select([], [], [], seconds)


time.sleep = _sleep
