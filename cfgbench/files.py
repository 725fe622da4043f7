"""Files that are written whole or not at all, locks between processes, and contents named by a few hex digits."""

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import stat
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

from cfgbench.errors import Passing, UserError, reason

SWEEP_FILES = ".yaml", ".yml"
"""What the name of a sweep file ends in."""
_LONGEST_NAME = 50
"""Characters, of 4 bytes at most where a file system has 255; names in results are shorter."""


def write_atomically(path: Path, content: bytes | Callable[[Path], None]) -> None:
    """Writes `path` whole or not at all: into a temporary file beside it, flushed to the disk, then renamed over it.

    `content` is the bytes, or a function that writes a file at the path it is given. Its folder is made if need be, but
    not the folder around that: it may have vanished for a while. A file that cannot be written is a UserError.
    """
    temporary = None
    try:
        _make_one(path.parent)
        # of a long name the beginning: the whole would be too long
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name[:_LONGEST_NAME]}.", suffix=".part")
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
        flush_to_disk(path.parent)  # the new name too
    except OSError as error:
        raise _unwritable_now(path, error) from None
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def _make_one(folder: Path) -> None:
    """Makes the folder, and not those around it. Raises OSError."""
    try:
        folder.mkdir(exist_ok=True)
    except FileExistsError:
        if folder.exists():  # as a file
            raise
        # it was there, and has vanished since the system said so
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(folder)) from None


def unwritable(path: Path, error: OSError, way_out: str) -> UserError:
    """What is said where the system lets no file or folder be written there."""
    return UserError(f"{path}: cannot be written ({error.strerror or error}); {way_out}")


def _unwritable_now(path: Path, error: OSError) -> UserError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return Passing(str(unwritable(path, error, "make room")))
    if error.errno == errno.ENOENT:
        return Passing(str(unwritable(path, error, "its folder has vanished; bring it back")))
    return unwritable(path, error, "choose another folder")


def cache_folder() -> Path:
    """CFGBENCH_CACHE, else cfgbench in the user's cache folder. Raises UserError for a user without a home."""
    if named := os.environ.get("CFGBENCH_CACHE"):
        return Path(named)
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "cfgbench"
    except RuntimeError:
        raise UserError("no home folder for the cache; name a folder in CFGBENCH_CACHE") from None


def make_folder(path: Path) -> None:
    """Makes a folder and those around it. Raises UserError."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise unwritable(path, error, "choose another folder") from None


def flush_to_disk(path: Path) -> None:
    """Returns when the content of the file or folder will survive a loss of power."""
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
        there = os.fstat(file.fileno()).st_size  # as much memory is asked for, not as could be there
        content = file.read(min(there, largest) + 1)
    if len(content) > largest:
        raise ValueError(f"larger than {largest:,} bytes")
    return content


def open_regular(path: Path) -> IO[bytes]:
    """Opens a file for reading. Raises OSError at once for what might never end or never begin: a device, a pipe."""
    if not stat.S_ISREG(path.stat().st_mode):
        kind = errno.EISDIR if path.is_dir() else errno.EINVAL
        raise OSError(kind, "a folder" if kind == errno.EISDIR else "not a regular file", str(path))
    return path.open("rb")


def open_entry(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> IO[bytes]:
    """A file of a zip, of which no more is inflated at a time than is read. Raises ValueError where that cannot be."""
    if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ValueError("neither stored nor deflated; make the zip anew in the usual way")
    if entry.flag_bits & 1:
        raise ValueError("encrypted; make the zip anew without a password")
    return archive.open(entry)


def file_digest(path: Path) -> str:
    """The SHA-256 of a file's bytes, 64 hex digits."""
    with open_regular(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest_named(key: str, path: Path) -> str:
    """The digest of the file that a key of the sweep file names. Raises UserError."""
    try:
        return file_digest(path)
    except OSError as error:
        raise UserError(f"{key} = {path}: {reason(error)}") from None


def identity(content: Any) -> str:
    """16 hex digits that name `content` (anything JSON can hold), the same on every machine and in every run."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@contextlib.contextmanager
def try_lock(path: Path) -> Iterator[bool]:
    """Whether this process alone holds the lock named by `path`, until the context ends.

    The system lets go of the locks of a process that dies. Where the file system has no locks everybody gets them: work
    may then be done twice, to the same end. Raises UserError where the file cannot be made.
    """
    try:
        _make_one(path.parent)
        file = path.open("w")
    except OSError as error:
        raise _unwritable_now(path, error) from None
    with file:
        held = try_flock(file.fileno()) and _is_at(file.fileno(), path)
        try:
            yield held
        finally:
            if held:
                with contextlib.suppress(OSError):  # a lock that is left behind is free to be taken
                    path.unlink()


def try_flock(descriptor: int) -> bool:
    """Locks an open file for this process, if no other holds it. True too where the file system has no locks."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno not in (errno.EAGAIN, errno.EACCES)
    return True


def _is_at(descriptor: int, path: Path) -> bool:
    """Whether the open file is still the one at `path`: its last holder may have removed it in between."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except OSError:
        return False
