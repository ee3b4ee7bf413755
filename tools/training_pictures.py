"""Owns the pictures of a training in docs/pictures/: made of real runs, with two real kills and a second generation.

    python -m tools.training_pictures                    all of it again, in some minutes
    python -m tools.training_pictures --in DIR           the same; the runs stay in DIR, and are not made again

amazon's and yelp's reviews --train, SIGKILL twice--> Model --extend by imdb's--> Model
                                                       |                           |
                                                       report, curves              generations
"""

import argparse
import io
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pyarrow.parquet as pq
from PIL import Image

from carryover.checkpoint.heartbeat import read_beat
from carryover.checkpoint.home import RunHome
from carryover.ground.storage import open_store
from tests.support.tiny_bert import save_tiny_bert

ROOT = Path(__file__).resolve().parents[1]
REVIEWS, PICTURES = ROOT / "examples" / "reviews" / "reviews.parquet", ROOT / "docs" / "pictures"
MOST_BYTES = 150_000
RECIPE = {
    "model.names": "[hf_text]",
    "model.hf_text.max_text_len": 40,
    "optimization.learning_rate": 0.002,
    "optimization.max_epochs": 12,
    "optimization.val_check_interval": 1.0,
    "optimization.patience": 40,
    "optimization.top_k": 1,
    "optimization.log_every_n_steps": 2,
    "env.batch_size": 32,
    "env.per_gpu_batch_size": 32,
    "env.num_workers": 0,
    "env.num_workers_evaluation": 0,
    "checkpoint.every_steps": 150,
}
# A kill waits until so many steps would be lost that a heartbeat has told of.
LOST_STEPS = 12
# Name of the picture -> width, colours, and the part of the page's height that is shown; 0: all.
SHOTS = {"report-training": (1200, "light", 2350), "report-training-dark": (1200, "dark", 1250)}
SHOTS["report-training-phone"] = (390, "light", 1700)


def main() -> None:
    """Make the runs, then the pictures."""
    os.environ.update(OMP_NUM_THREADS="1", HF_HUB_OFFLINE="1", CARRYOVER_CURVES_SECONDS="10")
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--in", dest="place", default="", help="folder for the runs; default: one that goes again")
    place = parser.parse_args().place
    with tempfile.TemporaryDirectory(prefix="carryover-pictures-") as folder:
        made = Path(place or folder)
        made.mkdir(parents=True, exist_ok=True)
        if not (made / "second").exists():
            lives(made)
        draw(made)


def lives(place: Path) -> None:
    """Train, killed twice, into place/first; extend the Model into place/second."""
    settings = {**RECIPE, "model.hf_text.checkpoint_name": save_tiny_bert(place / "bert")}
    words = [word for name, value in settings.items() for word in ("--set", f"{name}={value}")]
    first = prepared(place, "first", ["amazon", "yelp"])
    train = ["train-ddp", "--dataset", first, "--output", "first", "--owner", "pictures", *words]
    for step in (120, 320):
        killed(place, train, step)
    run(place, *train)
    second = prepared(place, "second", ["imdb"], "--schema-from", "first")
    run(place, "train-ddp", "--dataset", second, "--init-from", "first", "--output", "second",
        "--set", "optimization.max_epochs=6")  # fmt: skip


def prepared(place: Path, name: str, domains: list[str], *more: str) -> str:
    """Prepare the reviews of some domains, and return the Dataset's URI."""
    table = pq.read_table(REVIEWS)
    keep = [domain in domains for domain in table["domain"].to_pylist()]
    pq.write_table(table.filter(keep).select(["sentence", "label"]), place / f"{name}.parquet")
    label = [] if more else ["--label", "label"]
    said = run(place, "prepare-data", "--source", f"{name}.parquet", *label, *more)
    return next(line.split()[1] for line in said.splitlines() if line.startswith("uri "))


def killed(place: Path, words: list[str], step: int) -> None:
    """Start a training and kill it behind a step, at an instant at which some work is lost."""
    training = subprocess.Popen(command(words), cwd=place, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    while _lost_now(place, step) < LOST_STEPS:
        if training.poll() is not None:
            raise SystemExit(f"the training ended with {training.returncode} before it could be killed")
        time.sleep(0.1)
    training.kill()
    training.wait()
    # Whoever starts it again needs a while.
    time.sleep(6)


def _lost_now(place: Path, step: int) -> int:
    """Return how many steps a kill would cost now, as far as the heartbeat tells; 0 up to a step."""
    found = list((place / ".carryover" / "runs").glob("*"))
    home = RunHome(open_store(str(found[0]))) if found else None
    beat = read_beat(home.store) if home else {}
    if home is None or (beat.get("step") or 0) < step or home.log.head().newest.commit is None:
        return 0
    return (beat["step"] or 0) - home.commits()[-1].step


def command(words: list[str]) -> list[str]:
    """Return the command of these words, in the default store of its folder."""
    return [sys.executable, "-m", "carryover.cli.main", *words]


def run(place: Path, *words: str) -> str:
    """Run a command and return what it printed."""
    ended = subprocess.run(command(list(words)), cwd=place, capture_output=True, text=True, check=False)
    if ended.returncode:
        raise SystemExit(f"{' '.join(words)}\n{ended.stderr[-2000:]}")
    return ended.stdout


def draw(place: Path) -> None:
    """Make the pictures of docs/pictures/ from the runs."""
    run(place, "report", "first", "--output", "first")
    run(place, "curves", "first", "--output", "drawn")
    run(place, "curves", "second", "--generations", "--output", "drawn")
    PICTURES.mkdir(exist_ok=True)
    for name, source in (
        ("curves-loss", "loss"),
        ("curves-roc-auc", "val_roc_auc"),
        ("curves-generations", "generations-roc_auc"),
    ):
        put(name, (place / "drawn" / f"{source}.png").read_bytes())
    # As it was when the second kill had been survived, and the first Model was finished.
    for name, (width, scheme, height) in SHOTS.items():
        put(name, screenshot(place / "first" / "report.html", width=width, scheme=scheme, height=height))


def screenshot(page: Path, *, width: int, scheme: str, height: int) -> bytes:
    """Return a picture of a page's top, as Chromium shows it."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        opened = browser.new_page(viewport={"width": width, "height": height}, color_scheme=scheme)  # pyright: ignore[reportArgumentType]
        opened.goto(page.resolve().as_uri())
        shown = opened.screenshot()
        browser.close()
    return shown


def put(name: str, data: bytes) -> None:
    """Write a picture with few colours, small enough for a repository."""
    with Image.open(io.BytesIO(data)) as image:
        plain = image.convert("RGB")
    for colours in (256, 128, 64, 32):
        sink = io.BytesIO()
        plain.quantize(colours, dither=Image.Dither.NONE).save(sink, "PNG", optimize=True)
        if len(sink.getvalue()) < MOST_BYTES:
            break
    (PICTURES / f"{name}.png").write_bytes(sink.getvalue())
    print(f"{name}.png  {len(sink.getvalue()):,} bytes")


if __name__ == "__main__":
    main()
