"""Arrays inside .npz files, read row by row: nothing is unpickled, and nothing need fit into memory.

What a header announces is believed only as far as the archive has bytes for it, and never allocated before.
"""

import math
import sys
import warnings
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import numpy as np

from cfgbench.errors import UserError, reason
from cfgbench.files import open_entry, open_regular

LARGEST_ARRAY = 1 << 28
"""Bytes of an array that is read whole."""
LONGEST_TEXT = 4000
"""Bytes."""
NOT_ITS_FAULT = PermissionError, IsADirectoryError, MemoryError
"""What the same file fetched again would end in too."""


class _UnfitError(ValueError):
    """The array is whole, but not what is wanted: to fetch it again cannot help."""


def members(path: Path) -> dict[str, zipfile.ZipInfo]:
    """The arrays by name. Raises UserError for a file that is no zip."""
    try:
        with open_regular(path) as content, zipfile.ZipFile(content) as archive:
            return {entry.filename.removesuffix(".npy"): entry for entry in archive.infolist()}
    except NOT_ITS_FAULT as error:
        raise UserError(f"{path}: cannot be read ({reason(error)})") from None
    except Exception as error:  # a damaged zip fails in many ways, all of which mean the same
        raise UserError(f"{path}: not a whole .npz file ({reason(error)}); fetch it again") from None


def array(path: Path, name: str, largest: int = LARGEST_ARRAY) -> np.ndarray:
    """A whole array of plain numbers or text, in C order and the machine's own byte order. Raises UserError."""
    with _entry(path, name) as (file, entry):
        shape, fortran, dtype = array_header(file, entry.file_size)
        if entry.file_size > largest:
            raise _UnfitError(f"{entry.file_size:,} bytes, where {largest:,} are the most")
        if dtype.kind not in "fiuU":
            raise _UnfitError(f"an array of {dtype}, where numbers are expected")
        content = file.read(math.prod(shape) * dtype.itemsize)
        if dtype.kind == "U":
            _check_text(content, dtype)
        file.read(1)  # the archive compares its checksum when the end is read
        whole = np.frombuffer(content, dtype).reshape(shape, order="F" if fortran else "C")
        return whole.astype(dtype.newbyteorder("="), order="C")


def _check_text(content: bytes, dtype: np.dtype) -> None:
    """Raises ValueError for what numpy would make a str of that Python cannot bear."""
    if len(content) > LONGEST_TEXT or (np.frombuffer(content, f"{dtype.byteorder}u4") > sys.maxunicode).any():
        raise ValueError("no text")


def header(path: Path, name: str) -> tuple[tuple[int, ...], np.dtype]:
    """(shape, dtype) of an array of rows in C order. Raises UserError."""
    with _entry(path, name) as (file, entry):
        return _rows_of(file, entry)


def rows(path: Path, name: str, size: int) -> Iterator[np.ndarray]:
    """The array in pieces of at most `size` rows; the archive's checksum is checked at the end. Raises UserError."""
    with _entry(path, name) as (file, entry):
        (count, *shape), dtype = _rows_of(file, entry)
        width = math.prod(shape) * dtype.itemsize
        for begin in range(0, count, size):
            b = min(size, count - begin)
            content = file.read(b * width)
            if len(content) != b * width:
                raise ValueError("it ends early")
            yield np.frombuffer(content, dtype).reshape(b, *shape)
        file.read(1)  # the archive compares its checksum when the end is read


@contextmanager
def _entry(path: Path, name: str) -> Iterator[tuple[IO[bytes], zipfile.ZipInfo]]:
    """An array's file and its place in the archive. Whatever goes wrong with them is the array's: damaged zips, and
    headers that are no headers, fail in many ways."""
    try:
        with open_regular(path) as content, zipfile.ZipFile(content) as archive:
            entry = archive.getinfo(f"{name}.npy")
            try:
                file = open_entry(archive, entry)
            except ValueError as error:
                raise _UnfitError(str(error)) from None
            with file:
                yield file, entry
    except Exception as error:
        way_out = "" if isinstance(error, (_UnfitError, *NOT_ITS_FAULT)) else "; fetch it again"
        raise UserError(f"{path}: {name} cannot be read ({reason(error)}){way_out}") from None


def _rows_of(file: IO[bytes], entry: zipfile.ZipInfo) -> tuple[tuple[int, ...], np.dtype]:
    """(shape, dtype). Raises ValueError for what is no array of rows of numbers in C order."""
    shape, fortran, dtype = array_header(file, entry.file_size)
    if fortran and len(shape) > 1:
        raise _UnfitError("columns stand before rows; save it in C order")
    if not shape:
        raise _UnfitError(f"an array {shape} of {dtype}, where rows of numbers are expected")
    return shape, dtype


def array_header(file: IO[bytes], size: int) -> tuple[tuple[int, ...], bool, np.dtype]:
    """(shape, whether columns stand before rows, dtype) of a .npy file of so many bytes, read up to where its numbers
    begin. Raises ValueError where it is not as long as they say; other headers fail in many ways."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # numpy's, about headers of an old Python
        version = np.lib.format.read_magic(file)
        reader = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, fortran, dtype = reader(file)
    if dtype.hasobject or min(shape, default=0) < 0 or not dtype.itemsize:
        raise _UnfitError(f"an array {shape} of {dtype}, where numbers are expected")
    if math.prod(shape) * dtype.itemsize != size - file.tell():
        raise ValueError(f"an array {shape} of {dtype} in {size} bytes")
    return shape, fortran, dtype
