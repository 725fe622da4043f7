"""What a person gave cannot be used, and how that is quoted: on one line, cut short, and fit for a terminal."""

from typing import Any

LONGEST = 60
"""Characters of a value that an error quotes."""


class UserError(Exception):
    """A file, a key or an option that cannot be used.

    The message is one line: the file or place, the key, the value, and the way out. The command line prints it and
    exits with 2; what was finished by then is kept.
    """


class Passing(UserError):
    """Nothing can be written there as things are; once they are mended, the same command can be run again."""


class Unprepared(UserError):
    """Images that are to be prepared first, which takes long, and were not to be now."""


def printable(text: object) -> str:
    """The text with all that is no visible character as an escape: no new line, no terminal code, no lone surrogate."""
    words = str(text)
    if words.isprintable():
        return words
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in words)


def said(value: object) -> str:
    """str(value), or nothing: the exceptions of a user's own code may fail at that, too."""
    try:
        return str(value)
    except Exception:
        return ""


def brief(value: Any, *, quoted: bool = True) -> str:
    """A value for a message, cut to 60 characters; a text in quotes unless it is a message of its own, up to 200."""
    text, longest = (repr(value), LONGEST) if quoted else (" ".join(said(value).split()), 200)
    return text if len(text) <= longest else f"{text[: longest - 3]}..."


def counted(count: int, thing: str) -> str:
    """`1 cell`, `2,000 cells`."""
    return f"{count:,} {thing}{'s' * (count != 1)}"


def reason(error: BaseException, longest: int = 100) -> str:
    """What an error says, on one line: without number and path where the system says it."""
    text = " ".join(str(getattr(error, "strerror", None) or said(error)).split())
    return (text or type(error).__name__)[:longest]
