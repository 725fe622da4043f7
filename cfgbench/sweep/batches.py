"""How many images go through the networks at a time, and which cells' images go together."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from cfgbench.diffusion.guidance import Networks
from cfgbench.spec import Cell, Sampling

ON_A_PROCESSOR = 256
"""Images at a time, where the sweep file leaves it open."""
CELLS = 32
"""Cells that share a batch, at most: each holds a claim, and memory for a shard."""


@dataclass(frozen=True)
class Ready:
    """Networks ready to sample. `rows` is the batch that fills a GPU, one row an image and branch; None on a
    processor."""

    networks: Networks
    rows: int | None = None

    def images(self, sampling: Sampling) -> int:
        """How many of a cell's images are made at a time."""
        if sampling.batch_size != "auto":
            return min(sampling.batch_size, sampling.samples)
        branches = len(sampling.calls)
        return min(ON_A_PROCESSOR if self.rows is None else max(1, self.rows // branches), sampling.samples)

    def batches(self, cells: Sequence[Cell]) -> Iterator[list[Cell]]:
        """The cells of one network, those together that share batches: on a GPU, what differs in w alone."""
        if self.rows is None:
            yield from ([cell] for cell in cells)
            return
        alike: dict[str, list[Cell]] = {}
        for cell in cells:
            alike.setdefault(_but_w(cell.sampling), []).append(cell)
        for group in alike.values():
            sampling = group[0].sampling
            count = min(CELLS, max(1, self.rows // (self.images(sampling) * len(sampling.calls))))
            yield from (group[at : at + count] for at in range(0, len(group), count))

    def most(self, cells: Sequence[Cell]) -> int:
        """Rows of the largest batch of these cells; on a processor images, for it takes them in parts anyway."""
        if self.rows is None:
            return max(self.images(cell.sampling) for cell in cells)
        rows = {cell.id: self.images(cell.sampling) * len(cell.sampling.calls) for cell in cells}
        return max(sum(rows[cell.id] for cell in batch) for batch in self.batches(cells))


def _but_w(sampling: Sampling) -> str:
    """What cells have to have in common, to be sampled with a w per image: all else, and which branches they need."""
    rest = sampling.model_dump(exclude={"w"})
    return f"{sorted(rest.items())} {sorted(sampling.calls)} {sampling.passes}"
