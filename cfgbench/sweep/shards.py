"""The features of a cell's images on the disk: what was made stays made, whatever happens to the process."""

import itertools
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cfgbench.errors import UserError
from cfgbench.evaluation.extractors import Features
from cfgbench.tensors import load_tensors, save_tensors

SECONDS = 30.0
BYTES = 16 << 20
"""A shard is written when it took so long to make, or is so large: this much work, and memory, is at stake."""
BLOCK = 1000
"""Images at a time for the statistics, wherever one shard ends and the next begins."""


class Shards:
    """Files of consecutive images' features in one folder; one process at a time writes there.

    A file <first>-<stop>.safetensors holds `pooled` [b, d], `logits` [b, k] where there are some, and `kept`, the
    pixels of those of its images that the sample sheet shows. `key` says what made them: files of another key, and
    damaged ones, are removed, and their images made again.
    """

    def __init__(self, folder: Path, total: int, key: Any) -> None:
        self.folder, self.total, self.key = folder, total, key
        self.files: dict[range, Path] = {}
        self.seconds = 0.0
        self._pending: list[tuple[int, Features, Tensor]] = []
        self._began = time.monotonic()
        if folder.parent.parent.exists():  # else it has vanished, and writing says so
            folder.parent.mkdir(exist_ok=True)
        for path in sorted(folder.glob("[0-9]*.safetensors")):
            self._take_up(path)

    def _take_up(self, path: Path) -> None:
        try:
            _, header = load_tensors(path)
            images = range(header["first"], header["stop"])
            known = header["key"] == self.key and 0 <= images.start < images.stop <= self.total
            if known and not any(_overlap(images, other) for other in self.files):
                self.files[images] = path
                self.seconds += header["seconds"]
                return
        except (UserError, KeyError, TypeError):
            pass
        path.unlink(missing_ok=True)

    def missing(self) -> list[range]:
        """The images that are in no shard, in order."""
        borders = [range(0), *sorted(self.files, key=lambda images: images.start), range(self.total, self.total)]
        gaps = [range(a.stop, b.start) for a, b in itertools.pairwise(borders)]
        return [gap for gap in gaps if len(gap)]

    def add(self, first: int, features: Features, kept: Tensor) -> None:
        """Takes in a batch; writes a shard when enough has come together. Batches of one gap come in order."""
        if self._pending and self._pending[-1][0] + len(self._pending[-1][1].pooled) != first:
            self.flush()
        self._pending.append((first, Features(features.pooled.cpu(), _cpu(features.logits)), kept.cpu()))
        if time.monotonic() - self._began > SECONDS or self._size() > BYTES:
            self.flush()

    def flush(self) -> None:
        """Writes what has come in since the last shard."""
        if self._pending:
            first = self._pending[0][0]
            tensors = {"pooled": torch.cat([features.pooled for _, features, _ in self._pending])}
            if self._pending[0][1].logits is not None:
                tensors["logits"] = torch.cat([features.logits for _, features, _ in self._pending])
            tensors["kept"] = torch.cat([kept for *_, kept in self._pending])
            images = range(first, first + len(tensors["pooled"]))
            seconds = time.monotonic() - self._began
            path = self.folder / f"{images.start:012d}-{images.stop:012d}.safetensors"
            header = {"first": images.start, "stop": images.stop, "seconds": seconds, "key": self.key}
            save_tensors(path, tensors, header)
            self.files[images] = path
            self.seconds += seconds
            self._pending.clear()
        self._began = time.monotonic()

    def _size(self) -> int:
        return sum(features.pooled.nbytes for _, features, _ in self._pending)

    def kept(self) -> Tensor:
        """The kept pixels of all images, in order."""
        return torch.cat([tensors["kept"] for _, tensors in self._read()])

    def blocks(self) -> Iterator[tuple[int, Features]]:
        """(index of the first image, features) in blocks that begin at the multiples of BLOCK. Raises UserError."""
        rest: dict[str, Tensor] = {}
        begin = 0
        for images, tensors in self._read():
            found = {name: tensors[name] for name in ("pooled", "logits") if name in tensors}
            rest = {name: torch.cat([rest[name], found[name]]) if rest else found[name] for name in found}
            while begin + BLOCK <= images.stop or (images.stop == self.total and begin < self.total):
                block = {name: tensor[:BLOCK] for name, tensor in rest.items()}
                rest = {name: tensor[BLOCK:] for name, tensor in rest.items()}
                yield begin, Features(block["pooled"], block.get("logits"))
                begin += BLOCK

    def _read(self) -> Iterator[tuple[range, dict[str, Tensor]]]:
        for images in sorted(self.files, key=lambda images: images.start):
            yield images, load_tensors(self.files[images])[0]

    def clear(self) -> None:
        """Removes all shards."""
        remove(self.folder)


def remove(folder: Path) -> None:
    """Removes the shards in a folder, and the folder where nothing else is in it."""
    for path in folder.glob("[0-9.]*.*"):
        path.unlink(missing_ok=True)
    if folder.exists() and not any(folder.iterdir()):
        folder.rmdir()


def _overlap(a: range, b: range) -> bool:
    return max(a.start, b.start) < min(a.stop, b.stop)


def _cpu(tensor: Tensor | None) -> Tensor | None:
    return None if tensor is None else tensor.cpu()
