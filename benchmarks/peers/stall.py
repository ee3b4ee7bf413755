# pyright: reportMissingImports=false
"""A loop that saves, under one program: `stall.py PROGRAM FOLDER SAVES`, one JSON line of what a save cost it.

The state is that of ViT-S/16 with AdamW (608 tensors, 260 MB), at few tokens, so that a step is short beside it. Units:
one copy of the state into memory that is there already (`memcpy_s`), by one thread, in this very process.

    quiet steps   save   steps beside it until all is written ........   quiet steps   save ...
    blocked_s     how long the loop stood still in the save, and where it waits for a copy
    longer_s      that, and how much longer the steps beside it took than the quiet ones
    main_cpu_s    CPU of this process over that time, less what its main thread used in the steps: the save's own
    slower_cpu_s  CPU that the steps took more than quiet ones: memory that is shared with whoever writes, no work
"""

import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

QUIET, BETWEEN = 12, 4
# Has a function called right before each update.
Hook = Callable[[Callable[[], None]], None]


class Saves(Protocol):
    """What a program does: `save` begins one, `busy` asks for its end, `before_update` waits for copies."""

    def save(self, step: int) -> None: ...
    def before_update(self) -> None: ...
    def busy(self) -> bool: ...
    def close(self) -> None: ...


class Network(nn.Module):
    """The weights of ViT-S/16 over few tokens."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.patches = nn.Conv2d(3, 384, 16, 16)
        self.place = nn.Parameter(torch.zeros(1, 197, 384))
        layer = nn.TransformerEncoderLayer(384, 6, 1536, 0.0, "gelu", batch_first=True, norm_first=True)
        self.blocks = nn.TransformerEncoder(layer, 12, nn.LayerNorm(384), enable_nested_tensor=False)
        self.head = nn.Linear(384, 10)

    def forward(self, pictures: Tensor) -> Tensor:
        tokens = self.patches(pictures).flatten(2).transpose(1, 2)
        return self.head(self.blocks(tokens + self.place[:, : tokens.shape[1]]).mean(1))


class Bare:
    """The loop alone: network, optimizer, one step after the other."""

    def __init__(self) -> None:
        self.network = Network()
        self.optimizer = torch.optim.AdamW(self.network.parameters(), lr=1e-4)
        self.pictures = torch.randn(1, 3, 96, 96)
        self.before_update: Callable[[], None] = lambda: None

    def step(self) -> None:
        """Do one."""
        self.optimizer.zero_grad(set_to_none=True)
        self.network(self.pictures).sum().backward()
        self.before_update()
        self.optimizer.step()

    def state(self) -> dict[str, Any]:
        """Return all that a checkpoint holds."""
        return {"model": self.network.state_dict(), "optimizer": self.optimizer.state_dict()}


def tensors(state: Any) -> list[Tensor]:
    """Return the tensors of a nested state."""
    if isinstance(state, Tensor):
        return [state]
    values = state.values() if isinstance(state, dict) else state if isinstance(state, (list, tuple)) else ()
    return [tensor for value in values for tensor in tensors(value)]


class Plain:
    """torch.save, to a disk or by fsspec."""

    def __init__(self, loop: Bare, folder: str) -> None:
        self.loop, self.folder = loop, folder

    def save(self, step: int) -> None:
        import fsspec

        with fsspec.open(f"{self.folder}/{step % 2}.pt", "wb") as file:
            torch.save(self.loop.state(), file)  # pyright: ignore[reportArgumentType]

    def before_update(self) -> None:
        """Nothing is on its way."""

    def busy(self) -> bool:
        return False

    def close(self) -> None:
        """Nothing is held."""


class Distributed(Plain):
    """torch.distributed.checkpoint, as its documentation has it."""

    def save(self, step: int) -> None:
        from torch.distributed.checkpoint.state_dict_saver import save

        save(self.loop.state(), storage_writer=self._writer(step), no_dist=True)

    def _writer(self, step: int) -> Any:
        place = f"{self.folder}/{step}"
        if "://" in place:
            from torch.distributed.checkpoint._fsspec_filesystem import FsspecWriter

            return FsspecWriter(place)
        from torch.distributed.checkpoint.filesystem import FileSystemWriter

        return FileSystemWriter(place)


class DistributedBehind(Distributed):
    """Its async_save, in a thread of the training's process."""

    def __init__(self, loop: Bare, folder: str) -> None:
        super().__init__(loop, folder)
        self.on_its_way: Any = None

    def save(self, step: int) -> None:
        import torch.distributed.checkpoint as dcp

        self.on_its_way = dcp.state_dict_saver.async_save(
            self.loop.state(), storage_writer=self._writer(step), no_dist=True
        )

    def busy(self) -> bool:
        return not self.on_its_way.done()


