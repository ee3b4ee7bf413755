"""The floor of benchmarks/stall.py: `python -m benchmarks.stall_floor raw FOLDER SAVES`.

Another process writes as many bytes as the state has, from memory that it holds already: past the page cache on a disk,
with a raw threaded client to S3. Nothing is copied, hashed or recorded; what the steps beside it take more is what the
machine asks of any program that stores so many bytes.
"""

import mmap
import os
import subprocess
import sys
import uuid
from urllib.parse import urlsplit

import torch

from benchmarks.peers.stall import Bare, told
from benchmarks.peers.stall import tensors as tensors_of

_BLOCK, _PIECE = 4096, 4 << 20
NICE = 10


class Raw:
    """The other process, in the words of peers/stall.py."""

    def __init__(self, folder: str, size: int) -> None:
        words = [sys.executable, "-m", "benchmarks.stall_floor", "writer", folder, str(size)]
        self.process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self.process.stdin and self.process.stdout
        self.asks, self.answers = self.process.stdin, self.process.stdout
        self.answers.readline()
        os.set_blocking(self.answers.fileno(), False)
        self.written = True

    def save(self, step: int) -> None:
        """Have it write once."""
        self.written = False
        self.asks.write(b"\n")
        self.asks.flush()

    def before_update(self) -> None:
        """Nothing is copied."""

    def busy(self) -> bool:
        """Tell whether it still writes."""
        if self.process.poll() is not None:
            raise RuntimeError(f"the writer ended with exit code {self.process.returncode}")
        self.written = self.written or bool(self.answers.readline())
        return not self.written

    def close(self) -> None:
        """Let it go."""
        self.asks.close()
        self.process.wait()


def writer(folder: str, size: int) -> None:
    """Write, once for each line that comes; nice as the project's own writing process is."""
    os.nice(NICE)
    memory = mmap.mmap(-1, -(-size // _BLOCK) * _BLOCK)
    for start in range(0, len(memory), _BLOCK):
        memory[start] = 1
    put = _remote(folder) if "://" in folder else _local(folder)
    print("ready", flush=True)
    for _ in sys.stdin:
        put(memoryview(memory))
        print("written", flush=True)


def _local(folder: str):
    os.makedirs(folder, exist_ok=True)

    def put(data: memoryview) -> None:
        path = f"{folder}/{uuid.uuid4().hex}"
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_DIRECT)
        for start in range(0, len(data), _PIECE):
            os.write(file, data[start : start + _PIECE])
        os.fsync(file)
        os.close(file)
        os.unlink(path)

    return put


def _remote(folder: str):
    from benchmarks.throughput import Raw as Client

    client, key = Client(os.environ["AWS_ENDPOINT_URL"]), urlsplit(folder).path.strip("/")
    return lambda data: client.put(f"{key}/raw", data)


def main() -> None:
    """Run the loop, or the process beside it."""
    what, folder, number = sys.argv[1:]
    if what == "writer":
        return writer(folder, int(number))
    torch.set_num_threads(1)
    loop = Bare()
    for _ in range(2):
        loop.step()
    size = sum(tensor.numel() * tensor.element_size() for tensor in tensors_of(loop.state()))

    def hook(before_update: object) -> None:
        """Nothing waits before an update."""

    told(loop.step, Raw(folder, size), hook, lambda: tensors_of(loop.state()), int(number))


if __name__ == "__main__":
    main()
