"""What a run asks of its store, counted: `python -m benchmarks.scale [--quick]`.

    histories    10, 1,000 and 100,000 records, on a disk and on S3: what a start, a restore, a save and an end ask
    readers      the same histories: what the curve, `checkpoint ls` and a look for near twins ask
    ranks        whole trainings by `carryover train-ddp` to S3 with 1, 2 and 4 ranks: a first start, and a resume

On a disk a call is a word of the store (`ground.storage`); on S3 a request that came in at a proxy before the server.
Nothing is timed; a busy machine only has more heartbeats in whole trainings, two requests each 5 seconds.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, cast

import obstore
from obstore.store import S3Store

from benchmarks.arms import Arm, Figures, interleaved, write
from carryover.checkpoint.home import RunHome
from carryover.ground.digests import canonical, digest
from carryover.ground.storage import Store, open_store
from carryover.report.attempts import read_attempts
from carryover.report.curve import read_curve
from carryover.train import recipe as recipes
from carryover.train.twins import near_twins
from tests.support import s3_server
from tests.support.counting import Counted, CountingProxy, Tally
from tests.support.histories import lives, planted
from tests.train.attempts import dataset

RECORDS = (10, 1_000, 100_000)
RUNS = (10, 1_000)
RANKS = (1, 2, 4)


def main() -> None:
    """Count all of it and write results/scale.json."""
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    flags.add_argument("--quick", action="store_true", help="no history of 100,000 records, and no whole trainings")
    asked = flags.parse_args()
    records, ranks = (RECORDS[:2], ()) if asked.quick else (RECORDS, RANKS)
    server = s3_server.start()
    os.environ.update(server.env)
    try:
        with CountingProxy(server.endpoint) as proxy, tempfile.TemporaryDirectory(prefix="scale-") as folder:
            os.environ["AWS_ENDPOINT_URL"] = proxy.url
            figures = _histories(Path(folder), records, server, proxy)
            figures |= _twins(proxy) | _trainings(Path(folder), ranks, proxy)
    finally:
        server.stop()
    write(
        "scale",
        "python -m benchmarks.scale",
        figures,
        (),
        notes=(f"counted, not timed: calls of the store on a disk, requests that {server.kind} was asked on S3",),
    )


def _histories(folder: Path, records: tuple[int, ...], server: s3_server.S3Server, proxy: CountingProxy) -> Figures:
    figures: Figures = {}
    for count in records:
        here = RunHome.open(open_store(str(folder / str(count))), "run")
        here.start({"recipe": {}})
        planted(here, count)
        _tell(figures, "disk", count, _disk(here))
        home = RunHome.open(open_store(f"s3://{s3_server.BUCKET}/{count}-{time.time_ns()}"), "run")
        home.start({"recipe": {}})
        planted(home, count, put=_straight(server))
        _tell(figures, "S3", count, _life(home, proxy.tally))
    return figures


def _straight(server: s3_server.S3Server) -> Callable[[Store, Mapping[str, bytes]], None]:
    """Return what puts many small files, past the proxy."""
    options = {"region": s3_server.REGION, "virtual_hosted_style_request": False}
    keys = {"access_key_id": s3_server.ACCESS_KEY, "secret_access_key": s3_server.SECRET_KEY}
    bucket = S3Store(s3_server.BUCKET, endpoint=server.endpoint, client_options={"allow_http": True}, **keys, **options)

    def put(store: Store, files: Mapping[str, bytes]) -> None:
        below = store.at("").removeprefix(f"s3://{s3_server.BUCKET}/")
        with ThreadPoolExecutor(16) as pool:
            list(pool.map(lambda name: obstore.put(bucket, f"{below}/{name}", files[name]), files))

    return put


def _disk(home: RunHome) -> dict[str, Tally]:
    store = Counted(home.store)
    return _life(RunHome(cast(Store, store)), store.tally)


def _life(home: RunHome, tally: Tally) -> dict[str, Tally]:
    """Count what reads of a run, then one attempt that goes on with it, and the read of one more rank."""
    readers: dict[str, Callable[[], Any]] = {
        "curve": lambda: read_curve(home.store),
        "report's attempts": lambda: read_attempts(home, read_curve(home.store)),
        "checkpoint ls": lambda: (home.commits(), home.finish_records(), home.latest_claim()),
        "checkpoint ls --all": lambda: list(home.log.scan()),
    }
    if not home.store.local and home.log.head().number > RECORDS[1]:
        # 100,000 requests one after the other tell no more than 1,000 do.
        del readers["checkpoint ls --all"]
    found: dict[str, Tally] = {}
    for name, read in readers.items():
        with tally.during() as found[name]:
            read()
    return {**lives(home, tally, ranks=1), **found}


def _tell(figures: Figures, where: str, count: int, phases: Mapping[str, Tally]) -> None:
    for phase, tally in phases.items():
        name = f"{phase}, {where} / {count:,} records"
        figures[name] = {figure: [float(value)] for figure, value in _figures(tally).items()}
        print(f"{name}: {dict(tally.calls)}", flush=True)


def _figures(tally: Tally) -> Mapping[str, float]:
    kinds = {"put": 0, "get": 0, "head": 0, "list": 0, "delete": 0}
    for kind, calls in tally.calls.items():
        word = kind.partition("-")[0]
        kinds[word if word in kinds else "put"] += calls
    sent = {"up_bytes": tally.all_up, "down_bytes": tally.all_down}
    return {"calls_count": sum(kinds.values())} | {f"{kind}_count": calls for kind, calls in kinds.items()} | sent


def _twins(proxy: CountingProxy) -> Figures:
    """What the look for near twins asks of a store with many runs, as each first start of a run does."""
    figures: Figures = {}
    wanted = recipes.make({})
    for count in RUNS:
        store = open_store(f"s3://{s3_server.BUCKET}/runs-{count}-{time.time_ns()}")
        plain = {"dataset": {"digest": "other"}, "identity": {}, "parent": None, "recipe": {}}
        run = canonical({**plain, "check": digest(canonical(plain))})
        store.fs.pipe({store.at(f"runs/{number:016x}/run.json"): run for number in range(count)})
        with proxy.tally.during() as tally:
            near_twins(store, "digest", wanted)
        _tell(figures, "S3", count, {"near twins": tally})
    return {name.replace("records", "runs"): one for name, one in figures.items()}


def _trainings(folder: Path, ranks: tuple[int, ...], proxy: CountingProxy) -> Figures:
    if not ranks:
        return {}
    at = dataset(folder, count=400).at
    arms = []
    for count in ranks:
        store = f"s3://{s3_server.BUCKET}/ranks-{count}-{time.time_ns()}"
        for name, epochs in (("first start", 1), ("resume", 2)):
            arms.append(Arm(f"train-ddp, {name} / {count} ranks", _training(proxy, at, store, count, epochs)))
    return interleaved(arms, 1, warmups=0)


def _training(proxy: CountingProxy, at: str, store: str, ranks: int, epochs: int) -> Callable[[], Mapping[str, float]]:
    def run() -> Mapping[str, float]:
        keys = open_store(store).folders("runs") if epochs > 1 else []
        settings = {"optimization.max_epochs": epochs, "env.batch_size": 32, "checkpoint.every_steps": 4}
        flags = [word for name, value in settings.items() for word in ("--set", f"{name}={value}")]
        flags += [word for key in keys for word in ("--run-key", key)]
        command = [sys.executable, "-m", "carryover", "train-ddp", "--dataset", at, "--store", store, *flags]
        env = {**os.environ, "CARRYOVER_CURVES_SECONDS": "0", "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
        with proxy.tally.during() as tally:
            subprocess.run([*command, "--nproc-per-node", str(ranks)], env=env, check=True, capture_output=True)
        return _figures(tally)

    return run


if __name__ == "__main__":
    main()
