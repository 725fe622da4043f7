"""How the program begins and ends: whatever happens is one line, and an exit code that tells who is to act."""

import contextlib
import os
import signal
import sys
from collections.abc import Callable, Iterable, Iterator
from io import TextIOWrapper
from pathlib import Path
from typing import Any, NoReturn

import typer

from cfgbench.errors import Passing, UserError, printable, reason
from cfgbench.progress import ERASED, redraws
from cfgbench.wording import GOES_ON

LONGEST_LINE = 900
"""Characters of an error."""
STOPPED = 130
"""The exit code after Ctrl-C or SIGTERM, as shells have it."""


def say(message: str, code: int) -> int:
    """Prints one line on stderr, and returns the exit code that it is given.

    A line that is absurdly long, for names and values in it are other people's, is cut in its middle.
    """
    line = printable(" ".join(message.split()))
    if len(line) > LONGEST_LINE:
        line = f"{line[: LONGEST_LINE * 2 // 3]} ... {line[-LONGEST_LINE // 3 :]}"
    tell(f"cfgbench: {line}")
    return code


def note(message: str) -> None:
    """One line on stderr that changes no exit code."""
    tell(f"note: {printable(message)}")


def tell(line: str) -> None:
    """A line on stderr as it is, in place of a bar that is drawn there."""
    with contextlib.suppress(OSError):  # a log that is full or closed stops nothing, and changes no exit code
        print(ERASED * redraws() + line, file=sys.stderr, flush=True)


def unprinted(show: Callable[..., None], *what: Any) -> OSError | None:
    """Prints what `show(*what)` does; returns what keeps it from being written, for a log that is full stops no work.
    Raises BrokenPipeError where nobody reads."""
    try:
        show(*what)
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        return error
    return None


def each(works: Iterable[Callable[[], None]]) -> None:
    """Does each of them, whether or not another can be done; what is wrong is said, and is exit code 2."""
    failed = 0
    for work in works:
        try:
            work()
        except UserError as error:
            failed = say(str(error), 2)
    if failed:
        raise typer.Exit(failed)


class Stopped(Exception):
    """A command ended early, with this exit code."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code


@contextlib.contextmanager
def goes_on() -> Iterator[None]:
    """A command that loses nothing when it is stopped: that is said then. Raises Stopped, and UserError."""
    try:
        yield
    except KeyboardInterrupt:
        raise Stopped(f"stopped; {GOES_ON}", STOPPED) from None
    except (MemoryError, RuntimeError) as error:
        if not _out_of_memory(error):
            raise
        raise Stopped(f"out of memory; {GOES_ON}", 1) from None
    except BrokenPipeError:
        raise Stopped(f"nobody reads the output any more; {GOES_ON}", 1) from None
    except Passing as error:
        raise UserError(f"{error}, and the same command goes on from there") from None


def prepare() -> None:
    """Takes the terminal and the signals as they may be: streams that are closed, names that it cannot show, a
    connection that ends, settings of figures that are a notebook's or the user's own."""
    os.environ["MPLBACKEND"] = "agg"  # matplotlib ends where it does not know the notebook's
    os.environ["MATPLOTLIBRC"] = os.devnull  # figures are the same everywhere, and no setting of another's breaks them
    for name in ("stdout", "stderr"):  # closed by whoever began us
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open("w"))  # noqa: SIM115 (for as long as we are)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a name that the terminal's encoding lacks stops nothing
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    if signal.getsignal(signal.SIGHUP) == signal.SIG_DFL:  # nohup ignores it
        signal.signal(signal.SIGHUP, signal.default_int_handler)


def end(command: Callable[[], int | None]) -> NoReturn:
    """Runs the command, and exits: 0, 1 (a cell or a training failed, or memory ran out), 2 (what cannot be used or
    written), 130 (stopped by Ctrl-C, SIGTERM or SIGHUP)."""
    try:
        code = command()
        if code == STOPPED:  # as typer has it
            raise KeyboardInterrupt
    except UserError as error:
        code = say(str(error), 2)
    except Stopped as error:
        code = say(str(error), error.code)
    except (KeyboardInterrupt, typer.Abort):
        code = say("stopped", STOPPED)
    except SystemExit as error:
        if isinstance(error.__context__, BrokenPipeError):  # as typer has it: whoever reads our output has seen enough
            os._exit(0)
        raise
    except BrokenPipeError:
        os._exit(0)
    except OSError as error:
        code = say(_told(error), 2)
    except (MemoryError, RuntimeError) as error:
        if not _out_of_memory(error):
            raise
        code = say("out of memory", 1)
    except Exception as error:
        if not hasattr(error, "format_message"):  # click's own: an unknown option, a missing argument
            raise
        if type(error).__name__ == "NoArgsIsHelpError":
            print(error.format_message())
            sys.exit(2)
        command = getattr(getattr(error, "ctx", None), "command_path", "cfgbench")
        code = say(f"{error.format_message().rstrip('.')}; see {command} --help", 2)
    sys.exit(_flushed(code or 0))


def _out_of_memory(error: Exception) -> bool:
    """Of Python, or of torch, which is not loaded for the sake of asking."""
    if isinstance(error, MemoryError):
        return True
    from cfgbench.models.precision import out_of_memory

    return out_of_memory(error)


def _told(error: OSError) -> str:
    if "No usable temporary directory" in str(error):  # as tempfile has it, which names no file
        return "no folder for temporary files; set TMPDIR to a folder that can be written"
    return f"{os.fsdecode(error.filename or 'standard output, or a file')}: {reason(error)}"


def _flushed(code: int) -> int:
    """The exit code once all that was printed is written: Python's own last flush would make it 120."""
    for stream in filter(None, (sys.stdout, sys.stderr)):
        try:
            stream.flush()
        except OSError as error:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
            if stream is sys.stdout and not isinstance(error, BrokenPipeError):
                code = code or say(f"standard output: {reason(error)}", 2)
    return code
