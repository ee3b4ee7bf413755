"""Owns how report and pictures stay current while a training runs, and how they are made at its end.

    ranks ---lines--> <scratch>/metrics.jsonl <---looked at every second--- a thread of the launcher
    run home ---------> <scratch>/earlier.jsonl  lines of attempts before     |   after a validation, or some time
    run home, DIR  <------ report.html, curves/ ------ a process of its own <-+

matplotlib lives in that process alone: no rank waits for a picture, and nobody who stops does. It ends at once when the
training ends in any other way than by finishing, and by itself after DRAWING_SECONDS. Trouble with it is one warning.

CARRYOVER_CURVES_SECONDS=60 says how often at most; 0 for no pictures, and a report at the end only. Unless somebody
says so, drawing takes a fiftieth of the time at most: it shares the cores with training.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from carryover.checkpoint.home import RunHome
from carryover.checkpoint.log import Log
from carryover.ground import storage
from carryover.ground.config import check
from carryover.ground.console import warn
from carryover.ground.errors import RunAgain, WrongInput
from carryover.ground.storage import first_line
from carryover.models.card import ModelCard
from carryover.report.curve import read_copies
from carryover.report.page import note, page
from carryover.steps import training_report
from carryover.steps.run_source import run_of
from carryover.steps.training_pages import life_of
from carryover.steps.training_report import CURVES, ENDED, REPORT
from carryover.train.lines import COPY, earlier_lines

VARIABLE = "CARRYOVER_CURVES_SECONDS"
EVERY_SECONDS = 60.0
# A picture that takes longer is given up; the end of a training waits for its pictures no longer than that.
DRAWING_SECONDS = 120.0
_LOOK_EVERY_SECONDS = 1.0
# After a validation people look: then it may be that part of the time earlier.
_SOONER = 4
_MOST_OF_TIME = 1 / 50
_CHECK = b'"val_'
# Beside the copy of this attempt's lines: those of the attempts before it, as far as they count.
_EARLIER = "earlier.jsonl"


def every_seconds() -> float:
    """Return how often pictures are drawn at most, in seconds; 0 for never.

    Raises:
        WrongInput: for what is no such number.
    """
    given = os.environ.get(VARIABLE, "")
    try:
        value = float(given or EVERY_SECONDS)
    except ValueError:
        value = -1.0
    check(value >= 0, VARIABLE, given, "a number of seconds, 0 for no pictures")
    return value


@contextlib.contextmanager
def kept_current(home: RunHome, scratch: Path, *, attempt: int, output: str) -> Iterator[None]:
    """Draw again and again while the block runs; leaves no process behind."""
    every = every_seconds()
    if not every:
        yield
        return
    redraws = _Redraws(home, scratch / COPY, attempt=attempt, output=output, every=every)
    try:
        yield
    finally:
        redraws.close()


def finish(home: RunHome, output: str, *, trained: bool) -> str:
    """Write report and pictures of a run that has ended; return where the report is, a path in `output` or else a URI.

    Args:
        output: folder of the step; "" for none.
        trained: whether something was trained now; if not, what the run has already is given again.
    """
    place = home.store if not output else storage.open_store(output)
    if not (not trained and _copied(home, output)):
        # The page last: where it says that the run has finished, all is there.
        _put_pictures(home, output)
        _put_page(home, output)
    return place.at(REPORT) if not output else storage.join(output, REPORT)


def of_model(card: ModelCard, output: str, *, store: str) -> str:
    """Give the report of the run that made a Model once more; return where it is, "" where that run is gone."""
    try:
        return finish(run_of(card, store=store), output, trained=False)
    except WrongInput as error:
        words = note(f"Nothing was trained, and there is no report of the run that made the Model: {error}")
        if output:
            text = page("Training", f"Model {card.digest}", [words], foot="carryover")
            storage.open_store(output).write(REPORT, text.encode())
        return storage.join(output, REPORT) if output else ""


def _copied(home: RunHome, output: str) -> bool:
    """Copy what a run's home has to the output folder; False where it has no report, or one of before its end."""
    try:
        if ENDED.encode() not in home.store.read(REPORT):
            return False
    except FileNotFoundError:
        return False
    if output:
        names = [REPORT, *(f"{CURVES}/{name}" for name in home.store.names(CURVES))]
        storage.copy_tree(home.store, storage.open_store(output), names)
    return True


def _put_page(home: RunHome, output: str) -> None:
    places = [home.store, *([storage.open_store(output)] if output else [])]
    try:
        text = training_report.page_of(home, generations=life_of(home))
    except RunAgain:
        raise  # Asked to stop: the same command gives the finished run, and makes its report.
    except Exception as error:
        # A workflow waits for the file; the training is not to fail of it.
        warn(f"the report of {home.store.uri} could not be made: {first_line(error)}")
        words = f"{first_line(error)}; carryover report {home.store.uri} tries again"
        text = page("Training", home.store.uri, [note(f"This report could not be made: {words}")], foot="carryover")
    for place in places:
        try:
            place.write(REPORT, text.encode())
        except RunAgain:
            raise
        except Exception as error:  # Object stores raise their own kinds.
            warn(f"{place.at(REPORT)}: not written: {first_line(error)}")


