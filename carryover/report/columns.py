"""Owns how a data card shows one column: a line that tells most of it, and behind it distribution and samples."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from carryover.data.schema import IGNORED_ID, Column
from carryover.data.thumbnail import Thumbnail
from carryover.report import boxes, charts, masks, page
from carryover.report.page import escape, number
from carryover.report.remarks import Remark, missing_share

# Values of a column and classes of a label that are shown; the widest bar of one, in pixels.
SHOWN, SHOWN_CLASSES, BAR = 12, 40, 120
HEIGHT = 230


def details(column: Column, shown: Mapping[str, Any], said: Sequence[Remark], *, given: bool, open: bool) -> str:
    """Return a column as a line that opens.

    Args:
        shown: what its Dataset's portrait has of it.
        given: whether its type was given, and not guessed.
    """
    missing = missing_share(column)
    words = [told(column, shown), f"{missing:.1%} missing" if missing else ""]
    tags = [page.tag(column.type), page.tag("given") if given else ""]
    tags += [page.tag(one.words, "warn") for one in said]
    line = f'<b>{escape(column.name)}</b> {" ".join(filter(None, tags))} <span class="soft">'
    line += f"{escape(', '.join(filter(None, words)))}</span>"
    parts = inside(column, shown)
    return page.opens(line, f"<div>{parts}</div>", open=open) if parts else f"<p>{line}</p>"


def told(column: Column, shown: Mapping[str, Any]) -> str:
    """Return the few numbers that tell most of a column."""
    known = column.statistics
    distinct = shown.get("distinct", known.get("distinct"))
    several = f"{distinct:,} different" if distinct is not None else "very many different"
    if column.type == "numerical":
        return f"{number(known.get('min'))} to {number(known.get('max'))}, mean {number(known.get('mean'))}"
    if column.type == "categorical":
        return several
    if column.type == "text":
        return f"{known.get('mean_words', 0):.1f} words on average, at most {number(known.get('max_chars'))} letters"
    if column.type == "image_path":
        return f"{number(known.get('images'))} images, {number(known.get('unreadable'))} unreadable"
    return "not used" if column.type == "null" else ""


def inside(column: Column, shown: Mapping[str, Any]) -> str:
    """Return what a column's line opens to, "" for one of which there is no more to say."""
    known = column.statistics
    if column.type == "numerical":
        return _halves(_histogram(shown, column.name), page.facts(_numbers(known, shown)))
    if column.type == "text":
        samples = "".join(f"<blockquote>{escape(text)}</blockquote>" for text in shown.get("samples", ()))
        return _halves(_histogram(shown, "Words of a text"), samples + page.facts(_texts(known, shown)))
    if column.type == "categorical":
        return classes(known.get("counts", {}), "rows", most=SHOWN)
    if column.type in ("image_path", "image_bytes"):
        return _strip(shown) + page.facts(_images(known, shown))
    return ""


def classes(
    counts: Mapping[str, int],
    words: str,
    *,
    most: int = SHOWN_CLASSES,
    by_split: Mapping[str, Mapping[str, int]] | None = None,
    ignored: bool = False,
) -> str:
    """Return values with bars and counts, the most frequent first.

    Args:
        counts: of train.
        words: what is counted.
        by_split: split -> counts, where they are known.
        ignored: whether the id of ignored pixels is to be named as such.
    """
    total, highest = max(1, sum(counts.values())), max(counts.values(), default=1)
    ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    splits = {split: found for split, found in (by_split or {}).items() if split != "train" and sum(found.values())}
    sums = {split: sum(found.values()) for split, found in splits.items()}
    rows = []
    for name, count in ranked[:most]:
        others = [f"{found.get(name, 0):,} · {found.get(name, 0) / sums[split]:.1%}" for split, found in splits.items()]
        bar = f'<span class="bar" style="width:{max(1, round(BAR * count / highest))}px"></span>'
        shown = escape(f"{name} (ignored)" if ignored and name == str(IGNORED_ID) else name)
        rows.append((shown, bar, f"{count:,}", f"{count / total:.1%}", *others))
    more = page.note(f"and {len(ranked) - most:,} more with fewer {words}") if len(ranked) > most else ""
    heads = ("value", "", f"{words} of train", "share", *splits)
    return page.table(heads, rows, numeric=2) + more


def label(column: Column, shown: Mapping[str, Any], names: Sequence[str]) -> str:
    """Return what is told of the label: its classes with bars where it has some, by split where that is known."""
    known, kind = column.statistics, column.type
    if kind == "numerical":
        return _halves(_histogram(shown, column.name), page.facts(_numbers(known, shown)) + _by_split(shown))
    if kind == "boxes":
        drawn = boxes.strip([(Thumbnail.from_json(one["thumbnail"]), one["boxes"]) for one in _pictures(shown)], names)
        facts = page.facts(_boxes(known))
        return (
            drawn
            + _halves(facts, _by_number(shown.get("objects"), "Boxes in a picture"))
            + classes(known.get("counts", {}), "boxes")
        )
    if kind == "mask":
        drawn = masks.strip([(Thumbnail.from_json(one["thumbnail"]), one["mask"]) for one in _pictures(shown)], names)
        pixels = classes(known.get("pixels", {}), "pixels", ignored=True)
        return drawn + pixels + _by_number(shown.get("ids"), "Different ids in a mask")
    return classes(known.get("counts", {}), "rows", by_split=shown.get("counts"))


