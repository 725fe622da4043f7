"""What the metrics are made of: the features of images, and whatever gives them."""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from jaxtyping import Float, UInt8
from torch import Tensor


@dataclass(frozen=True)
class Features:
    """pooled [b, d], and logits [b, k] where the extractor classifies."""

    pooled: Float[Tensor, "b d"]
    logits: Float[Tensor, "b k"] | None

    def cpu(self) -> "Features":
        """The same where the processor has them."""
        return Features(self.pooled.cpu(), None if self.logits is None else self.logits.cpu())

    def __getitem__(self, images: slice) -> "Features":
        """Those of some of the images."""
        return Features(self.pooled[images], None if self.logits is None else self.logits[images])


@runtime_checkable
class FeatureExtractor(Protocol):
    """Gives the features of uint8 images; `id` names all that decides them."""

    id: str

    def __call__(self, images: UInt8[Tensor, "b ch h w"]) -> Features: ...
