"""Owns what an image is: whether sampled values of a column are some, by name or as bytes, and where a name leads."""

import io
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from carryover.ground import storage, uris
from carryover.ground.errors import WrongInput

if TYPE_CHECKING:
    from carryover.data.tally import Sampled

# A name without one of these is not even looked for: each look is a request where the source is an object store.
ENDINGS = (".jpg", ".jpeg", ".jfif", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm", ".avif")
THREADS = 16
# The array of a preprocessor that is the label itself, turned as the picture was.
TRUTH = "truth"


class NotUsable(Exception):
    """Raised while a training batch is prepared: the rows at `places` shall give way to others."""

    def __init__(self, places: Sequence[int], why: str) -> None:
        super().__init__(why)
        self.places = tuple(places)


def share_opened(sample: "Sequence[Sampled]") -> float:
    """Return which share of sampled values opens as an image; of several names in one value ("a.jpg;b.jpg"), one must.

    Relative names are looked for in the folder of the file that they stand in.
    """
    named = [entry for entry in sample if isinstance(entry.value, bytes) or _names(entry)]
    if not named:
        return 0.0
    with ThreadPoolExecutor(min(THREADS, len(named))) as pool:
        return sum(pool.map(_opens, named)) / len(sample)


def _names(entry: "Sampled") -> list[str]:
    """Return the names in a text value that could be images."""
    names = entry.value.split(";") if isinstance(entry.value, str) else []
    return [name.strip() for name in names if name.strip().lower().endswith(ENDINGS)]


def _opens(entry: "Sampled") -> bool:
    if isinstance(entry.value, bytes):
        return is_image(entry.value)
    return any(_opens_file(entry.folder, name) for name in _names(entry))


def _opens_file(folder: str, name: str) -> bool:
    try:
        with storage.open_uri(resolve(folder, name)) as file:
            return is_image(file.read())
    except (OSError, WrongInput):
        # Not there, not readable, or no place at all: the value names no image.
        return False


def resolve(folder: str, name: str) -> str:
    """Return the URI that a name stands for in a file of `folder`.

    Raises:
        WrongInput: a file of this machine, named by a file in an object store.
    """
    if not ("://" in name or name.startswith("/")):
        return storage.join(folder, name)
    # What is no place at all is for the reader to say, with all others that can't be read.
    return uris.reached(name, folder) if name.startswith(("/", "file:")) else name


def is_image(data: bytes) -> bool:
    """Tell whether bytes begin as an image does; its pixels are not decoded."""
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(io.BytesIO(data)):
            return True
    except (UnidentifiedImageError, OSError, ValueError, Image.DecompressionBombError):
        return False
