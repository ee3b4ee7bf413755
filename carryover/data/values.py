"""Owns what a raw value is: its kind, its text, its canonical form, and its stored form.

CSV has text only, so what a value says decides its kind; Parquet and JSON have types of their own. A column's kinds are
the union over all its values, and decide how it is stored at last, whatever the file or batch a value stood in:

    bool                  -> bool          int, float -> double          bytes -> binary
    int                   -> int64         anything else, or a mixture -> string

    kind      CSV text                     JSON, Parquet
    bool      true, True, TRUE, ...        bool
    int       -12 (at most 18 digits)      integers up to 64 bits
    float     1.5  1e-3  +1  inf           floating point, decimal
    digits    007, or 19 digits and more   text that says a number; integers beyond 64 bits
    text      anything else                other text, dates and times
    bytes     -                            binary; structs whose field "bytes" is (images, as `datasets` writes them)
    images    -                            lists of binary
    nested    -                            other lists, structs, maps
"""

import json

import numpy as np
import pyarrow as pa

from carryover.data.compute import pc

NUMERIC = frozenset({"bool", "int", "float", "digits"})

_BOOL_WORDS = pa.array(["true", "True", "TRUE", "false", "False", "FALSE"])
_INF_WORDS = r"[+-]?(inf|Inf|INF|infinity|Infinity)"
_INT = r"^[ \t]*-?(0|[1-9]\d{0,17})[ \t]*$"
_NUMBER = rf"^[ \t]*([+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?|{_INF_WORDS})[ \t]*$"
# As a number these would lose what makes them different from others: leading zeros, digits past a double's.
_LOSSY = r"^[ \t]*[+-]?(0\d|\d{19,}[ \t]*$)"
_SHORT_NUMBER = r"^[ \t]*[+-]?(\d{1,15}(\.\d{0,40})?|\.\d{1,40})([eE][+-]?\d{1,3})?[ \t]*$"
_PLAIN = r"^(0|-?[1-9]\d*)$"


def text_kinds(texts: pa.Array, *, typed: bool) -> frozenset[str]:
    """Return the kinds of a string array's values, missing ones left out.

    Args:
        typed: the source has types, so that text is text even where it says a number (then "digits").
    """
    values = texts.drop_null()
    if not len(values):
        return frozenset()
    number = pc.match_substring_regex(values, _NUMBER)
    numbers = values.filter(number)
    kinds = set()
    if len(numbers) < len(values):
        rest = values.filter(pc.invert(number))
        words = 0 if typed else pc.sum(pc.is_in(rest, value_set=_BOOL_WORDS)).as_py()
        kinds |= {"bool"} if words else set()
        kinds |= {"text"} if words < len(rest) else set()
    if typed:
        return frozenset(kinds | ({"digits"} if len(numbers) else set()))
    whole = pc.match_substring_regex(numbers, _INT)
    others = numbers.filter(pc.invert(whole))
    lossy = pc.sum(pc.match_substring_regex(others, _LOSSY)).as_py() or 0
    kinds |= {"int"} if len(others) < len(numbers) else set()
    kinds |= {"digits"} if lossy else set()
    kinds |= {"float"} if lossy < len(others) else set()
    return frozenset(kinds)


def first_word(texts: pa.Array) -> int:
    """Return the place of the first value that is neither missing nor a number, -1 where there is none."""
    words = pc.invert(pc.match_substring_regex(texts, _NUMBER))
    return pc.index(words, True).as_py()


def count_words(texts: pa.Array, *, typed: bool) -> int:
    """Return how many values say no number; see `text_kinds` for `typed`."""
    number = pc.match_substring_regex(texts, _NUMBER)
    if not typed:
        number = pc.or_(number, pc.is_in(texts, value_set=_BOOL_WORDS))
    return pc.sum(pc.invert(number)).as_py() or 0


def typed_array(array: pa.Array) -> tuple[pa.Array, frozenset[str]]:
    """Bring an array of a typed source to one of bool, int64, double, string, binary or null; return it and its kinds.

    A nested array comes back as nulls of kind "nested": such columns can only be left out. NaN is missing.
    """
    kind = array.type
    if isinstance(array, pa.ExtensionArray):
        return typed_array(array.storage)
    if pa.types.is_dictionary(kind):
        return typed_array(array.cast(kind.value_type))
    if pa.types.is_null(kind) or array.null_count == len(array):
        return pa.nulls(len(array)), frozenset()
    if pa.types.is_struct(kind) and kind.get_field_index("bytes") >= 0:
        return typed_array(pc.struct_field(array, "bytes"))
    if (pa.types.is_list(kind) or pa.types.is_large_list(kind)) and _is_binary(kind.value_type):
        return pc.cast(array, _ARROW["list<binary>"]), frozenset({"images"})
    if pa.types.is_nested(kind):
        return pa.nulls(len(array)), frozenset({"nested"})
    if pa.types.is_boolean(kind):
        return array, frozenset({"bool"})
    if pa.types.is_uint64(kind) and pc.max(array).as_py() >= 2**63:
        return pc.cast(array, pa.string()), frozenset({"digits"})
    if pa.types.is_integer(kind):
        return pc.cast(array, pa.int64()), frozenset({"int"})
    if pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        array = pc.cast(array, pa.float64(), safe=False)
        array = pc.if_else(pc.is_nan(array), None, array)
        return array, frozenset({"float"}) if array.null_count < len(array) else frozenset()
    if _is_binary(kind):
        return pc.cast(array, pa.binary()), frozenset({"bytes"})
    text = pc.cast(array, pa.string())
    return text, text_kinds(text, typed=True)


