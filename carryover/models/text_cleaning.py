"""Owns `data.text.normalize_text`: text that was decoded wrongly is mended, and all of it written in ASCII.

ftfy makes "cafÃ© crÃ¨me" into "café crème", and anyascii that into "cafe creme".
"""

from collections.abc import Sequence


def clean(texts: Sequence[str | None]) -> list[str | None]:
    """Return texts in plain ASCII, None where one is missing.

    AutoMM encodes with raw_unicode_escape first, which spells every character above U+00FF out (a typographic quote
    becomes the six characters backslash, u, 2, 0, 1, 9), so those are never transliterated; here they are.
    """
    from anyascii import anyascii
    from ftfy import fix_encoding

    return [None if text is None else anyascii(fix_encoding(text)) for text in texts]
