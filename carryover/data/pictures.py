"""Owns where the pictures lie that a file of annotations names, and how large a picture is.

D/instances_train2017.json   D/  D/images/  D/images/train2017/  D/train2017/, then the same in ../ ...
"""

import io
import re
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from carryover.data.problems import shown
from carryover.ground import storage
from carryover.ground.errors import WrongInput

TRIED = 4
FOLDERS = ("", "images", "JPEGImages")
# EXIF's tag for how a picture is turned, and the turns that swap its sides.
ORIENTATION, SWAPPED = 0x0112, (5, 6, 7, 8)


@dataclass(frozen=True)
class Size:
    """Width and height in pixels as a picture is seen, and whether EXIF turns it on its side."""

    width: int
    height: int
    turned: bool


def size_of(data: bytes) -> Size:
    """Return how large a picture is, once it is sure that all of it can be read.

    Raises:
        ValueError: it cannot; the words stand behind its name.
    """
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(io.BytesIO(data)) as image:
            width, height = image.size
            turned = image.getexif().get(ORIENTATION) in SWAPPED
            # A JPEG is decoded as small as may be: it is read to its end all the same.
            image.draft(None, (1, 1))
            image.load()
    except UnidentifiedImageError:
        raise ValueError("is no picture") from None
    except (OSError, ValueError, SyntaxError, struct.error, Image.DecompressionBombError) as error:
        raise ValueError(f"can't be read ({storage.first_line(error)})") from None
    return Size(height, width, True) if turned else Size(width, height, False)


def parent(folder: str) -> str:
    """Return the folder around a folder, "" where there is none."""
    above = storage.split(folder)[0]
    return "" if above in (folder, "/") or above.endswith((":", ":/", "://")) else above


def tags_of(name: str) -> tuple[str, ...]:
    """Return the names that a file's pictures may have as a folder: instances_train2017.json -> train2017, train."""
    stem = name.removesuffix(".gz").rpartition(".")[0]
    short = re.sub(r"^(instances|annotations?|person_keypoints|panoptic|stuff|bbox|coco)[_-]+", "", stem)
    return tuple(dict.fromkeys((short, re.sub(r"[\d_-]+$", "", short) or short, stem)))


def find_root(uri: str, names: Sequence[str], *, tags: Iterable[str] = (), given: str = "") -> str:
    """Return the folder that picture names of a file of annotations are relative to.

    Args:
        uri: of the file.
        names: of some of its pictures; that folder wins which has most of them.
        given: the only folder to look in (and in its own folders named by `tags`), "" for those beside the file.

    Raises:
        WrongInput: none of them is anywhere; says where was looked.
    """
    places = _places(uri, tuple(tags), given)
    step = max(1, len(names) // TRIED)
    some = names[::step][:TRIED]
    if all("://" in name or name.startswith("/") for name in some):
        return places[0]
    best, found = "", 0
    for place in places:
        store = storage.open_store(place)
        here = sum(store.exists(name) for name in some)
        if here > found:
            best, found = place, here
        if found == len(some):
            break
    if not found:
        raise WrongInput(
            f"{uri}: none of its pictures (e.g. {', '.join(some[:2])}) was found; looked in {', '.join(places)}; "
            "--image-root names their folder"
        )
    return best


def missing(root: str, names: Sequence[str]) -> list[str]:
    """Return which pictures are not there, with one listing a folder."""
    listed: dict[str, frozenset[str]] = {}
    gone: list[str] = []
    for name in names:
        if "://" in name or name.startswith("/"):
            # Named by itself, perhaps somewhere else: seen when it is read.
            continue
        folder, _, own = name.rpartition("/")
        if folder not in listed:
            listed[folder] = frozenset(storage.open_store(root).names(folder))
        if own not in listed[folder]:
            gone.append(name)
    return gone


def missing_words(root: str, names: Sequence[str]) -> list[str]:
    """Return what is to be said of pictures that are not there: one line or none."""
    gone = missing(root, names)
    return [f"{len(gone):,} of {len(names):,} pictures are not in {root}: {shown(gone)}"] if gone else []


def _places(uri: str, tags: tuple[str, ...], given: str) -> list[str]:
    if given:
        tops, folders = [storage.normal(given)], ("",)
    else:
        own = storage.split(uri)[0]
        tops, folders = [top for top in (own, parent(own)) if top], FOLDERS
    found = [top if not folder else storage.join(top, folder) for top in tops for folder in folders]
    return [place for one in found for place in (one, *(storage.join(one, tag) for tag in tags))]
