"""Owns docs/performance.md: the goals beside what was measured, and all figures, from benchmarks/results/<topic>.json.

python -m benchmarks.page [--results FOLDER] [--page FILE]     writes the page, and its pictures beside it

title, machine        what the figures hold for
goals                 a line a goal: measured, asked, floor; a picture; then how far from the floor, and why
a section a topic     its command, what was measured, tables of medians (lowest to highest), a picture, notes
other programs        versions, or the reason why one cannot do the job
the rest              benchmarks/page_texts.py: what is not measured by `make bench`
"""

import argparse
import json
import math
import re
import statistics
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks import page_plots
from benchmarks.arms import Figures, results_folder, spread
from benchmarks.page_texts import HEAD, REST, ROWS, TOPICS

PAGE = Path(__file__).parents[1] / "docs" / "performance.md"
PICTURES = Path("pictures") / "performance"
NOT_RUN = "<!-- not run: a measurement of minutes, on a quiet machine -->"
NOTHING = 0.02  # where a picture shows what is less than can be seen: zero, or ours below the bare loop's
COLUMNS = 4  # figures side by side; a phone has no room for more
Result = dict[str, Any]


def main() -> None:
    """Writes the page and its pictures."""
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    flags.add_argument("--results", type=Path, default=results_folder())
    flags.add_argument("--page", type=Path, default=PAGE)
    asked = flags.parse_args()
    results = read(asked.results)
    asked.page.parent.mkdir(parents=True, exist_ok=True)
    asked.page.write_text(page(results), encoding="utf-8")
    plot(results, asked.page.parent / PICTURES)
    print(f"{asked.page}: {len(results)} topics")


def read(folder: Path) -> dict[str, Result]:
    """Topic -> what its benchmark wrote, in the page's order."""
    return {
        name: json.loads((folder / f"{name}.json").read_text()) for name in TOPICS if (folder / f"{name}.json").exists()
    }


def page(results: Mapping[str, Result]) -> str:
    """The whole text."""
    parts = [
        HEAD,
        _machine(results),
        _goals(results),
        *(_topic(name, results.get(name)) for name in TOPICS),
        _peers(results),
        REST,
    ]
    return "\n\n".join(part.strip() for part in parts if part) + "\n"


def plot(results: Mapping[str, Result], folder: Path) -> None:
    """All pictures, and none that the page does not show."""
    for old in folder.glob("*.svg"):
        old.unlink()
    if reached := _distances(results):
        page_plots.distances(folder / "goals.svg", reached)
    for name, result in results.items():
        for group, figures in groups(result["figures"]).items():
            if figure := _plotted(figures):
                values = {arm: spread(found[figure]) for arm, found in figures.items() if figure in found}
                ours = [arm for arm in values if arm.startswith(("carryover", "ours"))]
                page_plots.bars(folder / picture(name, group), heading(figure), values, ours)


def groups(figures: Figures) -> dict[str, Figures]:
    """ "MiniLM / ours" is the arm "ours" of the group "MiniLM"; an arm without a group is in the group ""."""
    found: dict[str, Figures] = {}
    for name, values in figures.items():
        group, _, arm = name.rpartition(" / ")
        found.setdefault(group, {})[arm] = values
    return found


def picture(topic: str, group: str) -> str:
    """The file of a group's picture."""
    words = re.sub(r"[^a-z0-9]+", "-", f"{topic} {group}".lower()).strip("-")
    return f"{words}.svg"


def heading(figure: str) -> str:
    """A figure's name in words with its unit: "blocked_s" -> "blocked (s)"."""
    for suffix, unit in _UNITS:
        if figure.endswith(suffix):
            return f"{figure.removesuffix(suffix).replace('_', ' ') or 'time'} ({unit})"
    return figure.replace("_", " ")


_UNITS = (("_cpu_s", "CPU s"), ("_us", "us"), ("_bytes", "MB"), ("_count", "count"), ("_s", "s"))


def told(figure: str, values: Sequence[float]) -> str:
    """Median and, of several, lowest to highest, in the figure's unit."""
    scale = 1e-6 if figure.endswith("_bytes") else 1.0
    median = number(statistics.median(values) * scale)
    low, high = number(min(values) * scale), number(max(values) * scale)
    return median if low == high else f"{median} ({low} to {high})"


def number(value: float) -> str:
    """Three figures that count, without exponents."""
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    digits = max(0, 2 - math.floor(math.log10(abs(value))))
    text = f"{value:,.{min(digits, 6)}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def _machine(results: Mapping[str, Result]) -> str:
    lines = {_machine_words(result["machine"]): None for result in results.values()}
    if not lines:
        return "Nothing has been measured yet: `make bench`."
    return "\n".join(["Measured on " + "; and on ".join(lines) + ".", *_gpu_words(results)])


def _machine_words(machine: Mapping[str, Any]) -> str:
    return (
        f"{machine['cores']} cores ({machine['cpu']}), {machine['memory_gib']} GiB, {machine['system']}, "
        f"Python {machine['python']}, torch {machine['torch']}, GPU: {machine['gpu']}"
    )


def _gpu_words(results: Mapping[str, Result]) -> Iterator[str]:
    if all(result["machine"]["gpu"] == "none" for result in results.values()):
        yield "No GPU was at hand: nothing here says how fast a training on one is; the same commands measure there."


