"""Arrays inside .npz files, read row by row: nothing is unpickled, and nothing need fit into memory."""

import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from cfgbench.errors import UserError

ERRORS = (OSError, KeyError, ValueError, EOFError, NotImplementedError, zipfile.BadZipFile, zlib.error)
"""What a file that was cut or is something else raises."""


def members(path: Path) -> dict[str, zipfile.ZipInfo]:
    """The arrays by name. Raises UserError for a file that is no zip."""
    try:
        with zipfile.ZipFile(path) as archive:
            return {entry.filename.removesuffix(".npy"): entry for entry in archive.infolist()}
    except ERRORS as error:
        raise UserError(f"{path}: not a whole .npz file ({error}); fetch it again") from None


def array(path: Path, name: str) -> np.ndarray:
    """A whole array, of plain numbers. Raises UserError."""
    try:
        with zipfile.ZipFile(path) as archive, archive.open(f"{name}.npy") as file:
            return np.lib.format.read_array(file, allow_pickle=False)
    except ERRORS as error:
        raise UserError(f"{path}: {name} cannot be read ({error}); fetch it again") from None


def header(path: Path, name: str) -> tuple[tuple[int, ...], np.dtype]:
    """(shape, dtype) of an array in C order. Raises UserError."""
    try:
        with zipfile.ZipFile(path) as archive, archive.open(f"{name}.npy") as file:
            return _header(file)
    except ERRORS as error:
        raise UserError(f"{path}: {name} cannot be read ({' '.join(str(error).split())}); fetch it again") from None


def rows(path: Path, name: str, size: int) -> Iterator[np.ndarray]:
    """The array in pieces of at most `size` rows; the archive's checksum is checked at the end. Raises UserError."""
    try:
        with zipfile.ZipFile(path) as archive, archive.open(f"{name}.npy") as file:
            (count, *shape), dtype = _header(file)
            width = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
            for begin in range(0, count, size):
                b = min(size, count - begin)
                content = file.read(b * width)
                if len(content) != b * width:
                    raise ValueError("it ends early")
                yield np.frombuffer(content, dtype).reshape(b, *shape)
            file.read(1)  # the archive compares its checksum when the end is read
    except ERRORS as error:
        raise UserError(f"{path}: {name}: {' '.join(str(error).split())}; fetch it again") from None


def _header(file: zipfile.ZipExtFile) -> tuple[tuple[int, ...], np.dtype]:
    version = np.lib.format.read_magic(file)
    reader = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, fortran, dtype = reader(file)
    if fortran and len(shape) > 1:
        raise ValueError("columns stand before rows; save it in C order")
    if dtype.hasobject or not shape:
        raise ValueError(f"an array {shape} of {dtype}, where rows of numbers are expected")
    return shape, dtype
