"""Images that take long to prepare: made once, written whole, mapped into memory ever after."""

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cfgbench.data.images import content_of
from cfgbench.errors import UserError
from cfgbench.files import flush_to_disk, identity
from cfgbench.progress import Progress


@dataclass(frozen=True)
class Prepared:
    """What is to be prepared: `key` names it, `read` gives its images in order, batch by batch."""

    key: Any
    class_names: tuple[str, ...]
    labels: np.ndarray
    shape: tuple[int, int, int]
    read: Callable[[], Iterator[np.ndarray]]


def cache_folder() -> Path:
    """CFGBENCH_CACHE, else cfgbench in the user's cache folder."""
    named = os.environ.get("CFGBENCH_CACHE")
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(named) if named else Path(home) / "cfgbench"


def prepared(task: Prepared, name: str, progress: Progress) -> tuple[np.ndarray, np.ndarray, str]:
    """(images [n, ch, h, w] uint8 mapped from the cache, labels [n] int64, content hash); makes them if need be.

    They are written beside their place and renamed into it, so that what is found there is whole; several processes may
    do so at once. Raises UserError where the folder cannot be written.
    """
    place = cache_folder() / f"{name}-{identity(task.key)}"
    if not (place / "index.json").exists():
        try:
            _make(task, name, place, progress)
        except OSError as error:
            raise UserError(
                f"{place.parent}: cannot be written ({error.strerror or error}); name another folder in CFGBENCH_CACHE"
            ) from None
    try:
        index = json.loads((place / "index.json").read_text())
        images = np.load(place / "images.npy", mmap_mode="r", allow_pickle=False)
        labels = np.load(place / "labels.npy", allow_pickle=False)
        if images.shape != (len(task.labels), *task.shape) or not np.array_equal(labels, task.labels):
            raise ValueError("other images than its name says")
        return images, labels, index["content"]
    except (OSError, ValueError, KeyError, EOFError) as error:
        raise UserError(f"{place}: damaged ({error}); delete it, and it is made again") from None


def _make(task: Prepared, name: str, place: Path, progress: Progress) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    _sweep_up(place.parent)
    part = Path(tempfile.mkdtemp(dir=place.parent, prefix=f".part-{os.getpid()}-"))
    try:
        total, done = len(task.labels), 0
        images = np.lib.format.open_memmap(part / "images.npy", "w+", np.uint8, (total, *task.shape))
        for batch in task.read():
            progress(f"prepare {name}", done, total, "")
            images[done : done + len(batch)] = batch
            done += len(batch)
        assert done == total
        images.flush()
        np.save(part / "labels.npy", task.labels)
        content = content_of(images, task.labels, task.class_names)
        (part / "index.json").write_text(json.dumps({"content": content, "images": total}))
        for file in part.iterdir():
            flush_to_disk(file)
        progress(f"prepare {name}", total, total, "")
        _rename(part, place)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _rename(part: Path, place: Path) -> None:
    try:
        part.rename(place)
    except OSError:
        if not (place / "index.json").exists():  # else another process was quicker, with the same images
            raise


def _sweep_up(folder: Path) -> None:
    """Removes what processes that are no more have left half done."""
    for part in folder.glob(".part-*"):
        owner = part.name.split("-")[1]
        if owner.isdigit() and not Path("/proc", owner).exists() and Path("/proc").exists():
            shutil.rmtree(part, ignore_errors=True)
