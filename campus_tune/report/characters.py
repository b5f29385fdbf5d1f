"""Characters of a training set as a page and a picture can hold them."""

from __future__ import annotations


def visible(text: str) -> str:
    r"""Every character one that can be seen.

    Control characters get their pictures, half of a surrogate pair a mark; line ends and tabs stay what they are.

    >>> visible("a\x00b\nc\ud800")
    'a␀b\nc�'
    """
    return "".join(map(_one, text))


def _one(character: str) -> str:
    code = ord(character)
    if code < 32 and character not in "\n\t":
        return chr(0x2400 + code)
    if code == 0x7F:
        return "\u2421"
    beyond = (
        0x80 <= code < 0xA0 or 0xD800 <= code < 0xE000 or code in (0xFFFE, 0xFFFF)
    )  # no text of a page may hold them
    return "\ufffd" if beyond else character
