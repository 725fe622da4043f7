"""What the cells of a sweep share."""

from dataclasses import dataclass, field

from cfgbench.evaluation.features import FeatureExtractor, Features
from cfgbench.models.precision import Compute
from cfgbench.progress import Progress, silent
from cfgbench.sweep.plan import Plan
from cfgbench.sweep.reference import Reference


@dataclass(frozen=True)
class Place:
    """This process among `workers` that work on a sweep side by side."""

    number: int = 0
    workers: int = 1


ONE_PROCESS = Place()


@dataclass(frozen=True)
class Bench:
    """What is to be done, how images are judged, where the work is done, and to whom it is told."""

    plan: Plan
    extractor: FeatureExtractor
    features: Features
    """What it gives of some of the data set's images."""
    reference: Reference
    compute: Compute
    progress: Progress = silent
    place: Place = ONE_PROCESS
    broken: dict[str, str] = field(default_factory=dict)
    """Networks that could not be trained -> why: others that share one of a pair do not try it again."""
    weights: dict[str, str] = field(default_factory=dict)
    """Networks that were loaded -> the digest of their weights: a network that is trained again may be another."""
    trained_in: dict[str, str] = field(default_factory=dict)
    """Networks that were loaded -> the precision that they were trained in, where their files say it."""
