"""Pictures of reports: which are chosen, turned and made small, painted; boxes and texts that do not fit."""

import base64
import io

import numpy as np
from PIL import Image

from carryover.data.thumbnail import WIDTH, thumbnail
from carryover.report.boxes import Box, Detected, Shot
from carryover.report.masks import Segmented
from carryover.report.pictures import HUES, SHOWN, chosen, colours_of, painted

# EXIF's tag of how a picture lies, and its value for "turn it clockwise".
ORIENTATION, TURNED = 0x0112, 6


def opened(uri: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(uri.partition("base64,")[2])))


def test_half_are_the_worst_and_half_evenly_spread_and_none_comes_twice():
    quality = np.linspace(1, 0, 100)
    found = chosen(quality)
    assert [place for place, worst in found if worst] == [99, 98, 97, 96, 95, 94]
    spread = [place for place, worst in found if not worst]
    assert len(found) == SHOWN and (spread[0], spread[-1]) == (0, 93)
    for count in range(SHOWN + 2):
        few = [place for place, _ in chosen(quality[:count])]
        assert len(set(few)) == len(few) == min(count, SHOWN)


def test_a_large_turned_picture_is_small_and_upright_and_a_broken_one_is_none():
    sink, exif = io.BytesIO(), Image.Exif()
    exif[ORIENTATION] = TURNED
    drawn = np.zeros((1000, 2000, 3), np.uint8)
    drawn[:, :1000] = (255, 0, 0)
    Image.fromarray(drawn).save(sink, "JPEG", exif=exif)
    seen = thumbnail(sink.getvalue())
    assert seen is not None
    assert (seen.width, seen.height, seen.scale) == (WIDTH, 2 * WIDTH, WIDTH / 1000)
    image = opened(seen.uri)
    assert image.size == (seen.width, seen.height)
    # What was left is on top now.
    assert np.asarray(image)[10, 10].argmax() == 0 and np.asarray(image)[10, 10, 0] > 200
    assert np.asarray(image)[-10, 10].max() < 60
    assert thumbnail(sink.getvalue()[:100]) is None and thumbnail(b"") is None and thumbnail(None) is None


def test_indices_have_their_colours_and_one_below_zero_is_transparent():
    image = opened(painted(np.array([[0, 1], [-1, 1]]), ["#010203", "#d6006c"])).convert("RGBA")
    assert [image.getpixel(place) for place in ((0, 0), (1, 0))] == [(1, 2, 3, 255), (0xD6, 0, 0x6C, 255)]
    assert np.asarray(image)[1, 0, 3] == 0


def test_more_classes_than_hues_have_colours():
    found = colours_of(range(100, 100 + 3 * len(HUES)))
    assert len(set(found.values())) == 3 * len(HUES)


def test_what_cannot_be_drawn_is_said_and_long_names_are_cut():
    name = "a name that goes on and on and on and on" * 3
    seen = thumbnail(plain_png())
    box = Box((1, 1, 20, 20), 0, score=0.875)
    shots = [Shot(None, "row 1", True, [box]), Shot(seen, "row 2", False, [box, Box((2, 2, 9, 9), 1, crowd=True)])]
    page = "".join(Detected([name, "b"], np.full((2, 3), np.nan), np.zeros(2, int), shots, 0.3).cards())
    assert "picture not readable" in page
    assert "… 0.88</text>" in page or "… 0.87</text>" in page
    assert page.count("n/a") >= 6 and "nan" not in page
    empty = Segmented(["0", "1"], np.zeros((2, 2)), [])
    assert "n/a" in "".join(empty.cards()) and np.isnan(empty.to_json()["classes"][0]["iou"])


def plain_png() -> bytes:
    sink = io.BytesIO()
    Image.fromarray(np.zeros((30, 40, 3), np.uint8)).save(sink, "PNG")
    return sink.getvalue()
