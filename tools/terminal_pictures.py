"""Owns the pictures of the terminal in docs/pictures/: real commands in a real terminal, one of them killed.

    python -m tools.terminal_pictures                    all of it again, in some minutes
    python -m tools.terminal_pictures --in DIR           the same in a new folder, which stays

tmux holds the terminal; what it shows, colours and all, becomes HTML, and Chromium photographs that.
"""

import argparse
import html
import io
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from PIL import Image

from tests.support.tiny_bert import save_tiny_bert
from tests.train.attempts import write_rows

ROOT = Path(__file__).resolve().parents[1]
REVIEWS, PICTURES = ROOT / "examples" / "reviews" / "reviews.parquet", ROOT / "docs" / "pictures"
COLUMNS, LINES = 112, 22
MOST_BYTES = 150_000
SETTINGS = (
    "model.names=[hf_text] model.hf_text.checkpoint_name=tiny-bert env.batch_size=32 env.per_gpu_batch_size=32 "
    "env.num_workers=0 env.num_workers_evaluation=0 optimization.patience=99 optimization.learning_rate=0.001 "
    "optimization.top_k=1 checkpoint.every_steps=20 optimization.val_check_interval=1.0"
)
_ANSI = re.compile(r"\x1b\[([0-9;]*)m")
_BASIC = "#1e2430 #e06c75 #98c379 #e5c07b #61afef #c678dd #56b6c2 #dcdfe4".split()
_BRIGHT = "#5c6370 #e06c75 #98c379 #e5c07b #61afef #c678dd #56b6c2 #ffffff".split()
_PAGE = """<!doctype html><meta charset="utf-8"><style>
body {{ margin: 0; background: #171b24; }}
pre {{ margin: 0; padding: 14px 18px; display: inline-block; color: #dcdfe4; background: #171b24;
  font: 14px/1.42 "DejaVu Sans Mono", "Liberation Mono", monospace; }}
</style><pre id="screen">{}</pre>"""


class Terminal:
    """A terminal of its own, in tmux."""

    def __init__(self, folder: Path) -> None:
        self._socket = f"carryover-pictures-{os.getpid()}"
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        shell = ["env", f"PATH={path}", "PS1=$ ", "OMP_NUM_THREADS=1", "HF_HUB_OFFLINE=1", "bash", "--norc"]
        size = ["-x", str(COLUMNS), "-y", str(LINES)]
        self._tmux("-f", "/dev/null", "new-session", "-d", *size, "-c", str(folder), *shell)
        self._tmux("set-option", "-g", "default-terminal", "tmux-256color")

    def run(self, words: str) -> None:
        """Type a command on an empty screen."""
        self._tmux("send-keys", "clear", "Enter")
        time.sleep(0.5)
        self._tmux("clear-history")
        self._tmux("send-keys", "-l", words)
        self._tmux("send-keys", "Enter")

    def wait(self, shown: Callable[[str], object], seconds: float = 300) -> str:
        """Wait until the screen shows something; returns the screen with its colours."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            found = self.screen()
            if shown(_ANSI.sub("", found)):
                return found
            time.sleep(0.2)
        raise SystemExit(f"not seen within {seconds:g} s:\n{self.screen()}")

    def screen(self) -> str:
        return self._tmux("capture-pane", "-p", "-e").rstrip("\n")

    def close(self) -> None:
        self._tmux("kill-server")

    def _tmux(self, *words: str) -> str:
        ended = subprocess.run(["tmux", "-L", self._socket, *words], capture_output=True, text=True, check=True)
        return ended.stdout


def main() -> None:
    """Run the commands, and photograph the terminal."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--in", dest="place", default="", help="new folder for data and runs")
    place = parser.parse_args().place
    # The pictures show the folder's name.
    made = Path(place or Path(tempfile.gettempdir(), "reviews")).resolve()
    made.mkdir(parents=True)
    terminal = Terminal(made)
    try:
        for name, screen in _screens(terminal, made):
            photograph(name, screen)
    finally:
        terminal.close()
        if not place:
            shutil.rmtree(made)


