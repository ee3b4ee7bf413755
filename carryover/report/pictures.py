"""Owns pictures in reports: which of a split, small and inside the page, and one colour a class.

how good each answer is --chosen--> up to SHOWN places: the worst, and some evenly spread
class indices --painted--> PNG of up to WIDTH pixels, as a data URI, beside a thumbnail (data/thumbnail.py)
"""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from carryover.data.thumbnail import WIDTH, data_uri, scaled
from carryover.report.page import escape

SHOWN = 12
# Okabe and Ito 2008, "Color Universal Design": told apart by the colour-blind too, on light and on dark.
HUES = ("#e69f00", "#56b4e9", "#009e73", "#f0e442", "#0072b2", "#d55e00", "#cc79a7")
NEUTRAL, WRONG = "#999999", "#d6006c"
_BLACK, _WHITE = (0, 0, 0), (255, 255, 255)

STYLE = """
.shots { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 300px), 1fr)); gap: 18px }
.shots.wide { grid-template-columns: 1fr }
figure { margin: 0; min-width: 0 }
figcaption { font-size: 13px; margin-top: 6px; overflow-wrap: anywhere }
figcaption b { font-weight: 600 }
.legend { display: flex; flex-wrap: wrap; gap: 6px 16px; font-size: 13px; margin: 10px 0 14px; padding: 0 }
.legend li { list-style: none; display: flex; align-items: center; gap: 6px }
.swatch { width: 14px; height: 14px; border-radius: 3px; border: 1px solid var(--soft); flex: none }
.gone { display: grid; place-items: center; min-height: 90px; border: 1px dashed var(--line); border-radius: 6px }
"""


def chosen(quality: np.ndarray, most: int = SHOWN) -> list[tuple[int, bool]]:
    """Return up to `most` places, each with whether it is there as one of the worst: half of them, the worst first.

    Args:
        quality: float64[N], more is better.
    """
    half = min(most // 2, (len(quality) + 1) // 2)
    worst = np.argsort(quality, kind="stable")[:half]
    others = np.setdiff1d(np.arange(len(quality)), worst)
    spread = others[np.unique(np.linspace(0, len(others) - 1, most - half).round().astype(int))] if len(others) else []
    return [*((int(place), True) for place in worst), *((int(place), False) for place in spread)]


def painted(indices: np.ndarray, colours: Sequence[str], *, width: int = WIDTH) -> str:
    """Return indices [H, W] in their colours, one below 0 transparent, small as a thumbnail is, as a data URI."""
    from PIL import Image

    clear = len(colours)
    image = Image.fromarray(np.where(indices < 0, clear, indices).astype(np.uint8))
    # The transparent one needs a place in the palette too.
    image.putpalette([part for colour in [*colours, NEUTRAL] for part in _rgb(colour)])
    scale = min(1.0, width / image.width, 2 * width / image.height)
    small = image.resize(scaled(image.size, scale), Image.Resampling.NEAREST)
    return data_uri(small, "PNG", transparency=clear, optimize=True)


def colours_of(places: Iterable[int]) -> dict[int, str]:
    """Return a colour for each class that is shown: the hues, then lighter and darker ones, then all again."""
    made = [*HUES, *(_mixed(hue, _WHITE) for hue in HUES), *(_mixed(hue, _BLACK) for hue in HUES)]
    return {place: made[number % len(made)] for number, place in enumerate(sorted(set(places)))}


def ink_on(colour: str) -> str:
    """Return black or white, whichever is read better on a colour."""
    red, green, blue = _rgb(colour)
    return "#000" if 0.299 * red + 0.587 * green + 0.114 * blue > 140 else "#fff"


def legend(named: Mapping[str, str]) -> str:
    """Return names with their colours, as HTML."""
    items = [
        f'<li><span class="swatch" style="background: {colour}"></span>{escape(name)}</li>'
        for name, colour in named.items()
    ]
    return f'<ul class="legend">{"".join(items)}</ul>'


def caption(words: str, *, worst: bool) -> str:
    """Return what stands below a picture."""
    return f"<figcaption>{'<b>worst</b> · ' if worst else ''}{escape(words)}</figcaption>"


def _rgb(colour: str) -> tuple[int, int, int]:
    return int(colour[1:3], 16), int(colour[3:5], 16), int(colour[5:7], 16)


def _mixed(colour: str, other: tuple[int, int, int]) -> str:
    return "#" + "".join(f"{round(0.55 * one + 0.45 * two):02x}" for one, two in zip(_rgb(colour), other, strict=True))
