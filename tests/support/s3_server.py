"""A real S3 server for tests: Ceph's RADOS gateway on loopback, and moto's server where Ceph cannot be installed.

A third kind, rclone's server, overwrites whatever a request says: it is there to be refused.

    ceph-mon  (cluster map)  <-  ceph-osd (memstore: objects in RAM)  <-  radosgw (S3 over HTTP)

One monitor, one OSD and one gateway are up in about a second as any user, with their files under one short folder.
Ceph is preferred because people run it, with its own idea of conditional writes, listings and errors.
"""

import ctypes
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import boto3

ACCESS_KEY, SECRET_KEY, REGION, BUCKET = "testkey", "testsecret", "us-east-1", "carryover-tests"
CEPH_PROGRAMS = ("ceph", "ceph-mon", "ceph-osd", "monmaptool", "radosgw", "radosgw-admin")
CEPH_CONF = """\
[global]
fsid = {fsid}
mon host = v2:127.0.0.1:{mon_port}
public addr = 127.0.0.1
public network = 127.0.0.0/8
ms bind ipv6 = false
ms bind msgr1 = false
# without crc mode radosgw insists on an encrypted monitor session and hangs, as there are no keys
ms mon client mode = crc
auth cluster required = none
auth service required = none
auth client required = none
run dir = {folder}
# a socket path may have 108 characters only, and nobody asks these daemons anything
admin socket =
pid file =
log file = {folder}/$name.log
mon cluster log file = {folder}/cluster.log
crash dir = {folder}
osd objectstore = memstore
memstore device bytes = 4294967296
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 1
osd pool default pg autoscale mode = off
osd crush chooseleaf type = 0
osd class load list = *
osd class default list = *
mon allow pool size one = true
mon max pg per osd = 2000
mon data avail warn = 1
mon data avail crit = 1
# one monitor has nobody to agree with: no need to wait for others
paxos propose interval = 0.02
paxos min wait = 0.01
[mon.a]
mon data = {folder}/mon
[osd.0]
osd data = {folder}/osd
[client.rgw.a]
rgw data = {folder}/rgw
rgw frontends = beast endpoint=127.0.0.1:{port}
rgw enable apis = s3
rgw relaxed region enforcement = true
"""


@dataclass(frozen=True)
class S3Server:
    """A running server; `kind` says which one, `processes` are the ones this module started and will stop."""

    kind: str
    endpoint: str
    folder: Path
    processes: tuple[subprocess.Popen[bytes], ...]

    @property
    def env(self) -> dict[str, str]:
        """The variables with which any S3 client finds the server."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": ACCESS_KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
            "AWS_DEFAULT_REGION": REGION,
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def stop(self) -> None:
        """Ends the daemons, gateway first, and removes their files."""
        for process in reversed(self.processes):
            process.kill()
            process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)


def start(kind: str = "") -> S3Server:
    """Starts `ceph`, `moto` or `rclone` (empty: Ceph where it is installed, else moto) with one empty `BUCKET`."""
    kind = kind or ("ceph" if all(shutil.which(program) for program in CEPH_PROGRAMS) else "moto")
    folder = Path(tempfile.mkdtemp(prefix="s3-"))
    started: list[subprocess.Popen[bytes]] = []
    try:
        port = free_port()
        starters: dict[str, Callable[[Path, int, list[subprocess.Popen[bytes]]], None]]
        starters = {"ceph": _start_ceph, "moto": _start_moto, "rclone": _start_rclone}
        starters[kind](folder, port, started)
        server = S3Server(kind, f"http://127.0.0.1:{port}", folder, tuple(started))
        boto3.client(
            "s3",
            endpoint_url=server.endpoint,
            aws_access_key_id=ACCESS_KEY,
            aws_secret_access_key=SECRET_KEY,
            region_name=REGION,
        ).create_bucket(Bucket=BUCKET)
    except BaseException:
        S3Server(kind, "", folder, tuple(started)).stop()
        raise
    return server


def free_port() -> int:
    """A TCP port on loopback that nobody listens on now."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def _start_moto(folder: Path, port: int, started: list[subprocess.Popen[bytes]]) -> None:
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    started.append(_daemon(command, folder, dict(os.environ)))
    _until(lambda: _answers(port), "moto's server", folder, started)