def _screens(terminal: Terminal, folder: Path):
    save_tiny_bert(folder / "tiny-bert")
    write_rows(folder / "rows.csv", 400_000)
    terminal.run("carryover prepare-data --source rows.csv --label liked --store many")
    yield "terminal-prepare", terminal.wait(lambda text: "second pass" in text and "rows/s" in text)
    terminal.wait(lambda text: re.search(r"^uri ", text, re.MULTILINE))
    shutil.copyfile(REVIEWS, folder / "reviews.parquet")
    terminal.run("carryover prepare-data --source reviews.parquet --label label --store store --output data")
    terminal.wait(lambda text: re.search(r"^uri ", text, re.MULTILINE))
    (folder / "recipe.yaml").write_text("".join(f"{one.replace('=', ': ', 1)}\n" for one in SETTINGS.split()))
    train = "carryover train-ddp --dataset data --store store --recipe recipe.yaml --set optimization.max_epochs=43"
    terminal.run(train)
    yield "terminal-train", terminal.wait(lambda text: re.search(r"step 1[0-9]\d/", text) and "validation at" in text)
    # Some steps behind a commit, so that there is work to lose; the heartbeat knows of it 5 s later.
    time.sleep(6.0)
    found = subprocess.run(["pgrep", "-f", "carryover train-ddp --dataset data"], capture_output=True, text=True)
    for pid in found.stdout.split():
        if Path(f"/proc/{pid}/cwd").resolve() == folder:
            os.kill(int(pid), 9)
            break
    terminal.wait(lambda text: "Killed" in text)
    terminal.run(f"{train.removesuffix('43')}100 --run-key {_run_key(folder)}")
    yield "terminal-resume", terminal.wait(lambda text: "goes on from step" in text and "rows/s" in text, 600)


def _run_key(folder: Path) -> str:
    (run,) = (folder / "store" / "runs").iterdir()
    return run.name


def photograph(name: str, screen: str) -> None:
    """Write what a terminal showed as a picture."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1200, "height": 900}, device_scale_factor=1.5)
        page.set_content(_PAGE.format(as_html(screen)))
        shot = page.locator("#screen").screenshot()
        browser.close()
    picture = Image.open(io.BytesIO(shot)).convert("RGB").quantize(64)
    PICTURES.mkdir(parents=True, exist_ok=True)
    path = PICTURES / f"{name}.png"
    picture.save(path, optimize=True)
    if path.stat().st_size > MOST_BYTES:
        raise SystemExit(f"{path}: {path.stat().st_size:,} bytes, more than {MOST_BYTES:,}")
    print(f"{path.relative_to(ROOT)}: {path.stat().st_size:,} bytes")


def as_html(screen: str) -> str:
    """Return a screen with its colour codes as HTML."""
    parts, style = [], {}
    pieces = _ANSI.split(screen)
    for index in range(0, len(pieces), 2):
        if index:
            style = _styled(style, [int(code or 0) for code in pieces[index - 1].split(";")])
        if pieces[index]:
            css = ";".join(f"{name}:{value}" for name, value in style.items())
            parts.append(f'<span style="{css}">{html.escape(pieces[index])}</span>')
    return "".join(parts)


def _styled(style: dict[str, str], codes: list[int]) -> dict[str, str]:
    style, rest = dict(style), list(codes)
    while rest:
        code = rest.pop(0)
        if code == 0:
            style = {}
        elif code == 1:
            style["font-weight"] = "bold"
        elif code == 2:
            style["opacity"] = "0.65"
        elif code == 22:
            style.pop("font-weight", None)
            style.pop("opacity", None)
        elif 30 <= code <= 37:
            style["color"] = _BASIC[code - 30]
        elif 90 <= code <= 97:
            style["color"] = _BRIGHT[code - 90]
        elif code == 38 and rest[:1] == [5]:
            style["color"], rest = _of_256(rest[1]), rest[2:]
        elif code == 38 and rest[:1] == [2]:
            style["color"], rest = "rgb({},{},{})".format(*rest[1:4]), rest[4:]
        elif code == 39:
            style.pop("color", None)
    return style


def _of_256(number: int) -> str:
    if number < 16:
        return (_BASIC + _BRIGHT)[number]
    if number >= 232:
        return "rgb({0},{0},{0})".format(8 + 10 * (number - 232))
    levels = (0, 95, 135, 175, 215, 255)
    number -= 16
    return f"rgb({levels[number // 36]},{levels[number // 6 % 6]},{levels[number % 6]})"


if __name__ == "__main__":
    main()