def _put_pictures(home: RunHome, output: str) -> None:
    if not every_seconds():
        return
    try:
        words = _drawn(home, output)
    except OSError as error:
        words = first_line(error)
    if words:
        warn(f"curves of {home.store.uri} could not be drawn: {words}")


def _drawn(home: RunHome, output: str) -> str:
    """Draw all pictures and wait for them; return what went wrong, "" for nothing."""
    drawing = _Drawing(home, "", attempt=0, output=output, what="pictures")
    try:
        drawing.wait(DRAWING_SECONDS)
        return drawing.trouble()
    finally:
        drawing.close()


class _Redraws:
    """The thread that looks at the local copy of the curve."""

    def __init__(self, home: RunHome, copy: Path, *, attempt: int, output: str, every: float) -> None:
        self._home, self._copy, self._attempt, self._output = home, copy, attempt, output
        self._every = every
        # Until then nothing is drawn, on the monotonic clock; who names an interval has it.
        self._rests, self._rests_until = VARIABLE not in os.environ, 0.0
        self._end = threading.Event()
        self._warned = False
        self._thread = threading.Thread(target=self._run, name="curves", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End the thread and what it draws, at once."""
        self._end.set()
        self._thread.join()

    def _run(self) -> None:
        size, drawn_at = 0, time.monotonic()
        while not self._end.wait(_LOOK_EVERY_SECONDS):
            now = time.monotonic()
            waited = now - drawn_at
            if waited < self._every / _SOONER or now < self._rests_until:
                continue
            fresh = _since(self._copy, size)
            if fresh and (waited >= self._every or _CHECK in fresh):
                try:
                    self._draw()
                except OSError as error:  # No process, no file: a machine at its limits.
                    self._warn(first_line(error))
                size, drawn_at = size + len(fresh), time.monotonic()
                if self._rests:
                    self._rests_until = drawn_at + (drawn_at - now) / _MOST_OF_TIME

    def _draw(self) -> None:
        earlier = self._copy.with_name(_EARLIER)
        if not earlier.exists():
            earlier.write_bytes(b"\n".join(earlier_lines(self._home, self._copy)))
        drawing = _Drawing(self._home, str(self._copy), attempt=self._attempt, output=self._output, what="all")
        started = time.monotonic()
        while drawing.runs() and time.monotonic() - started < DRAWING_SECONDS:
            if self._end.wait(0.1):
                break
        else:
            if words := drawing.trouble():
                self._warn(words)
        drawing.close()

    def _warn(self, words: str) -> None:
        if not self._warned:
            warn(f"curves could not be drawn, training goes on: {words}")
        self._warned = True


class _Drawing:
    """A process that draws once."""

    def __init__(self, home: RunHome, copy: str, *, attempt: int, output: str, what: str) -> None:
        asked = {"home": home.store.uri, "copy": copy, "attempt": attempt, "output": output, "what": what}
        # Its own group: Ctrl-C is for the training, which then ends this one.
        self._process = subprocess.Popen(
            [sys.executable, "-m", "carryover.steps.redraw", json.dumps(asked)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            start_new_session=True,
            env={**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
        )

    def runs(self) -> bool:
        return self._process.poll() is None

    def wait(self, seconds: float) -> None:
        """Wait so long at most."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(seconds)

    def close(self) -> None:
        """End it, if it still runs."""
        if self.runs():
            self._process.kill()
        self._process.wait()
        if self._process.stderr:
            self._process.stderr.close()

    def trouble(self) -> str:
        """Return what went wrong, "" for nothing."""
        if self.runs():
            return f"it took longer than {DRAWING_SECONDS:g} s"
        if not self._process.returncode or not self._process.stderr:
            return ""
        lines = self._process.stderr.read().decode(errors="replace").strip().splitlines()
        return lines[-1] if lines else f"exit code {self._process.returncode}"


def _since(file: Path, size: int) -> bytes:
    """Return what has been added to a file; nothing while it is not there."""
    try:
        with file.open("rb") as reader:
            reader.seek(size)
            return reader.read()
    except FileNotFoundError:
        return b""


def main(asked: str) -> None:
    """Draw once: what the process is asked for, as JSON."""
    # Whoever asked may be gone.
    signal.alarm(round(DRAWING_SECONDS))
    with contextlib.suppress(OSError):
        os.nice(10)
    wish = json.loads(asked)
    home = RunHome(storage.open_store(wish["home"]))
    if wish["attempt"] and Log(home.store).head().attempt > wish["attempt"]:
        return  # A newer attempt draws now, and it knows more.
    places = [home.store, *([storage.open_store(wish["output"])] if wish["output"] else [])]
    copy = Path(wish["copy"])
    curve = read_copies(copy.with_name(_EARLIER), copy) if wish["copy"] else None
    if wish["what"] == "all":
        text = training_report.page_of(home, curve=curve, generations=life_of(home))
        training_report.put({REPORT: text.encode()}, places)
    drawn = training_report.pictures_of(home, curve=curve)
    training_report.put(training_report.in_folder(drawn), places)


if __name__ == "__main__":
    main(sys.argv[1])
