"""Images that take long to prepare: made once, written whole, mapped into memory ever after."""

import contextlib
import fcntl
import json
import math
import os
import re
import shutil
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from cfgbench.data.images import content_of
from cfgbench.errors import Unprepared, UserError, brief, reason
from cfgbench.files import (
    cache_folder,
    flush_to_disk,
    identity,
    open_regular,
    read_at_most,
    try_flock,
    unwritable,
    write_atomically,
)
from cfgbench.npz import array_header
from cfgbench.progress import Progress

LARGEST_INDEX = 4096
"""Bytes."""
LOOKED_AT = 1000
"""Images at a time."""


@dataclass(frozen=True)
class Prepared:
    """What is to be prepared: `key` names it, `read` gives its images in order, batch by batch."""

    key: Any
    class_names: tuple[str, ...]
    labels: np.ndarray
    shape: tuple[int, int, int]
    read: Callable[[], Iterator[np.ndarray]]


def prepared(
    task: Prepared, name: str, progress: Progress, *, prepare: bool = True
) -> tuple[np.ndarray, np.ndarray, str]:
    """(images [n, ch, h, w] uint8 mapped from the cache, labels [n] int64, content hash); makes them if need be.

    They are written beside their place and renamed into it, so that what is found there is whole. Of several processes
    one makes them, and the others wait. Raises UserError where the folder cannot be written, and Unprepared where they
    are not there and not to be made.
    """
    place = cache_folder() / f"{name}-{identity(task.key)}"
    try:
        if not (place / "index.json").exists():
            if not prepare:
                size = len(task.labels) * math.prod(task.shape) / 1e9
                raise Unprepared(
                    f"{name}: not prepared yet, which train and sweep begin with ({size:,.1f} GB in {place})"
                )
            _make_once(task, name, place, progress)
    except OSError as error:
        raise unwritable(place.parent, error, "name another folder in CFGBENCH_CACHE") from None
    try:
        return _found(task, name, place, progress)
    except Exception as error:  # damaged files fail in many ways, all of which mean the same
        raise UserError(f"{place}: damaged ({reason(error)}); delete it, and it is made again") from None


def _found(task: Prepared, name: str, place: Path, progress: Progress) -> tuple[np.ndarray, np.ndarray, str]:
    """What `prepared` gives. Raises ValueError, and other errors, for what is not what was written: the pixels of a
    file that was touched since, as by copying it, are looked at once."""
    index = json.loads(read_at_most(place / "index.json", LARGEST_INDEX))
    content = index["content"]
    if not re.fullmatch("[0-9a-f]{64}", content):
        raise ValueError(f"content = {brief(content)}")
    images = _mapped(place / "images.npy", (len(task.labels), *task.shape), np.dtype(np.uint8))
    if not np.array_equal(_mapped(place / "labels.npy", task.labels.shape, task.labels.dtype), task.labels):
        raise ValueError("other labels than its name says")
    if index.get("written") != (written := _written_at(place / "images.npy")):
        batches = _in_batches(images, name, progress)
        if content_of(images.shape, batches, task.labels, task.class_names) != content:
            raise ValueError("images.npy: other pixels than were written")
        with contextlib.suppress(UserError):  # it may be another's; then they are looked at each time
            write_atomically(place / "index.json", json.dumps(index | {"written": written}).encode())
    return images, task.labels, content


def _written_at(path: Path) -> int:
    """When a file was written last, in seconds, as archives keep it."""
    return int(path.stat().st_mtime)


def _in_batches(images: np.ndarray, name: str, progress: Progress) -> Iterator[np.ndarray]:
    for first in range(0, len(images), LOOKED_AT):
        progress(f"check the prepared {name}", first, len(images), "")
        yield images[first : first + LOOKED_AT]


def _mapped(path: Path, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """The array in a file. What its header says is compared before it is mapped. Raises ValueError."""
    with open_regular(path) as file:
        found = array_header(file, os.fstat(file.fileno()).st_size)
        if found != (shape, False, dtype):
            raise ValueError(f"{path.name}: an array {found[0]} of {found[2]}, not {shape} of {dtype}")
        return np.memmap(file, dtype, "r", file.tell(), shape)


def _make_once(task: Prepared, name: str, place: Path, progress: Progress) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    _sweep_up(place.parent)
    lock = place.with_name(f".{place.name}.lock")
    with lock.open("w") as file:
        while not try_flock(file.fileno()):
            progress(f"another process prepares {name}", 0, len(task.labels), "")
            time.sleep(0.2)
        if not (place / "index.json").exists():
            _remove_parts(lock, file)  # of a process that this one waited for, and that was killed
            shutil.rmtree(place, ignore_errors=True)  # what has lost the index that it was written with
            _make(task, name, place, progress)
        lock.unlink(missing_ok=True)


def _make(task: Prepared, name: str, place: Path, progress: Progress) -> None:
    shape = (len(task.labels), *task.shape)
    _check_space(place.parent, int(np.prod(shape, dtype=np.int64)) + task.labels.nbytes)
    part = place.with_name(f".part-{place.name}-{uuid.uuid4().hex[:8]}")
    part.mkdir()
    try:
        with (part / "images.npy").open("wb") as file:
            content = content_of(shape, _written(file, task, name, progress), task.labels, task.class_names)
        np.save(part / "labels.npy", task.labels)
        index = {"content": content, "images": shape[0], "written": _written_at(part / "images.npy")}
        (part / "index.json").write_text(json.dumps(index))
        for made in part.iterdir():
            flush_to_disk(made)
        _rename(part, place)
        progress(f"prepare {name}", shape[0], shape[0], "")
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _written(file: IO[bytes], task: Prepared, name: str, progress: Progress) -> Iterator[np.ndarray]:
    """The images as they are written, batch by batch. Not through a mapping: a full disk would kill the process."""
    total, done = len(task.labels), 0
    header = {"descr": "|u1", "fortran_order": False, "shape": (total, *task.shape)}
    np.lib.format.write_array_header_1_0(file, header)
    for batch in task.read():
        progress(f"prepare {name}", done, total, "")
        assert batch.dtype == np.uint8
        assert batch.shape[1:] == task.shape
        batch = np.ascontiguousarray(batch)
        file.write(batch.data)
        done += len(batch)
        yield batch
    assert done == total


def _check_space(folder: Path, needed: int) -> None:
    """Raises UserError at once rather than hours later."""
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise UserError(
            f"{folder}: {free / 1e9:.3g} GB are free where {needed / 1e9:.3g} GB are needed; make room, or name "
            "another folder in CFGBENCH_CACHE"
        )


def _rename(part: Path, place: Path) -> None:
    try:
        part.rename(place)
    except OSError:
        if not (place / "index.json").exists():  # else another process was quicker, with the same images
            raise


def _sweep_up(folder: Path) -> None:
    """Removes what processes that are no more have left half done."""
    for lock in folder.glob(".*.lock"):
        with contextlib.suppress(OSError), lock.open("r+") as file:
            _remove_parts(lock, file)


def _remove_parts(lock: Path, file: IO[str]) -> None:
    """Removes what is half done under this lock, an open file, unless somebody holds it, or the file system has no
    locks: others may be at work there."""
    with contextlib.suppress(OSError):
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        for part in lock.parent.glob(f".part-{lock.name[1:].removesuffix('.lock')}-*"):
            shutil.rmtree(part, ignore_errors=True)
