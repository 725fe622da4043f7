"""Files that are written whole or not at all, and what they contain in a few hex digits."""

import errno
import hashlib
import json
import os
import stat
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

from cfgbench.errors import UserError


def write_atomically(path: Path, content: bytes | Callable[[Path], None]) -> None:
    """Writes `path` whole or not at all: into a temporary file beside it, flushed to the disk, then renamed over it.

    `content` is the bytes, or a function that writes a file at the path it is given. Folders are made as needed. A file
    that cannot be written is a UserError that names it.
    """
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
        os.close(descriptor)
        temporary = Path(name)
        if callable(content):
            content(temporary)
        else:
            temporary.write_bytes(content)
        flush_to_disk(temporary)
        temporary.chmod(0o666 & ~_umask())  # mkstemp makes files that only their owner can read
        os.replace(temporary, path)
        temporary = None
    except OSError as error:
        raise UserError(
            f"{path}: cannot be written ({error.strerror or error}); choose another --results folder"
        ) from None
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def flush_to_disk(path: Path) -> None:
    """Returns when the file's content will survive a loss of power."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def read_at_most(path: Path, largest: int) -> bytes:
    """The content of a regular file. Raises OSError, and ValueError for a file of more than `largest` bytes."""
    with open_regular(path) as file:
        content = file.read(largest + 1)
    if len(content) > largest:
        raise ValueError(f"larger than {largest:,} bytes")
    return content


def open_regular(path: Path) -> IO[bytes]:
    """Opens a file for reading. Raises OSError at once for what might never end or never begin: a device, a pipe."""
    if not stat.S_ISREG(path.stat().st_mode):
        kind = errno.EISDIR if path.is_dir() else errno.EINVAL
        raise OSError(kind, "a folder" if kind == errno.EISDIR else "not a regular file", str(path))
    return path.open("rb")


def file_digest(path: Path) -> str:
    """The SHA-256 of a file's bytes, 64 hex digits."""
    with open_regular(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def identity(content: Any) -> str:
    """16 hex digits that name `content` (anything JSON can hold), the same on every machine and in every run."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
