"""Owns the words of docs/performance.md that no measurement writes: titles, what is measured, what stays true."""

from dataclasses import dataclass

HEAD = """\
# Performance

Written by `make bench` from `benchmarks/results/`. Programs are run in turn, so that a busy minute slows all of them; a
figure is the median of the repeats, with the lowest and the highest. Ratios of one run travel to other machines, CPU
seconds nearly so, absolute times do not. Each goal stands beside its floor, which no program can beat.

<!-- not run: hours of measurements, on a quiet machine -->
```sh
make bench                    # all topics, then this page; installs the other programs under build/peers
make bench-quick              # the same in less time, to see that all of it works: build/bench/performance.md
python -m benchmarks.page     # this page alone
```
"""

# The goals, for rows that nothing was measured of yet.
ROWS = {
    "a": "CPU of the loop over a bare one; samples/s",
    "b": "what a save costs the loop, in copies of the state",
    "c": "bytes written over bytes that changed",
    "d": "throughput of the object store over a raw client",
    "e": "process start to the first new step after a resume",
    "f": "work lost by a SIGKILL",
    "g": "first batch in the middle of an epoch over the first of it",
    "h": "disk held while training, over the state",
    "i": "peak memory over the bare loop",
}


@dataclass(frozen=True)
class Topic:
    """A section of the page: its title, and what is measured there."""

    title: str
    text: str


TOPICS = {
    "step": Topic(
        "The loop",
        "What a step costs beyond the bare loop of a tutorial: same network, optimizer and batches, and nothing else.",
    ),
    "trainers": Topic(
        "Whole trainings",
        "One job in every program: MiniLM learns two classes of short texts, batch 16, with a validation and a\n"
        "checkpoint of weights and optimizer every 15 steps, the best and the last one kept. The clock is the same in\n"
        "all: behind the optimizer's step, from the 16th to the 61st, so that three validations and checkpoints are\n"
        "in it; CPU is that of all processes. *loop alone* has neither; *bare* has a tutorial's `torch.save`.",
    ),
    "stall": Topic(
        "Saves",
        "How long the loop waits for a save and how much slower the steps beside it are, in units of one copy of the\n"
        "state into memory that is there already; what a kill loses at the interval that follows; peak memory.\n"
        "Tensors that did not change are not written: what is frozen costs one write a run.",
    ),
    "bytes": Topic("Bytes", "What is written for what changed, and what a run holds on the disk while it trains."),
    "throughput": Topic(
        "Object store", "PUT and GET of the state of a model against a raw client with the same connections."
    ),
    "resume": Topic(
        "Start and resume",
        "From the start of the process to the first new optimizer step. A step that has nothing to do (the run is\n"
        "finished, nothing is new, the input is wrong) ends before torch is loaded.",
    ),
    "position": Topic(
        "Position in the data",
        "Time to the first batch at the middle of an epoch over that at its start. The order of an epoch is computed\n"
        "and not stored, so that any position of any epoch is there at once (`tests/train/test_order.py`).",
    ),
    "scale": Topic("Scale", "Requests and bytes counted, at long histories and at several ranks."),
}

REST = """\
## What the end of a pod costs

<!-- not run: it needs podman and root -->
```sh
python -m benchmarks.pod_life --image carryover:v0.1.0-cpu --ends 2
```

| the end | work lost after the last commit | final weights |
| --- | --- | --- |
| Kubeflow Pipelines: SIGTERM, SIGKILL a second later | 0.0 s (a large model would need longer) | the same bits |
| Argo, a TrainJob: SIGTERM, up to 120 s | 0.0 s | the same bits |
| a lost node: SIGKILL | 1.5 s, with a commit every 3 s | the same bits |

The whole table is in [On a cluster](cluster.md#what-is-lost-measured).

## Memory of preparing and reading

| what | held by |
| --- | --- |
| `prepare-data` of a table eight times as large needs no more memory | `tests/slow/test_flat_memory.py` |
| COCO's annotations are read item by item: 400,000 boxes with polygons, 235 MiB, in 80 MiB | measured once |
| opening 201 MB of weights raises the peak by 211 to 226 MB | measured once |

## Images

The CUDA image has 5.9 GB, most of it torch's libraries; after a change of the project one layer of 6 MB is built anew,
in about 12 s.
"""