class Reused(DistributedBehind):
    """torch_checkpointing: staged beside the step into shared memory, written by a process of its own."""

    def __init__(self, loop: Bare, folder: str) -> None:
        import torch_checkpointing as tc
        from torch_checkpointing.storage.filesystem import LocalFileSystemStorageConfig

        super().__init__(loop, folder)
        config = tc.AsyncCheckpointSaverConfig()
        # Half a minute is too short where the machine has other things to do.
        config.process_config.subprocess_init_timeout_secs = 300
        # Its direct writes fail on ext4, in the last block of a file.
        disk = LocalFileSystemStorageConfig(use_direct_io=False)
        self.saver = tc.make_async_checkpoint_saver(config, storage_config=disk)
        self.staged: Any = None

    def save(self, step: int) -> None:
        import torch_checkpointing as tc

        items = {name: tc.CheckpointItem(value=value) for name, value in self.loop.state().items()}
        self.staged, self.on_its_way = self.saver.save(f"{self.folder}/{step}", _checkpoint(items))

    def before_update(self) -> None:
        if self.staged is not None:
            self.staged.result()
            self.staged = None

    def close(self) -> None:
        self.saver.close()


def _checkpoint(items: dict[str, Any]) -> Any:
    import torch_checkpointing as tc

    class Items(tc.CheckpointBase):
        def get_items(self, *_: Any, **__: Any) -> dict[str, Any]:
            return items

        def load_state_dict(self, *_: Any, **__: Any) -> None:
            raise NotImplementedError  # its base class asks for it, and nothing is loaded here

    return Items()


class Snapshot(DistributedBehind):
    """torchsnapshot's async_take."""

    def save(self, step: int) -> None:
        import torchsnapshot

        app = {"model": self.loop.network, "optimizer": self.loop.optimizer}
        self.on_its_way = torchsnapshot.Snapshot.async_take(f"{self.folder}/{step}", app)


PROGRAMS: dict[str, Callable[[Bare, str], Saves]] = {
    "torch.save": Plain,
    "DCP save": Distributed,
    "DCP async": DistributedBehind,
    "torch_checkpointing": Reused,
    "torchsnapshot": Snapshot,
}


def memcpy(state: list[Tensor]) -> tuple[float, float]:
    """Return wall and CPU seconds of one copy of the state into memory that is there, the median of several."""
    there, wall, cpu = [torch.empty_like(tensor) for tensor in state], [], []
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    for _ in range(8):
        began, used = time.perf_counter(), time.process_time()
        torch._foreach_copy_(there, [tensor.detach() for tensor in state])  # pyright: ignore[reportPrivateImportUsage]
        wall.append(time.perf_counter() - began)
        cpu.append(time.process_time() - used)
    torch.set_num_threads(threads)
    return statistics.median(wall[1:]), statistics.median(cpu[1:])


def measure(step: Callable[[], None], saves: Saves, hook: Hook, count: int) -> dict[str, float]:
    """Run the loop, saving `count` times after one save that does not count; returns medians over the saves."""
    waited = [0.0, 0.0]

    def before_update() -> None:
        began, used = time.perf_counter(), time.thread_time()
        saves.before_update()
        waited[0] += time.perf_counter() - began
        waited[1] += time.thread_time() - used

    quiet: list[tuple[float, float]] = []

    def timed() -> tuple[float, float]:
        began, used = time.perf_counter(), time.thread_time()
        step()
        return time.perf_counter() - began, time.thread_time() - used

    def steps(number: int) -> None:
        quiet.extend(timed() for _ in range(number))

    found: list[tuple[float, ...]] = []
    hook(before_update)
    steps(3)
    quiet.clear()
    steps(QUIET)
    for number in range(count + 1):
        usual, usual_cpu = (statistics.median(values[-2 * QUIET :]) for values in map(list, zip(*quiet, strict=True)))
        waited[:], beside, in_steps = (0.0, 0.0), 0, 0.0
        began, used = time.perf_counter(), time.process_time()
        saves.save(number)
        blocked = time.perf_counter() - began
        while beside < 2 or saves.busy():
            in_steps += timed()[1]
            beside += 1
        longer = time.perf_counter() - began - beside * usual
        in_steps -= waited[1]
        own = time.process_time() - used - in_steps
        found.append((blocked + waited[0], longer, own, in_steps - beside * usual_cpu, time.perf_counter() - began))
        steps(BETWEEN)
    saves.close()
    names = ("blocked_s", "longer_s", "main_cpu_s", "slower_cpu_s", "until_written_s")
    counted = zip(*found[1:], strict=True)
    medians = {name: statistics.median(values) for name, values in zip(names, counted, strict=True)}
    return {"step_s": statistics.median(wall for wall, _ in quiet), **medians}


def told(step: Callable[[], None], saves: Saves, hook: Hook, state: Callable[[], list[Tensor]], count: int) -> None:
    """Measure, and print the line: seconds, and as many copies of the state."""
    figures = measure(step, saves, hook, count)
    wall, cpu = memcpy(state())
    units = {
        "blocked": figures["blocked_s"] / wall,
        "longer": figures["longer_s"] / wall,
        "main_cpu": figures["main_cpu_s"] / cpu,
    }
    size = sum(tensor.numel() * tensor.element_size() for tensor in state())
    print(json.dumps({**figures, **units, "memcpy_s": wall, "memcpy_cpu_s": cpu, "state_bytes": size}), flush=True)


def main() -> None:
    """Run one program."""
    program, folder, count = sys.argv[1:]
    if "://" not in folder:
        Path(folder).mkdir(parents=True, exist_ok=True)
    loop = Bare()
    for _ in range(2):
        loop.step()

    def hook(before_update: Callable[[], None]) -> None:
        loop.before_update = before_update

    told(loop.step, PROGRAMS[program](loop, folder), hook, lambda: tensors(loop.state()), int(count))


if __name__ == "__main__":
    main()
