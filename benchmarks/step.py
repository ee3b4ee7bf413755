"""What a training step costs beside the loop of a PyTorch tutorial: `python -m benchmarks.step [--quick]`.

    tiny        two layers, 16 rows: nothing but the loop is left     us of the thread's CPU a step, over a bare loop's
    models      MiniLM (its real weights), ViT-S (random ones)        samples a second, ours over bare
                plain; compiled; with validations and checkpoints; a validation alone

Bare is: for each batch in memory: zero_grad, forward, mean loss, backward, step. No schedule, no clipping, no logging,
no count of anything. Ours is `train.loop.train` with the real engine, reporter and saver: counters, seeds, a rate by
its curve, the newest step in a file, stops and saves asked for; a save is due only where the arm says so. Both have the
same network, batches, groups of parameters and AdamW. Other programs stand beside a bare loop with AdamW as they make
it (benchmarks/peers/step_cost.py).
"""

import argparse
from collections.abc import Iterator
from functools import partial
from threading import Semaphore, Thread

import torch
from torch.nn.functional import cross_entropy

from benchmarks.arms import Arm, Figures, Goal, interleaved, spread, write
from benchmarks.peers import step_cost
from benchmarks.peers.programs import Absent, python_of, run_in, versions
from benchmarks.step_models import (
    CONFIG,
    DEVICE,
    PRECISION,
    Encoded,
    Model,
    Seen,
    busy_figures,
    check_figures,
    images,
    model_figures,
    one_batch,
    ours,
    texts,
)
from carryover.train.optim import build_optimizer

TINY_PEERS = {"accelerate": "trainer", "ignite": "ignite", "lightning": "lightning", "trainer": "trainer"}
TURN = 16


def tiny_ours(network: step_cost.Tiny, batches: step_cost.Batches) -> None:
    """One feature, read as it is; the list of batches is ready before the clock starts."""
    ready = [one_batch(inputs, targets) for inputs, targets in batches.kept]
    steps = (ready[number & 63] for number, _ in enumerate(batches))
    ours(network, steps, len(batches), loss=partial(cross_entropy, reduction="none"))


def tiny_bare(network: step_cost.Tiny, batches: step_cost.Batches) -> None:
    """As step_cost's, with our groups of parameters."""
    optimizer = build_optimizer(network, CONFIG)
    network.train()
    for inputs, targets in batches:
        optimizer.zero_grad()
        loss = cross_entropy(network(inputs), targets)
        loss.backward()
        optimizer.step()


class Turns(step_cost.Batches):
    """Batches that two threads are given by turns, a few to each: whatever else the machine does, it does to both."""

    def __init__(self, length: int, mine: Semaphore, others: Semaphore) -> None:
        super().__init__(length)
        self.mine, self.others = mine, others

    def __iter__(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        try:
            for number, batch in enumerate(super().__iter__()):
                if number % TURN == 0:
                    if number:
                        self.others.release()
                    self.mine.acquire()
                yield batch
        finally:
            self.others.release(self.length)


def tiny_pair(steps: int) -> dict[str, float]:
    """Ours and bare, side by side."""
    ready, waiting = Semaphore(1), Semaphore(0)
    networks = [step_cost.Tiny(steps // 10, steps + steps // 10) for _ in range(2)]
    length = steps + steps // 10 + 1
    # The first optimizer of a process imports the compiler: not beside the other's clock.
    build_optimizer(networks[0], CONFIG)
    beside = Thread(target=tiny_bare, args=(networks[0], Turns(length, waiting, ready)))
    beside.start()
    tiny_ours(networks[1], Turns(length, ready, waiting))
    # It may have ended before its batches did, and these go when they are collected: the other need not wait for that.
    waiting.release(length)
    beside.join()
    bare, mine = (network.us_a_step for network in networks)
    return {"bare_us": bare, "us": mine, "over_us": mine - bare}


def tiny_peer(program: str, steps: int) -> dict[str, float]:
    """The same of another program, in its own environment."""
    found = run_in(TINY_PEERS[program], "step_cost", [program, "--steps", steps, "--rounds", 1]).line()
    return {name: values[0] for name, values in found.items()}


def tiny_figures(*, quick: bool) -> tuple[Figures, list[Goal], dict[str, str]]:
    """The tiny network in all programs."""
    steps = 300 if quick else 1500
    arms, reasons = [Arm("tiny / carryover", lambda: tiny_pair(steps))], {}
    found = versions(*sorted(set(TINY_PEERS.values())))
    for program, environment in TINY_PEERS.items():
        try:
            python_of(environment)
        except Absent as why:
            reasons[program] = str(why)
        else:
            arms.append(Arm(f"tiny / {program}", lambda program=program: tiny_peer(program, steps)))
    figures = interleaved(arms, repeats=3 if quick else 9)
    over = spread(figures["tiny / carryover"]["over_us"])
    others = {arm.name: spread(figures[arm.name]["over_us"]).median for arm in arms[1:]}
    best = min(others, key=others.__getitem__, default="")
    goal = Goal(
        row="a",
        what="CPU of the thread a step over a bare loop, tiny model, us",
        ours=over.median,
        low=over.low,
        high=over.high,
        floor=0.1,
        reach="<= 5 us",
        why="a seed, a rate, counters, a sum of losses, the newest step in a file, and what is due",
        peer=f"{best.partition(' / ')[2]}: {others[best]:.0f}" if best else "",
    )
    return figures, [goal], {**found, **reasons}


def main() -> None:
    """Measures all and writes benchmarks/results/step.json."""
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    flags.add_argument("--quick", action="store_true", help="few repeats, no compiled network: minutes")
    quick = flags.parse_args().quick
    torch.set_num_threads(1)
    text = Model("MiniLM", Encoded, texts, 16 if DEVICE.type == "cpu" else 128, 2 if quick else 6)
    image = Model("ViT-S", Seen, images, 4 if DEVICE.type == "cpu" else 64, 2 if quick else 4)
    models = [text, image]
    if not quick:
        models.append(Model("MiniLM, compiled", Encoded, texts, text.size, text.steps, compiled=True))
    repeats, every = (2, 2) if quick else (5, 8)
    figures, goals, peers = tiny_figures(quick=quick)
    parts = [
        model_figures(models, repeats=repeats),
        busy_figures(Model("MiniLM", Encoded, texts, text.size, 3 * every), every=every, repeats=2 if quick else 3),
        check_figures(text, repeats=repeats),
    ]
    for more, wanted in parts:
        figures |= more
        goals += wanted
    notes = [
        "Ours tells its newest numbers every half second by the clock: where others wait for the cores, that is more "
        "often a step.",
        "Bare: zero_grad, forward, mean loss, backward, step on batches in memory, and nothing else; one thread.",
        f"Models on {DEVICE.type}, {PRECISION}: MiniLM, {text.size} rows of 64 tokens; ViT-S, {image.size} images.",
    ]
    if DEVICE.type == "cpu":
        notes.append("No GPU was at hand; the same command measures on one in bf16 where there is one.")
    write("step", "python -m benchmarks.step", figures, goals, notes, peers)


if __name__ == "__main__":
    main()