def physical_type(kinds: frozenset[str]) -> str:
    """Return how values of these kinds are stored together, one of the types that have a name here, or "null"."""
    if not kinds or kinds == {"nested"}:
        return "null"
    if kinds <= {"int", "float"}:
        return "int64" if kinds == {"int"} else "double"
    alone = {"bool": "bool", "bytes": "binary", "images": "list<binary>"}
    return next((physical for kind, physical in alone.items() if kinds == {kind}), "string")


def as_text(array: pa.Array) -> pa.Array:
    """Return values as text: true, 12, 1.5 (a whole double without its ".0"); text stays as it is."""
    if pa.types.is_floating(array.type):
        array = pc.add(array, 0.0)  # -0.0 and 0.0 are one value
    return pc.cast(array, pa.string())


def canonical(array: pa.Array) -> pa.Array:
    """Return values as bytes that are equal where the values are, whatever type or file they stood in.

    1, 1.0 and "1.00" are equal, true and "True" too. Used to tell values and rows apart, never stored.
    """
    if pa.types.is_list(array.type) and pa.types.is_struct(array.type.value_type):
        texts = [None if value is None else json.dumps(value, sort_keys=True) for value in array.to_pylist()]
        return pc.cast(pa.array(texts, pa.string()), pa.binary())
    if pa.types.is_list(array.type):
        joined = [None if value is None else b"".join(filter(None, value)) for value in array.to_pylist()]
        return pa.array(joined, pa.binary())
    if not pa.types.is_string(array.type):
        return pc.cast(array if pa.types.is_binary(array.type) else as_text(array), pa.binary())
    number = pc.fill_null(
        pc.and_(pc.match_substring_regex(array, _SHORT_NUMBER), pc.invert(pc.match_substring_regex(array, _PLAIN))),
        False,
    )
    if pc.any(number).as_py():
        array = pc.replace_with_mask(array, number, as_text(_parse(array.filter(number), pa.float64())))
    word = pc.is_in(array, value_set=_BOOL_WORDS)
    if pc.any(word).as_py():
        array = pc.replace_with_mask(array, word, pc.utf8_lower(array.filter(word)))
    return pc.cast(array, pa.binary())


def to_physical(array: pa.Array, physical: str) -> pa.Array:
    """Bring a raw array to its column's physical type.

    Raises:
        pa.ArrowInvalid: a value that is not of the kinds the column was said to have.
    """
    raw = array.type
    if physical == "null" or pa.types.is_null(raw):
        return pa.nulls(len(array), pa.null() if physical == "null" else _ARROW[physical])
    if physical == "string":
        return as_text(array)
    if physical == "bool" and pa.types.is_string(raw):
        return pc.equal(pc.utf8_lower(array), "true")
    if physical in ("int64", "double") and pa.types.is_string(raw):
        return _parse(array, _ARROW[physical])
    return pc.cast(array, _ARROW[physical], safe=physical != "double")


def to_stored(array: pa.Array, *, physical: str, stored: str) -> pa.Array:
    """Bring a raw array to its stored type, by way of its physical one, so that equal columns are stored equal."""
    array = to_physical(array, physical)
    if stored == physical:
        return pc.add(array, 0.0) if stored == "double" else array
    if stored == "string":
        return as_text(array)
    if physical == "string":
        return _parse_mixture(array, _ARROW[stored])
    return pc.cast(array, _ARROW[stored], safe=False)


def not_finite(array: pa.Array) -> int:
    """Return the place of the first infinite value of a double array, -1 where there is none."""
    return pc.index(pc.is_inf(array), True).as_py() if pa.types.is_floating(array.type) else -1


def words(texts: pa.Array) -> np.ndarray:
    """Return int64[n], the number of words (runs without white space) of each text, 0 where it is missing."""
    return np.asarray(pc.fill_null(pc.count_substring_regex(texts, r"\S+"), 0)).astype(np.int64)


_ARROW = {
    "bool": pa.bool_(),
    "int64": pa.int64(),
    "double": pa.float64(),
    "string": pa.string(),
    "binary": pa.binary(),
    # Named as Parquet names it, so that what is read back has the same type.
    "list<binary>": pa.list_(pa.field("element", pa.binary())),
}


def _parse(texts: pa.Array, kind: pa.DataType) -> pa.Array:
    return pc.cast(pc.utf8_trim(texts, " \t"), kind)


def _parse_mixture(texts: pa.Array, kind: pa.DataType) -> pa.Array:
    """Parse numbers of several kinds, truth values and whole numbers with a point among them."""
    word = pc.fill_null(pc.is_in(texts, value_set=_BOOL_WORDS), False)
    if pc.any(word).as_py() and not pa.types.is_boolean(kind):
        truth = pc.cast(pc.cast(pc.equal(pc.utf8_lower(texts.filter(word)), "true"), pa.int8()), pa.string())
        texts = pc.replace_with_mask(texts, word, truth)
    try:
        return _parse(texts, kind)
    except pa.ArrowInvalid:
        return pc.cast(_parse(texts, pa.float64()), kind)


def _is_binary(kind: pa.DataType) -> bool:
    return (
        pa.types.is_binary(kind)
        or pa.types.is_large_binary(kind)
        or pa.types.is_fixed_size_binary(kind)
        or pa.types.is_binary_view(kind)
    )
