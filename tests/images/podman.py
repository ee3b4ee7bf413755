"""A real container engine for tests: podman with settings of its own, a base image without a registry, our image.

debootstrap -> base -> tools.build_images -> carryover:test-cpu -> containers, or podman's Docker-compatible socket

What was built stays in podman's store: the next run of the tests finds every layer whose content is still the same.
"""

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tools import build_images

BASE = "localhost/carryover-base:bookworm"
# netns: containers need no network of their own here. Limits: a machine of tests may have lower ones than podman's.
SETTINGS = """\
[containers]
default_ulimits = ["nofile=4096:4096", "nproc=4096:4096"]
netns = "host"
[engine]
runtime = "runc"
"""
# As pods are on a cluster: see manifests/.
LOCKED = (
    "--read-only",
    "--cap-drop=all",
    "--security-opt=no-new-privileges",
    "--tmpfs=/tmp:mode=1777",
    "--tmpfs=/home/carryover:mode=1777",
)


def missing() -> str:
    """Say what this machine lacks for real containers, or nothing."""
    if os.geteuid() != 0:
        return "only root may make a base image and read-only containers here"
    absent = [name for name in ("podman", "runc", "debootstrap") if not shutil.which(name)]
    return f"no {', '.join(absent)} here" if absent else ""


@dataclass(frozen=True)
class Podman:
    """Podman with these tests' settings."""

    folder: Path
    image: str = ""
    env: dict[str, str] = field(default_factory=dict)

    def __call__(self, *words: object, check: bool = True, timeout: float = 300) -> "subprocess.CompletedProcess[str]":
        """Run podman to the end."""
        command = ["podman", *map(str, words)]
        ended = subprocess.run(command, env=self.env, capture_output=True, text=True, timeout=timeout, check=False)
        assert ended.returncode == 0 or not check, f"{' '.join(command)}\n{ended.stdout}\n{ended.stderr}"
        return ended

    @contextmanager
    def socket(self) -> Iterator[str]:
        """Give the address of podman's Docker-compatible socket while it is served."""
        path = self.folder / "podman.sock"
        command = ["podman", "system", "service", "--time=0", f"unix://{path}"]
        service = subprocess.Popen(command, env=self.env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            deadline = time.monotonic() + 60
            while not path.exists():
                assert service.poll() is None and time.monotonic() < deadline, "podman serves no socket"
                time.sleep(0.05)
            yield f"unix://{path}"
        finally:
            service.terminate()
            service.wait(timeout=30)


def start() -> Podman:
    """Make podman's settings; skips the test where podman can't run."""
    if lacks := missing():
        pytest.skip(f"containers: {lacks}")
    # A socket's path may have about a hundred characters, so not under pytest's own folder.
    folder = Path(tempfile.mkdtemp(prefix="carryover-podman-"))
    (folder / "containers.conf").write_text(SETTINGS)
    podman = Podman(folder, env={**os.environ, "CONTAINERS_CONF": str(folder / "containers.conf")})
    podman("run", "--rm", base(podman), "true")
    return podman


def base(podman: Podman) -> str:
    """Return a small Debian with Python, made by debootstrap unless one is there."""
    if podman("image", "exists", BASE, check=False).returncode == 0:
        return BASE
    with tempfile.TemporaryDirectory(prefix="carryover-base-") as folder:
        packages = "--include=python3,python3-venv,ca-certificates"
        # (From debootstrap's own default, Debian's mirrors.)
        command = ["debootstrap", "--variant=minbase", packages, "bookworm", f"{folder}/root"]
        made = subprocess.run(command, capture_output=True, text=True, timeout=900, check=False)
        if made.returncode:
            pytest.skip(f"containers: debootstrap failed: {made.stdout.strip().splitlines()[-1:]}")
        for name in ("var/cache/apt", "var/lib/apt/lists", "usr/share/doc", "usr/share/man", "usr/share/locale"):
            shutil.rmtree(f"{folder}/root/{name}", ignore_errors=True)
        subprocess.run(["tar", "-C", f"{folder}/root", "-cf", f"{folder}/base.tar", "."], check=True)
        podman("import", f"{folder}/base.tar", BASE)
    return BASE


def build_cpu(podman: Podman, *, secrets: Mapping[str, str], tried: bool = True) -> str:
    """Build the target cpu of this tree, with the machine's own cache of uv, and return its name."""
    cache = Path(os.environ.get("UV_CACHE_DIR", "") or Path.home() / ".cache" / "uv")
    cache.mkdir(parents=True, exist_ok=True)
    settings = build_images.Build(base_image=BASE, tag="test", secrets=secrets, cache=str(cache), options=["--quiet"])
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CONTAINERS_CONF", podman.env["CONTAINERS_CONF"])
        (image,) = build_images.build_all(["cpu"], "podman", settings, tried=tried)
    return image


def containers_of(client: Any, folder: Path) -> list[Any]:
    """Return the living containers that have something in `folder` mounted."""
    found = client.containers.list()
    return [one for one in found if any(mount["Source"].startswith(str(folder)) for mount in one.attrs["Mounts"])]
