import pytest
import torch

from cfgbench.diffusion.guidance import cfg


class Table:
    """A denoiser whose eps is its class id + 1, and which counts its calls."""

    num_classes = 5

    def __init__(self):
        self.calls = []

    def __call__(self, z, lam, c):
        self.calls.append(c.tolist())
        return (c + 1.0).reshape(-1, 1, 1, 1).expand_as(z)


Z, LAM, C = torch.zeros(3, 1, 2, 2), torch.zeros(3), torch.tensor([0, 1, 4])


def eps(denoiser, w):
    return cfg(denoiser, C, w)(Z, LAM)[:, 0, 0, 0].tolist()


def test_equation_6_with_one_w_and_with_one_per_image():
    # eps_c = 1, 2, 5 and eps_u = 6: (1 + w) eps_c - w eps_u
    assert eps(Table(), 2.0) == [3 * 1 - 2 * 6, 3 * 2 - 2 * 6, 3 * 5 - 2 * 6]
    assert eps(Table(), torch.tensor([0.0, 1.0, 2.0])) == [1, 2 * 2 - 6, 3 * 5 - 2 * 6]


def test_w_0_is_the_conditional_and_w_minus_1_the_unconditional_network_in_one_call():
    table = Table()
    assert eps(table, 0.0) == [1, 2, 5]
    assert eps(table, torch.zeros(3)) == [1, 2, 5]
    assert eps(table, -1.0) == [6, 6, 6]
    assert table.calls == [[0, 1, 4], [0, 1, 4], [5, 5, 5]]


@pytest.mark.parametrize("w", [float("nan"), float("inf")])
def test_w_must_be_finite(w):
    with pytest.raises(ValueError, match="finite"):
        cfg(Table(), C, w)
