"""Python runs this at every start, where its folder is on PYTHONPATH: what did a process load, and who was started?

CARRYOVER_TEST_RECORD   folder; each Python process leaves a file <pid> there: its command line, and at a normal end the
                        heavy libraries that it had loaded
CARRYOVER_TEST_HIDE     name of a package that is as if it were not installed
"""

import atexit
import os
import sys
from importlib.machinery import PathFinder
from pathlib import Path

HEAVY = ("torch", "transformers", "timm", "sklearn", "matplotlib", "pandas")


def _record(folder: Path) -> None:
    path = folder / str(os.getpid())
    path.write_text(" ".join(sys.orig_argv) + "\n")

    def end() -> None:
        path.write_text(path.read_text() + " ".join(name for name in HEAVY if name in sys.modules))

    atexit.register(end)


class _Hiding(PathFinder):
    """Finds what the real one finds, but for one package."""

    @classmethod
    def find_spec(cls, fullname, path=None, target=None):
        if fullname.partition(".")[0] == os.environ["CARRYOVER_TEST_HIDE"]:
            return None
        return super().find_spec(fullname, path, target)


if os.environ.get("CARRYOVER_TEST_RECORD"):
    _record(Path(os.environ["CARRYOVER_TEST_RECORD"]))
if os.environ.get("CARRYOVER_TEST_HIDE"):
    sys.meta_path[sys.meta_path.index(PathFinder)] = _Hiding
