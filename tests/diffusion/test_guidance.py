import pytest
import torch

from cfgbench.diffusion.guidance import (
    BRANCHES,
    GUIDANCES,
    Networks,
    Unconditional,
    by_classifier,
    cfg,
    score_scale,
)


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


class Linear:
    """A noisy classifier whose logits are rows . z: log p(c | z) has a gradient in closed form."""

    num_classes = 5

    def __init__(self):
        self.rows = torch.linspace(-1, 2, 20).reshape(5, 4) ** 2
        self.passes = 0

    def __call__(self, z, lam):
        self.passes += 1
        return z.flatten(1) @ self.rows.T

    def gradient(self, z, c):
        p = (z.flatten(1) @ self.rows.T).softmax(dim=1)
        return (self.rows[c] - p @ self.rows).reshape(z.shape)


RANDOM = torch.linspace(-1, 1, 12).reshape(3, 1, 2, 2).sin()
LAMS = torch.tensor([-3.0, 0.0, 4.0])


@pytest.mark.parametrize("w", [0.7, torch.tensor([0.0, 1.0, -2.0])])
def test_equation_5_subtracts_sigma_times_the_classifiers_gradient(w):
    classifier = Linear()
    with torch.inference_mode():  # as the sampler calls it, with tensors made there
        found = by_classifier(Table(), classifier, C, w)(RANDOM.clone(), LAMS.clone())
    sigma = (1 / (1 + LAMS.exp())).sqrt().reshape(3, 1, 1, 1)
    strength = torch.as_tensor(w).reshape(-1, 1, 1, 1)
    expected = (C + 1.0).reshape(3, 1, 1, 1) - strength * sigma * classifier.gradient(RANDOM, C)
    assert torch.allclose(found, expected, atol=1e-6)
    assert classifier.passes == 1


def test_without_strength_the_classifier_is_not_asked():
    classifier, table = Linear(), Table()
    for one in (classifier, None):
        assert by_classifier(table, one, C, 0.0)(Z, LAM)[:, 0, 0, 0].tolist() == [1, 2, 5]
    with pytest.raises(ValueError, match="there is none"):
        by_classifier(table, None, C, torch.tensor([0.0, 0.0, 1.0]))
    assert (classifier.passes, len(table.calls)) == (0, 2)


def test_on_the_unconditional_branch_every_call_has_the_null_class():
    table = Table()
    assert (Unconditional(table)(Z, LAM, C) == 6).all()
    guided = GUIDANCES["classifier"](Networks(BRANCHES["unconditional"](table), Linear()), C, 1.0)(RANDOM, LAMS)
    assert table.calls[-1] == [5, 5, 5]
    sigma = (1 / (1 + LAMS.exp())).sqrt().reshape(3, 1, 1, 1)
    assert torch.allclose(guided, 6 - sigma * Linear().gradient(RANDOM, C), atol=1e-6)


def test_score_scaling_multiplies_the_conditional_eps_by_the_scale_in_one_call():
    table = Table()
    assert score_scale(table, C, 0.5)(Z, LAM)[:, 0, 0, 0].tolist() == [1.5, 3, 7.5]
    assert score_scale(table, C, torch.tensor([0.0, 1.0, 2.0]))(Z, LAM)[:, 0, 0, 0].tolist() == [1, 4, 15]
    assert table.calls == [[0, 1, 4], [0, 1, 4]]


@pytest.mark.parametrize("rule", GUIDANCES)
def test_every_rule_is_the_conditional_network_at_w_0(rule):
    for w in (0.0, torch.tensor([0.0, 0.5, 0.5])):
        found = GUIDANCES[rule](Networks(Table(), Linear()), C, w)(Z, LAM)
        assert found[0, 0, 0, 0] == 1


@pytest.mark.parametrize("rule", GUIDANCES)
def test_every_rule_wants_finite_strengths(rule):
    with pytest.raises(ValueError, match="finite"):
        GUIDANCES[rule](Networks(Table(), Linear()), C, float("nan"))