def _start_rclone(folder: Path, port: int, started: list[subprocess.Popen[bytes]]) -> None:
    (folder / "buckets").mkdir()
    program = Path(sys.executable).with_name("rclone")
    command = [str(program), "serve", "s3", str(folder / "buckets"), "--config", str(folder / "none.conf")]
    command += ["--addr", f"127.0.0.1:{port}", "--auth-key", f"{ACCESS_KEY},{SECRET_KEY}"]
    started.append(_daemon(command, folder, dict(os.environ)))
    _until(lambda: _answers(port), "rclone's server", folder, started)


def _start_ceph(folder: Path, port: int, started: list[subprocess.Popen[bytes]]) -> None:
    fsid, osd_id, mon_port = str(uuid.uuid4()), str(uuid.uuid4()), free_port()
    for name in ("mon", "osd", "rgw"):
        (folder / name).mkdir()
    conf = folder / "ceph.conf"
    conf.write_text(CEPH_CONF.format(fsid=fsid, mon_port=mon_port, port=port, folder=folder))
    env = {**os.environ, "CEPH_CONF": str(conf), "CEPH_ARGS": ""}

    def ask(*command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(command, env=env, capture_output=True, text=True, timeout=30, check=False)

    def must(*command: str) -> None:
        answer = ask(*command)
        if answer.returncode:
            raise RuntimeError(f"{' '.join(command)}: {answer.stderr}")

    monmap = str(folder / "monmap")
    must("monmaptool", "--create", "--fsid", fsid, "--addv", "a", f"[v2:127.0.0.1:{mon_port}]", monmap)
    must("ceph-mon", "-i", "a", "--mkfs", "--monmap", monmap)
    started.append(_daemon(["ceph-mon", "-i", "a", "-f"], folder, env))
    ceph = ("ceph", "--connect-timeout", "3")
    _until(lambda: ask(*ceph, "osd", "new", osd_id, "0").returncode == 0, "ceph-mon", folder, started)
    must("ceph-osd", "-i", "0", "--mkfs", "--osd-uuid", osd_id)
    started.append(_daemon(["ceph-osd", "-i", "0", "-f"], folder, env))
    _until(lambda: "1 up" in ask(*ceph, "osd", "stat").stdout, "ceph-osd", folder, started)
    started.append(_daemon(["radosgw", "-n", "client.rgw.a", "-f"], folder, env))
    _until(lambda: _answers(port), "radosgw", folder, started)
    keys = ("--access-key", ACCESS_KEY, "--secret-key", SECRET_KEY)
    must("radosgw-admin", "user", "create", "--uid", "tests", "--display-name", "tests", *keys)


def _daemon(command: Sequence[str], folder: Path, env: Mapping[str, str]) -> subprocess.Popen[bytes]:
    with (folder / f"{Path(command[0]).name}.out").open("ab") as output:
        return subprocess.Popen(
            command,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            preexec_fn=_die_with_parent,
        )


def _die_with_parent() -> None:
    """A test run that is itself killed leaves no server behind (Linux only)."""
    if sys.platform == "linux":
        pr_set_pdeathsig = 1
        ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGKILL)


def _answers(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=2):
            return True
    except urllib.error.HTTPError:
        return True  # "access denied" is an answer
    except OSError:
        return False


def _until(ready: Callable[[], bool], what: str, folder: Path, started: Sequence[subprocess.Popen[bytes]]) -> None:
    deadline = time.monotonic() + 60
    while not ready():
        dead = [process for process in started if process.poll() is not None]
        if dead or time.monotonic() > deadline:
            said = "\n".join(f"{path.name}: {path.read_text()[-1000:]}" for path in sorted(folder.glob("*.out")))
            raise RuntimeError(f"{what} did not come up: {'it ended' if dead else 'no answer in 60 s'}\n{said}")
        time.sleep(0.05)
