"""The features of a cell's images on the disk: what was made stays made, whatever happens to the process."""

import time
from collections.abc import Iterable, Iterator, Mapping, Set
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from cfgbench.errors import UserError
from cfgbench.evaluation.features import Features
from cfgbench.files import identity
from cfgbench.tensors import check_readable, load_tensors, save_tensors

SECONDS = 30.0
BYTES = 16 << 20
"""A shard is written when it took so long to make, or is so large: this much work, and memory, is at stake."""
SECONDS_BELIEVED = 1e9
"""What is said to have taken longer, thirty years, was not made so."""
BLOCK = 1000
"""Images at a time for the statistics, wherever one shard ends and the next begins."""


class Shards:
    """Files of consecutive images' features in one folder; one process at a time writes there.

    A file <first>-<stop>.<key>.safetensors holds `pooled` [b, d], `logits` [b, k] where there are some, and `kept`, the
    pixels of those of its images that a sample sheet may show, which are `shown`, increasing. `key` says what decides
    them (anything JSON can hold), `name` is its hash, and `made` says how they are made besides. Files of another key
    are left for a run that asks for them, until all is done. Those that are damaged are made again, and those that do
    not fit: `like` holds such tensors of any image.
    """

    def __init__(
        self,
        folder: Path,
        total: int,
        key: Any,
        *,
        like: Mapping[str, Tensor],
        shown: Iterable[int] = (),
        made: Mapping[str, Any] | None = None,
    ) -> None:
        self.folder, self.total, self.key, self.like, self.shown = folder, total, key, like, tuple(shown)
        self.name, self.made = identity(key), dict(made or {})
        self.files: dict[range, Path] = {}
        self.made_by: list[dict[str, Any]] = []
        """What the shards that are there say of how they were made: each what `made` was then."""
        self.seconds = self._took = 0.0
        self._pending = range(0)
        self._held: dict[str, Tensor] = {}
        self._kept: list[Tensor] = []
        self._began = time.monotonic()
        if folder.parent.parent.exists():  # else it has vanished, and writing says so
            folder.parent.mkdir(exist_ok=True)
        for path in sorted(folder.glob(f"[0-9]*.{self.name}.safetensors")):
            check_readable(path)
            shard = self._read_whole(path)
            if shard and shard.images.stop <= total and not any(_shared(shard.images, other) for other in self.files):
                self._note(path, shard)
            else:
                path.unlink(missing_ok=True)

    def take_over(self, kept: Iterable[Path]) -> None:
        """Copies what these shards, which other cells keep, hold of the images that are missing here, made as they say;
        but whether others compiled their network says nothing of this sweep's."""
        for path in kept:
            if not any(_shared(images_of(path), gap) for gap in self.missing()):
                continue
            if shard := self._read_whole(path):
                for part in filter(len, [_shared(shard.images, gap) for gap in self.missing()]):
                    self._write(shard.part(part, self.shown)._replace(made=shard.made | {"compiled": None}))

    def _read_whole(self, path: Path) -> "_Shard | None":
        """The shard; None where it is another's, damaged or does not fit."""
        try:
            tensors, header = load_tensors(path)
            images, seconds = range(header["first"], header["stop"]), header["seconds"]
            fits = 0 <= images.start < images.stop and header["key"] == self.key
            fits = fits and header["made"].keys() == self.made.keys()
            if fits and self._fit(tensors, images) and 0 < seconds < SECONDS_BELIEVED:
                return _Shard(images, tensors, seconds, header["made"])
        except (UserError, KeyError, TypeError, AttributeError):
            pass
        return None

    def _write(self, shard: "_Shard") -> None:
        images = shard.images
        path = self.folder / f"{images.start:012d}-{images.stop:012d}.{self.name}.safetensors"
        header = {"first": images.start, "stop": images.stop, "seconds": shard.seconds, "key": self.key}
        save_tensors(path, shard.tensors, header | {"made": shard.made})
        self._note(path, shard)

    def _note(self, path: Path, shard: "_Shard") -> None:
        self.files[shard.images] = path
        self.seconds += shard.seconds
        self.made_by.append(shard.made)

    def _fit(self, tensors: dict[str, Tensor], images: range) -> bool:
        """Whether these are the tensors of so many images: others would stop the cell in each run anew."""
        counts = dict.fromkeys(self.like, len(images)) | {"kept": sum(one in images for one in self.shown)}
        return tensors.keys() == self.like.keys() and all(
            (found.shape, found.dtype) == ((counts[name], *self.like[name].shape[1:]), self.like[name].dtype)
            and bool(found.isfinite().all())
            for name, found in tensors.items()
        )

    def missing(self) -> list[range]:
        """The images that are in no shard, nor in the one in the making, in order."""
        return gaps([*self.files, self._pending], self.total)

    def add(self, first: int, features: Features, kept: Tensor, seconds: float = 0.0) -> None:
        """Takes in a batch that took so many seconds to make; writes a shard when enough has come together. Batches of
        one gap come in order."""
        batch, count = tensors_of(features), len(features.pooled)
        if self._pending and (first != self._pending.stop or len(self._pending) + count > self._room()):
            self.flush()
        if not self._pending:
            self._pending = range(first, first)
            if count > self._room():
                self._held = self._space(batch)
        place = slice(len(self._pending), len(self._pending) + count)
        for name, tensor in batch.items():
            self._held[name][place] = tensor
        self._kept.append(kept.cpu())
        self._took += seconds
        self._pending = range(self._pending.start, first + count)
        if time.monotonic() - self._began > SECONDS or len(self._pending) == self._room():
            self.flush()

    def flush(self) -> None:
        """Writes what has come in since the last shard."""
        if images := self._pending:
            tensors = {name: tensor[: len(images)] for name, tensor in self._held.items()}
            # one who stops the program may do so before the last batch counts
            tensors["kept"] = torch.cat(self._kept)[: sum(one in images for one in self.shown)]
            self._write(_Shard(images, tensors, self._took, self.made))
            self._took = 0.0
            self._pending = range(0)
            self._kept.clear()
        if not self.missing():  # others that share its batches may still be in the making
            self._held = {}
        self._began = time.monotonic()

    def _room(self) -> int:
        """How many images the shard in the making has room for."""
        return len(self._held["pooled"]) if self._held else 0

    def _space(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Memory for the features of a shard. Were they left where each batch made them, they would lie between its
        feature maps and keep that memory from being used as a whole."""
        count = len(batch["pooled"])
        room = max(count, min(self.total, BYTES * count // sum(tensor.nbytes for tensor in batch.values())))
        return {name: torch.empty(room, *tensor.shape[1:], dtype=tensor.dtype) for name, tensor in batch.items()}

    def pixels(self, indices: Iterable[int]) -> Tensor:
        """The kept pixels of these images, which are among those shown."""
        kept = torch.cat([tensors["kept"] for _, tensors in self._read()])
        places = {index: place for place, index in enumerate(self.shown)}
        return kept[[places[int(index)] for index in indices]]

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

    def clear(self, *, keep: bool = False) -> None:
        """Removes all shards, or with `keep` those of other keys."""
        remove(self.folder, set(self.files.values()) if keep else frozenset())


def remove(folder: Path, keep: Set[Path] = frozenset()) -> None:
    """Removes the shards in a folder but those to keep, and the folder where nothing else is in it."""
    for path in folder.glob("[0-9.]*.*"):
        if path not in keep:
            path.unlink(missing_ok=True)
    if folder.exists() and not any(folder.iterdir()):
        folder.rmdir()


class _Shard(NamedTuple):
    """The features of consecutive images, what making them took, and how they were made."""

    images: range
    tensors: dict[str, Tensor]
    seconds: float
    made: dict[str, Any]

    def part(self, images: range, shown: Iterable[int]) -> "_Shard":
        """Those of some of its images; `shown` are those, of all, whose pixels are kept."""
        whole, there = self.images, [one in images for one in shown if one in self.images]
        of_each = slice(images.start - whole.start, images.stop - whole.start)
        chosen = {"kept": torch.tensor(there, dtype=torch.bool)}
        tensors = {name: tensor[chosen.get(name, of_each)] for name, tensor in self.tensors.items()}
        return _Shard(images, tensors, self.seconds * len(images) / len(whole), self.made)


def images_of(path: Path) -> range:
    """Which images a shard is of, by its name."""
    first, stop = path.name.split(".")[0].split("-")
    return range(int(first), int(stop))


def gaps(there: Iterable[range], total: int) -> list[range]:
    """What is missing of so many images, in order."""
    found, reach = [], 0
    for images in sorted(there, key=lambda one: one.start):
        found.append(range(reach, min(images.start, total)))
        reach = max(reach, images.stop)
    return [gap for gap in (*found, range(reach, total)) if gap]


def _shared(a: range, b: range) -> range:
    return range(max(a.start, b.start), min(a.stop, b.stop))


def tensors_of(features: Features) -> dict[str, Tensor]:
    """The features as a shard holds them."""
    return {"pooled": features.pooled} | ({} if features.logits is None else {"logits": features.logits})
