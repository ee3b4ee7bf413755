"""Makes the environments of the other programs: `python -m benchmarks.peers.setup [NAME...]`, all where none is named.

    --lock      writes the pinned lists anew (benchmarks/peers/requirements/) and makes nothing
    --remove    removes the environments

What cannot be made leaves its reason beside its place, and the benchmarks and the page show that reason.
"""

import argparse
import hashlib
import re
import shutil
import subprocess
import sys
from pathlib import Path

from benchmarks.peers.programs import ENVIRONMENTS, PEERS, requirements

LOCK = Path(__file__).parents[2] / "requirements.lock"
NEEDED_BYTES = 15 << 30  # free space that has to be left for everything else on the machine
SHARED = ("torch", "torchvision")  # one version for all: this project's


def main() -> None:
    """Makes, locks or removes; exits 1 when an environment could not be made."""
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    flags.add_argument("names", nargs="*", metavar="NAME", help=", ".join(PEERS))
    flags.add_argument("--lock", action="store_true")
    flags.add_argument("--remove", action="store_true")
    asked = flags.parse_args()
    if unknown := [name for name in asked.names if name not in PEERS]:
        flags.error(f"no peer is called {unknown[0]!r}; there are: {', '.join(PEERS)}")
    made = [_act(name, asked) for name in asked.names or PEERS]
    sys.exit(not all(made))


def _act(name: str, asked: argparse.Namespace) -> bool:
    if asked.lock:
        return _lock(name)
    return _remove(name) if asked.remove else _make(name)


def _lock(name: str) -> bool:
    pins = [line for line in shared_pins() if line]
    wanted = "\n".join([*PEERS[name].packages, ""])
    limits = ENVIRONMENTS / "shared.txt"
    limits.parent.mkdir(parents=True, exist_ok=True)
    limits.write_text("\n".join(pins) + "\n")
    words = ["--python-version", "3.11", "--no-annotate", "--no-header", "--no-emit-index-url", "-c", str(limits)]
    done = _uv("pip", "compile", "-", *words, "-o", str(requirements(name)), "--quiet", given=wanted)
    print(f"{name}: {'locked' if not done.returncode else done.stderr.strip()}", flush=True)
    return not done.returncode


def shared_pins() -> list[str]:
    """The versions of this project's lock that every environment has too."""
    pinned = re.findall(r"^([a-z]+)==([^ ;\\\n]+)", LOCK.read_text(), re.M)
    return [f"{name}=={version}" for name, version in pinned if name in SHARED]


def _make(name: str) -> bool:
    place, ready, why = ENVIRONMENTS / name, ENVIRONMENTS / name / ".ready", ENVIRONMENTS / f"{name}.why"
    digest = hashlib.sha256(requirements(name).read_bytes()).hexdigest()
    if ready.exists() and ready.read_text() == digest:
        print(f"{name}: ready", flush=True)
        return True
    ENVIRONMENTS.mkdir(parents=True, exist_ok=True)
    if shutil.disk_usage(ENVIRONMENTS).free < NEEDED_BYTES:
        return _gave_up(name, why, f"less than {NEEDED_BYTES >> 30} GiB of disk are free")
    base = getattr(sys, "_base_executable", sys.executable)
    for command in (
        ["venv", "--quiet", "--clear", "--python", base, str(place)],
        ["pip", "sync", "--quiet", "--python", str(place / "bin" / "python"), str(requirements(name))],
    ):
        if (done := _uv(*command)).returncode:
            return _gave_up(name, why, done.stderr)
    why.unlink(missing_ok=True)
    ready.write_text(digest)
    print(f"{name}: made", flush=True)
    return True


def _gave_up(name: str, why: Path, reason: str) -> bool:
    lines = [line.strip() for line in reason.splitlines() if line.strip()]
    why.write_text(f"could not be installed: {' '.join(lines)[:400]}\n")
    print(f"{name}: {why.read_text()}", end="", flush=True)
    return False


def _remove(name: str) -> bool:
    shutil.rmtree(ENVIRONMENTS / name, ignore_errors=True)
    (ENVIRONMENTS / f"{name}.why").unlink(missing_ok=True)
    return True


def _uv(*words: str, given: str = "") -> subprocess.CompletedProcess[str]:
    uv = Path(sys.executable).with_name("uv")
    return subprocess.run([str(uv), *words], input=given, capture_output=True, text=True, check=False, timeout=1800)


if __name__ == "__main__":
    main()
