"""What is known of images once they have passed by: which are copies of which, and how bright they are."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from cfgbench.data.image_batches import ImageBatches


class Seen:
    """The images that passed by, each as a hash of 8 bytes: a million of them fit into memory. `brightest` is the
    largest value of their pixels."""

    def __init__(self) -> None:
        self.brightest = 0
        self._hashes = [np.empty(0, dtype=np.int64)]

    def watch(self, images: ImageBatches) -> ImageBatches:
        """The same images, which are seen as they pass by, once."""

        def batches(size: int) -> Iterator[np.ndarray]:
            for batch in images.batches(size):
                # a grey image is the one that has it in three channels; Python's own hash, which differs between
                # processes and goes into no file, takes a quarter of blake2b's time
                coloured = np.broadcast_to(batch, (len(batch), max(3, batch.shape[1]), *batch.shape[2:]))
                self._hashes.append(np.array([hash(image.tobytes()) for image in coloured], dtype=np.int64))
                self.brightest = max(self.brightest, int(batch.max()))
                yield batch

        return replace(images, batches=batches)

    @property
    def copies(self) -> int:
        """How many there are beyond one of each."""
        hashes = np.concatenate(self._hashes)
        return len(hashes) - len(np.unique(hashes))

    def among(self, others: "Seen") -> int:
        """How many are among these others, too."""
        return int(np.isin(np.concatenate(self._hashes), np.concatenate(others._hashes)).sum())
