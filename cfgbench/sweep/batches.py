"""How many images go through the networks at a time, and which cells' images go together."""

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from cfgbench.diffusion.guidance import Networks
from cfgbench.models.fast import shrink
from cfgbench.spec import Cell, Sampling

ON_A_PROCESSOR = 256
"""Images at a time, where the sweep file leaves it open."""
LARGEST = 1 << 15
"""Images that go through a network at a time, at most: attention kernels on a GPU take less than 65,536."""
CELLS = 32
"""Cells that share a batch, at most: each holds a claim, and memory for a shard."""


@dataclass
class Ready:
    """Networks ready to sample. `rows` is the batch that fills a GPU, one row an image and branch; None on a
    processor. `limit` is how many fit into memory, as far as it has run out."""

    networks: Networks
    rows: int | None = None
    limit: int = sys.maxsize

    def images(self, sampling: Sampling) -> int:
        """How many of a cell's images are made at a time."""
        branches = len(sampling.calls)
        usual = sampling.batch_size
        if usual == "auto":
            usual = ON_A_PROCESSOR if self.rows is None else max(1, self.rows // branches)
        return min(usual, sampling.samples, max(1, min(self.limit, LARGEST) // branches))

    def halve(self, images: int, sampling: Sampling) -> None:
        """So many images at a time did not fit into memory: from here half as many, of all cells, and the network is
        compiled anew for these."""
        self.limit = max(1, images * len(sampling.calls) // 2)
        shrink(self.networks.denoiser, self.limit)

    def batches(self, cells: Sequence[Cell]) -> Iterator[list[Cell]]:
        """The cells of one network, those together that share batches: on a GPU, what differs in w alone."""
        if self.rows is None:
            yield from ([cell] for cell in cells)
            return
        alike: dict[str, list[Cell]] = {}
        for cell in cells:
            alike.setdefault(_but_w(cell.sampling), []).append(cell)
        for group in alike.values():
            while group:
                count = self._together(group[0].sampling)
                yield group[:count]
                group = group[count:]

    def most(self, cells: Sequence[Cell]) -> int:
        """Rows of the largest batch of these cells; on a processor images, for it takes them in parts anyway."""
        if self.rows is None:
            return max(self.images(cell.sampling) for cell in cells)
        rows = {cell.id: self.images(cell.sampling) * len(cell.sampling.calls) for cell in cells}
        return max(sum(rows[cell.id] for cell in batch) for batch in self.batches(cells))

    def _together(self, sampling: Sampling) -> int:
        """How many such cells share a batch on a GPU."""
        return min(CELLS, max(1, min(self.rows, self.limit) // (self.images(sampling) * len(sampling.calls))))


def _but_w(sampling: Sampling) -> str:
    """What cells have to have in common, to be sampled with a w per image: all else, and which branches they need."""
    rest = sampling.model_dump(exclude={"w"})
    return f"{sorted(rest.items())} {sorted(sampling.calls)} {sampling.passes}"
