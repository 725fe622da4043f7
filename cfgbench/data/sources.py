"""Where images lie: a folder or a zip, read alike. Nothing is extracted to disk, and nothing climbs out."""

import copy
import os
import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Protocol

from cfgbench.errors import UserError, reason
from cfgbench.files import open_entry, open_regular, read_at_most

LARGEST_FILE = 1 << 28
"""Bytes."""
DEEPEST = 64
MOST_LINKS = 4
"""Links to folders on the way to a file: folders that link to each other have endlessly many ways through them."""
MOST_FOLDERS = 1_000_000


class Source(Protocol):
    """Files, by their paths inside of a folder or zip."""

    where: str
    """The folder or zip, as messages name it."""

    def names(self) -> Iterable[str]:
        """The paths of all files, at any depth. Raises UserError for a folder that cannot be read or has no end, and
        for a zip whose files climb out of it."""
        ...

    def read(self, name: str, largest: int = LARGEST_FILE) -> bytes:
        """The bytes of a file. Raises ValueError for more than `largest`, and what the system or the zip raises for one
        that cannot be read."""
        ...

    def stamp(self, name: str) -> tuple[int, int]:
        """Two numbers that change when the file does: its size, with its time in a folder, its checksum in a zip."""
        ...

    def folders(self) -> Iterable[str]:
        """The names of the folders directly in it, empty ones too."""
        ...

    def has(self, folder: str) -> bool:
        """Whether there is a folder at this path."""
        ...

    def below(self, folder: str) -> "Source":
        """The folder at this path, as a source of its own."""
        ...


def open_source(path: Path) -> Source:
    """The folder or zip at this path. Raises UserError for anything else."""
    check_there(path)
    return _Folder(path) if path.is_dir() else _Zip(path)


def check_there(path: Path) -> None:
    """Raises UserError where nothing is at this path, or nothing that may be looked at."""
    try:
        if not path.exists():
            raise UserError(f"{path}: no such file or folder")
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read ({reason(error)})") from None


class _Folder:
    def __init__(self, root: Path) -> None:
        self.root, self.where = root, str(root)

    def names(self) -> Iterable[str]:
        return _files(self.root, _Walk())

    def read(self, name: str, largest: int = LARGEST_FILE) -> bytes:
        return read_at_most(self.root / name, largest)

    def stamp(self, name: str) -> tuple[int, int]:
        status = (self.root / name).stat()
        return status.st_size, status.st_mtime_ns

    def folders(self) -> Iterable[str]:
        return [entry.name for entry in self.root.iterdir() if entry.is_dir()] if self.root.is_dir() else []

    def has(self, folder: str) -> bool:
        return (self.root / folder).is_dir()

    def below(self, folder: str) -> Source:
        return _Folder(self.root / folder)


@dataclass
class _Walk:
    """How many folders were looked into so far."""

    folders: int = 0

    def enter(self, folder: Path, depth: int, links: int) -> None:
        """Raises UserError where there is no end in sight."""
        self.folders += 1
        if depth > DEEPEST or links > MOST_LINKS or self.folders > MOST_FOLDERS:
            raise UserError(
                f"{folder}: more than {DEEPEST} folders deep, {MOST_LINKS} links on the way or {MOST_FOLDERS:,} "
                "folders in all; name a folder that holds the images and little else"
            )


def _files(
    folder: Path, walk: _Walk, prefix: str = "", above: frozenset[tuple[int, int]] = frozenset(), links: int = 0
) -> Iterator[str]:
    """All files below a folder, through links too, unless a link leads back to a folder that it is in."""
    walk.enter(folder, len(above), links)
    try:
        status = folder.stat()
        if (status.st_dev, status.st_ino) in above:
            return
        above |= {(status.st_dev, status.st_ino)}
        with os.scandir(folder) as scanned:
            entries = list(scanned)
    except OSError as error:
        raise UserError(f"{folder}: cannot be read ({reason(error)})") from None
    for entry in entries:
        if entry.is_file() or (entry.is_symlink() and not os.path.exists(folder / entry.name)):  # noqa: PTH110
            yield prefix + entry.name  # a link that leads nowhere is a file that cannot be read
        elif entry.is_dir():
            inner = links + entry.is_symlink()
            yield from _files(folder / entry.name, walk, f"{prefix}{entry.name}/", above, inner)


def _plain(name: str) -> str:
    """The name of a zip's entry without what changes nothing; that of a folder ends in /."""
    return str(PurePosixPath(name)) + "/" * name.endswith("/")


class _Zip:
    def __init__(self, path: Path) -> None:
        self.where, self.prefix = str(path), ""
        try:
            self.archive = zipfile.ZipFile(open_regular(path))
        except Exception as error:  # a damaged zip fails in many ways, all of which mean the same
            wanted = "name a folder or zip of PNG or JPEG"
            raise UserError(f"{path}: neither a folder nor a whole zip file ({reason(error)}); {wanted}") from None
        # of two of one name the later one; some programs write ./ before all of them
        entries = {_plain(name): entry for name, entry in self.archive.NameToInfo.items()}
        self.entries = {name: entry for name, entry in entries.items() if name != "./"}

    def names(self) -> Iterable[str]:
        for plain, entry in self.entries.items():
            name = PurePosixPath(entry.filename)
            if not name.parts:
                raise UserError(f"{self.where}: a file without a name; make the zip anew")
            if "\\" in entry.filename:
                wrong = f"{entry.filename!r} has \\ between folders, where zips have /"
                raise UserError(f"{self.where}: {wrong}; pack them with another program")
            if name.is_absolute() or ".." in name.parts:
                raise UserError(f"{self.where}: {entry.filename!r} climbs out of the archive; make the zip anew")
            if not plain.endswith("/") and plain.startswith(self.prefix):
                yield plain.removeprefix(self.prefix)

    def read(self, name: str, largest: int = LARGEST_FILE) -> bytes:
        entry = self.entries[self.prefix + name]
        if entry.file_size > largest:
            raise ValueError(f"larger than {largest:,} bytes")
        with open_entry(self.archive, entry) as file:
            return file.read(entry.file_size + 1)  # without a number all that it inflates to would be made

    def stamp(self, name: str) -> tuple[int, int]:
        entry = self.entries[self.prefix + name]
        return entry.file_size, entry.CRC

    def folders(self) -> Iterable[str]:
        inside = (name.removeprefix(self.prefix) for name in self.entries if name.startswith(self.prefix))
        return {name.split("/", 1)[0] for name in inside if "/" in name}

    def has(self, folder: str) -> bool:
        return any(name.startswith(f"{self.prefix}{folder}/") for name in self.entries)

    def below(self, folder: str) -> Source:
        inner = copy.copy(self)
        inner.prefix, inner.where = f"{self.prefix}{folder}/", f"{self.where}/{folder}"
        return inner