def _pictures(shown: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    return shown.get("pictures", ())


def _halves(*parts: str) -> str:
    return f'<div class="halves">{"".join(f"<div>{part}</div>" for part in parts if part)}</div>'


def _histogram(shown: Mapping[str, Any], title: str) -> str:
    found = shown.get("histogram")
    if not found:
        return ""
    edges, counts = np.array(found["edges"]), np.array(found["counts"]["train"])
    drawn = charts.counts_chart(edges, counts, x_title=_short(title), label=f"Distribution of {title}", height=HEIGHT)
    below, above = found["below"]["train"], found["above"]["train"]
    tails = [
        f"{below:,} below {number(edges[0])}" if below else "",
        f"{above:,} above {number(edges[-1])}" if above else "",
    ]
    return drawn + (page.note(f"Not drawn: {' and '.join(filter(None, tails))}.") if below or above else "")


def _by_split(shown: Mapping[str, Any]) -> str:
    """Return where each split's values lie, so that one can see whether they are alike."""
    found = shown.get("histogram")
    if not found:
        return ""
    edges, rows = np.array(found["edges"]), []
    for split, each in found["counts"].items():
        counts = np.array(each, dtype=float)
        if counts.sum():
            place = np.searchsorted(np.cumsum(counts) / counts.sum(), [0.25, 0.5, 0.75])
            middles = (edges[:-1] + edges[1:]) / 2
            rows.append((split, f"{int(counts.sum()):,}", *(number(float(middles[at])) for at in place)))
    return page.table(("split", "rows", "quarter below", "median", "quarter above"), rows, numeric=1)


def _by_number(counted: Mapping[str, int] | None, title: str) -> str:
    if not counted:
        return ""
    numbers = np.array([int(name) for name in counted])
    if numbers.max() - numbers.min() > 40:
        edges = np.linspace(numbers.min(), numbers.max() + 1, 31)
    else:
        edges = np.arange(numbers.min(), numbers.max() + 2) - 0.5
    counts = np.histogram(numbers, bins=edges, weights=np.array(list(counted.values())))[0]
    return charts.counts_chart(edges, counts, x_title=title, y_title="Pictures", label=title, height=HEIGHT)


def _strip(shown: Mapping[str, Any]) -> str:
    pictures = [
        f'<img src="{escape(one["uri"])}" width="{int(one["width"])}" height="{int(one["height"])}" alt="a picture">'
        for one in _pictures(shown)
    ]
    return f'<div class="strip">{"".join(pictures)}</div>' if pictures else ""


def _numbers(known: Mapping[str, Any], shown: Mapping[str, Any]) -> Iterator[tuple[str, object]]:
    for name in ("mean", "std", "min", "max"):
        yield name, number(known.get(name))
    points = known.get("quantiles")
    if points:
        yield "median", number(points[len(points) // 2])
    yield from _common(known, shown)


def _texts(known: Mapping[str, Any], shown: Mapping[str, Any]) -> Iterator[tuple[str, object]]:
    yield "words", f"{known.get('mean_words', 0):.1f} on average"
    yield "longest", f"{known.get('max_chars', 0):,} letters"
    yield from _common(known, shown)


def _common(known: Mapping[str, Any], shown: Mapping[str, Any]) -> Iterator[tuple[str, object]]:
    if "missing" in shown:
        yield "missing", ", ".join(f"{count:,} in {split}" for split, count in shown["missing"].items())
    elif "missing" in known:
        yield "missing", f"{known['missing']:,} in train"
    if "distinct" in shown:
        yield "different", "very many" if shown["distinct"] is None else f"{shown['distinct']:,} in all splits"


def _images(known: Mapping[str, Any], shown: Mapping[str, Any]) -> Iterator[tuple[str, object]]:
    for name in ("images", "unreadable"):
        if name in known:
            yield name, f"{known[name]:,}"
    if known.get("most", 0) > 1:
        yield "in one row", f"at most {known['most']:,}"
    for name, span in shown.get("sizes", {}).items():
        if span:
            yield name, f"{span[0]:,} to {span[2]:,} pixels, median {span[1]:,} (of {shown['looked']:,} looked at)"
    if shown.get("formats"):
        yield "formats", ", ".join(f"{name} {count:,}" for name, count in shown["formats"].items())
    yield from _common(known, shown)


def _boxes(known: Mapping[str, Any]) -> Iterator[tuple[str, object]]:
    yield "pictures", f"{known['count']:,}, {known['missing']:,} of them without a box"
    yield "boxes", f"{known['boxes']:,}, at most {known['most']:,} in a picture"
    yield "sizes", ", ".join(f"{count:,} {size}" for size, count in known["sizes"].items())
    for reason, count in known.get("dropped", {}).items():
        yield "dropped", f"{count:,} boxes {reason}"


def _short(title: str) -> str:
    return title if len(title) <= 50 else f"{title[:49]}…"
