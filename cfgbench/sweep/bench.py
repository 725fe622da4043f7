"""What the cells of a sweep share."""

from dataclasses import dataclass, field

import torch

from cfgbench.data import Images
from cfgbench.evaluation.extractors import FeatureExtractor
from cfgbench.evaluation.statistics import Moments
from cfgbench.training.state import TrainingFailed


@dataclass(frozen=True)
class Place:
    """This process among `workers` that work on a sweep side by side."""

    number: int = 0
    workers: int = 1


ALONE = Place()


@dataclass(frozen=True)
class Bench:
    """The data, how images are judged, and where the work is done."""

    images: Images
    shown: tuple[int, ...]
    """The classes of the sample sheets, in order."""
    extractor: FeatureExtractor
    reference: Moments
    reference_id: str
    reference_name: str
    device: torch.device
    precision: str
    compiled: bool | None = None
    """Whether networks go through torch.compile; None where that is decided network by network."""
    place: Place = ALONE
    broken: dict[str, TrainingFailed] = field(default_factory=dict)
    """Networks that could not be trained: others that share one of a pair do not try it again."""
