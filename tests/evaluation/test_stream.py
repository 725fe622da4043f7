import pytest
import torch

from cfgbench.evaluation.extractors import Features
from cfgbench.evaluation.metrics import inception_score
from cfgbench.evaluation.statistics import Moments
from cfgbench.evaluation.stream import Accumulator

TOTAL = 103


def _data() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(TOTAL, 5, generator=generator), 3 * torch.randn(TOTAL, 7, generator=generator)


def _stream(batch: int, *, backwards: bool = False) -> Accumulator:
    pooled, logits = _data()
    accumulator = Accumulator(TOTAL)
    firsts = list(range(0, TOTAL, batch))
    for first in reversed(firsts) if backwards else firsts:
        accumulator.add(first, Features(pooled[first : first + batch], logits[first : first + batch]))
    return accumulator


@pytest.mark.parametrize("backwards", [False, True])
@pytest.mark.parametrize("batch", [1, 7, 10, 64, TOTAL])
def test_any_batch_size_gives_the_statistics_of_the_whole(batch, backwards):
    from torch_fidelity.metric_isc import isc_features_to_metric

    pooled, logits = _data()
    accumulator, whole = _stream(batch, backwards=backwards), Moments.of(pooled)
    assert accumulator.moments.n == TOTAL
    torch.testing.assert_close(accumulator.moments.mean, whole.mean)
    torch.testing.assert_close(accumulator.moments.scatter, whole.scatter)
    expected = isc_features_to_metric(logits, splits=10, shuffle=False)
    found = inception_score(accumulator.predictions)
    assert found[0] == pytest.approx(expected["inception_score_mean"], rel=1e-12)
    assert found[1] == pytest.approx(expected["inception_score_std"], rel=1e-8)


def test_the_ten_splits_have_the_published_borders():
    assert [split.n for split in _stream(64).predictions] == [10, 10, 10, 11, 10, 10, 11, 10, 10, 11]


def test_features_without_logits_give_moments_alone():
    accumulator = Accumulator(TOTAL)
    accumulator.add(0, Features(_data()[0], None))
    assert accumulator.moments.n == TOTAL
    assert [split.n for split in accumulator.predictions] == [0] * 10


@pytest.mark.parametrize("first", [-1, TOTAL - 4])
def test_images_outside_the_total_are_refused(first):
    with pytest.raises(ValueError, match=rf"images {first} to {first + 4} of {TOTAL}"):
        Accumulator(TOTAL).add(first, Features(torch.ones(5, 2), None))


def test_memory_does_not_grow_with_the_images():
    accumulator = _stream(10)
    sizes = [accumulator.moments.mean, accumulator.moments.scatter, *(split.sum_p for split in accumulator.predictions)]
    assert [tuple(tensor.shape) for tensor in sizes] == [(5,), (5, 5), *[(7,)] * 10]