def _goals(results: Mapping[str, Result]) -> str:
    table = ["## Goals", "", "| | what | measured | asked | floor |", "| --- | --- | --- | --- | --- |"]
    whys = []
    for row, title in ROWS.items():
        found = [(name, goal) for name, result in results.items() for goal in result["goals"] if goal["row"] == row]
        for name, goal in found:
            table.append(
                f"| {row} | {_cell(goal['what'])} | {_measured(goal)} | {_cell(_asked(goal))} | {_cell(_floor(goal))} |"
            )
            whys.append(f"- **{row}, {goal['what']}** ([{name}](#{_anchor(name)})): {_why(goal)}")
        if not found:
            table.append(f"| {row} | {title} | not measured yet | | |")
    shown = f"\n![Distance of each goal]({PICTURES}/goals.svg)\n" if _distances(results) else ""
    return "\n".join([*table, shown, "How far from the floor, and why:", "", *whys] if whys else table)


def _measured(goal: Mapping[str, Any]) -> str:
    if goal["ours"] is None:
        return "not measured"
    span = ""
    if goal["low"] is not None and number(goal["low"]) != number(goal["high"]):
        span = f" ({number(goal['low'])} to {number(goal['high'])})"
    return f"**{number(goal['ours'])}**{span}{'' if goal['reached'] else ': missed'}"


def _asked(goal: Mapping[str, Any]) -> str:
    return goal["reach"] if isinstance(goal["reach"], str) else f"<= {number(goal['reach'])}"


def _floor(goal: Mapping[str, Any]) -> str:
    return goal["floor"] if isinstance(goal["floor"], str) else number(goal["floor"])


def _why(goal: Mapping[str, Any]) -> str:
    beside = f" Other programs: {goal['peer'].rstrip('.')}." if goal["peer"] else ""
    why = goal["why"].strip()
    return f"{why[:1].upper()}{why[1:].rstrip('.')}.{beside}"


def _distances(results: Mapping[str, Result]) -> dict[str, float]:
    """Goal -> measured over asked; over 1 is missed."""
    found = {}
    for result in results.values():
        for goal in result["goals"]:
            bound = float(re.sub(r"[^0-9.e-]", "", _asked(goal).split()[1])) if goal["ours"] else 0.0
            if bound:
                far = bound / goal["ours"] if _asked(goal).startswith(">=") else goal["ours"] / bound
                found[textwrap.fill(f"{goal['row']}  {goal['what']}", 56)] = max(far, NOTHING)
    return dict(sorted(found.items()))


def _anchor(topic: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", TOPICS[topic].title.lower()).strip("-")


def _topic(name: str, result: Result | None) -> str:
    topic = TOPICS[name]
    if result is None:
        return f"## {topic.title}\n\n{topic.text}\n\nNot measured yet: `python -m benchmarks.{name}`."
    parts = [f"## {topic.title}", topic.text, f"{NOT_RUN}\n```sh\n{result['command']}\n```"]
    for group, figures in groups(result["figures"]).items():
        parts += _tables(name, group, figures)
    if busy := _busy(result):
        parts.append(busy)
    if result["notes"]:
        parts.append("\n".join(f"- {note}" for note in result["notes"]))
    return "\n\n".join(parts)


def _tables(topic: str, group: str, figures: Figures) -> Iterator[str]:
    names = list(dict.fromkeys(figure for values in figures.values() for figure in values))
    # Many figures of few arms: a line a figure, so that a phone need not be turned.
    turned = len(names) > COLUMNS >= len(figures)
    shown = [figures] if turned else [_part(figures, names[at : at + COLUMNS]) for at in range(0, len(names), COLUMNS)]
    for part in shown:
        columns = list(dict.fromkeys(figure for values in part.values() for figure in values))
        cells = [[_cell(arm), *(_told(values, one) for one in columns)] for arm, values in part.items()]
        lines = [[_cell(group) or "program", *map(heading, columns)], *cells]
        yield _table([list(column) for column in zip(*lines, strict=True)] if turned else lines)
    if figure := _plotted(figures):
        yield f"![{heading(figure)}, {group or topic}]({PICTURES}/{picture(topic, group)})"


def _part(figures: Figures, names: Sequence[str]) -> Figures:
    """These figures alone, of the arms that have one of them."""
    part = {arm: {name: values[name] for name in names if name in values} for arm, values in figures.items()}
    return {arm: values for arm, values in part.items() if values}


def _told(values: Mapping[str, Sequence[float]], figure: str) -> str:
    return told(figure, values[figure]) if figure in values else ""


def _table(lines: Sequence[Sequence[str]]) -> str:
    head, *rows = [f"| {' | '.join(line)} |" for line in lines]
    return "\n".join([head, "|" + " --- |" * len(lines[0]), *rows])


def _plotted(figures: Figures) -> str:
    """The figure that a group's picture shows: its first, where two arms have it."""
    counts: dict[str, int] = {}
    for values in figures.values():
        for figure in values:
            counts[figure] = counts.get(figure, 0) + 1
    return next((figure for figure, count in counts.items() if count > 1), "")


def _busy(result: Result) -> str:
    load, cores = max(result["load"]["start"][0], result["load"]["end"][0]), result["machine"]["cores"]
    return f"Measured beside other work (load {load:.1f} on {cores} cores): only ratios count." if load > cores else ""


def _peers(results: Mapping[str, Result]) -> str:
    peers = {name: words for result in results.values() for name, words in result["peers"].items()}
    if not peers:
        return ""
    lines = [f"| {_cell(name)} | {_cell(peers[name])} |" for name in sorted(peers, key=str.lower)]
    head = "Each in an environment of its own with this project's torch: `python -m benchmarks.peers.setup`."
    return "\n".join(
        ["## Other programs", "", head, "", "| program | version, or why it is not measured |", "| --- | --- |", *lines]
    )


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


if __name__ == "__main__":
    main()
