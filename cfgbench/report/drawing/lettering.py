"""What words become in a figure: which letters there are, how wide they are, and the lines that they fill; nothing has
to be drawn for that."""

from collections.abc import Iterator, Sequence
from functools import cache

from matplotlib.backends.backend_agg import get_hinting_flag
from matplotlib.font_manager import FontProperties, findfont, get_font
from matplotlib.ft2font import FT2Font

DPI = 160
"""Pixels of a PNG in an inch: letters are as wide as whole pixels make them."""


def written(text: str, *, bold: bool = False) -> str:
    """The text with `?` for each letter that the font lacks, for which matplotlib draws a box and warns."""
    return "".join(character if _has(character, bold) else "?" for character in text)


def width(text: str, size: float, *, bold: bool = False) -> float:
    """Pixels that a line of text takes at a size in points, or slightly more: no pair of letters is moved together.
    The font has its letters (see `written`)."""
    return sum(_advance(character, size, bold) for character in text)


def filled(text: str, room: float, size: float, *, bold: bool = False) -> list[str]:
    """The text in lines of at most `room` pixels. A word that is wider by itself is divided."""
    return _lines(list(_words(text, room, size, bold)), room, size, bold)


def balanced(text: str, room: float, size: float) -> list[str]:
    """Lines of at most `room` pixels, as few as possible and about equally long."""
    words = list(_words(text, room, size, bold=False))
    lines = _lines(words, room, size, bold=False)
    low, high = width(text, size) / max(len(lines), 1), room
    while high - low > 1:
        middle = (low + high) / 2
        if len(narrower := _lines(words, middle, size, bold=False)) <= len(lines):
            lines, high = narrower, middle
        else:
            low = middle
    return lines


def _lines(words: Sequence[str], room: float, size: float, bold: bool) -> list[str]:
    """As many words a line as there is room for; a wider one stands alone."""
    lines: list[str] = []
    left, space = 0.0, _advance(" ", size, bold)
    for word in words:
        wide = width(word, size, bold=bold)
        if lines and space + wide <= left:
            lines[-1] += f" {word}"
            left -= space + wide
        else:
            lines.append(word)
            left = room - wide
    return lines


def _words(text: str, room: float, size: float, bold: bool) -> Iterator[str]:
    """What stands between spaces, in pieces where it is wider than `room`."""
    for word in filter(None, text.split(" ")):
        piece, wide = "", 0.0
        for character in word:
            step = _advance(character, size, bold)
            if piece and wide + step > room:
                yield piece
                piece, wide = "", 0.0
            piece, wide = piece + character, wide + step
        yield piece


@cache
def _has(character: str, bold: bool) -> bool:
    return _font(bold).get_char_index(ord(character)) > 0


@cache
def _advance(character: str, size: float, bold: bool) -> float:
    """How far a letter moves the next one: in a PNG by whole pixels, in an SVG by what the font says."""
    font = _font(bold)
    font.set_size(size, DPI)
    glyph = font.load_char(ord(character), flags=get_hinting_flag())
    return max(glyph.horiAdvance / 64, glyph.linearHoriAdvance / 65536)


def _font(bold: bool) -> FT2Font:
    """Not held: matplotlib forgets its fonts in a process that draws, as two must not read one open file."""
    return get_font(findfont(FontProperties(weight="bold" if bold else "normal")))
