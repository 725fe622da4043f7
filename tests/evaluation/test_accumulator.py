import numpy as np
import pytest
import torch

from cfgbench.evaluation.accumulator import Accumulator, quarters_of
from cfgbench.evaluation.features import Features
from cfgbench.evaluation.metrics import inception_score
from cfgbench.evaluation.statistics import Moments

TOTAL = 103


def _data() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(TOTAL, 5, generator=generator), 3 * torch.randn(TOTAL, 7, generator=generator)


def _stream(batch: int, *, backwards: bool = False) -> Accumulator:
    pooled, logits = _data()
    accumulator = Accumulator(quarters_of(TOTAL, None))
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
    accumulator = Accumulator(quarters_of(TOTAL, None))
    accumulator.add(0, Features(_data()[0], None))
    assert accumulator.moments.n == TOTAL
    assert [split.n for split in accumulator.predictions] == [0] * 10


@pytest.mark.parametrize("first", [-1, TOTAL - 4])
def test_images_outside_the_total_are_refused(first):
    with pytest.raises(ValueError, match=rf"images {first} to {first + 4} of {TOTAL}"):
        Accumulator(quarters_of(TOTAL, None)).add(first, Features(torch.ones(5, 2), None))


def test_parts_are_equally_large_and_the_moments_of_parts_are_those_of_their_images():
    pooled, _ = _data()
    accumulator = _stream(7)
    quarters = accumulator.quarters
    for count in (1, 2, 4):
        for number in range(count):
            part, whole = accumulator.part(count, number), Moments.of(pooled[quarters % count == number])
            assert part.n == whole.n
            assert abs(part.n - TOTAL / count) <= 1
            torch.testing.assert_close(part.scatter, whole.scatter)


@pytest.mark.parametrize(
    ("total", "classes"), [(1000, 1), (1000, 3), (1000, 10), (1000, 100), (1001, 70), (159, 20), (30, 10)]
)
def test_all_parts_have_equally_many_of_each_class(total, classes):
    labels = np.arange(total) % classes
    table = np.zeros((5, classes), dtype=int)
    np.add.at(table, (quarters_of(total, labels), labels), 1)
    each = total // classes // 4
    assert (table[:4] == each).all()
    assert table[4].tolist() == (np.bincount(labels) - 4 * each).tolist()


def test_unequal_classes_have_their_shares_in_the_parts():
    labels = np.repeat([0, 1, 3], [41, 10, 3])
    table = np.zeros((5, 4), dtype=int)
    np.add.at(table, (quarters_of(54, labels), labels), 1)
    assert table.tolist() == [*[[10, 2, 0, 0]] * 4, [1, 2, 0, 3]]


def test_images_that_come_class_by_class_are_dealt_out_evenly():
    table = np.zeros((4, 10), dtype=int)
    np.add.at(table, (quarters_of(1000, None), np.arange(1000) // 100), 1)
    assert table.min() > 10  # of 25; four rows of 250 in order would leave most at 0
