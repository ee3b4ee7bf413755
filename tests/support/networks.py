"""Two machines on this one: network and UTS namespaces that are joined by a cable, each with a name as a pod has it.

node-0  10.83.N.1 ---- veth ---- 10.83.N.2  node-1        /etc/hosts of each knows both; nothing else is reachable
"""

import os
import shutil
import subprocess
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

_HOSTS = Path("/etc/netns")
_NAMED = 'hostname "$0" && exec "$@"'


@dataclass(frozen=True)
class Machine:
    """One of them: its host name, and what starts a command there."""

    name: str
    prefix: tuple[str, ...]


@contextmanager
def two_machines() -> Iterator[tuple[Machine, Machine]]:
    """Give two joined machines; skips the test where they can't be made."""
    if os.geteuid() or not (shutil.which("ip") and shutil.which("unshare")):
        pytest.skip("network namespaces need root, ip and unshare")
    mark = uuid.uuid4().hex[:6]
    spaces = [f"co-{mark}-{number}" for number in (0, 1)]
    subnet = f"10.83.{int(mark[:2], 16)}"
    try:
        try:
            for space in spaces:
                _ip("netns", "add", space)
            _ip("link", "add", f"v{mark}0", "netns", spaces[0], "type", "veth", "peer", f"v{mark}1", "netns", spaces[1])
        except subprocess.CalledProcessError as error:
            pytest.skip(f"network namespaces can't be made here: {error.stderr.strip()}")
        for number, space in enumerate(spaces):
            _ip("-n", space, "addr", "add", f"{subnet}.{number + 1}/24", "dev", f"v{mark}{number}")
            for device in (f"v{mark}{number}", "lo"):
                _ip("-n", space, "link", "set", device, "up")
            (_HOSTS / space).mkdir(parents=True)
            names = "".join(f"{subnet}.{other + 1} node-{other}\n" for other in (0, 1))
            (_HOSTS / space / "hosts").write_text(f"127.0.0.1 localhost\n{names}")
        first, second = (_machine(number, space) for number, space in enumerate(spaces))
        yield first, second
    finally:
        for space in spaces:
            subprocess.run(["ip", "netns", "delete", space], check=False, capture_output=True)
            shutil.rmtree(_HOSTS / space, ignore_errors=True)


def _machine(number: int, space: str) -> Machine:
    name = f"node-{number}"
    return Machine(name, ("ip", "netns", "exec", space, "unshare", "--uts", "sh", "-c", _NAMED, name))


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True, text=True)
