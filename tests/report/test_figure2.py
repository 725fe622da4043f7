"""Figure 2: its densities by another hand, its points, its panels."""

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import integrate, stats

from cfgbench.data.gaussians import mixture_of
from cfgbench.evaluation.statistics import Moments
from cfgbench.report import figure2
from cfgbench.report.drawing.style import looks
from cfgbench.report.figure2 import experiment, figure
from cfgbench.wording import strength


@pytest.fixture(scope="module")
def made():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(experiment, "POINTS", 4500)
        patch.setattr(experiment, "T", 128)
        patch.setattr(experiment, "DRAWS", 10)
        return experiment.run_experiment(mixture_of(), device=torch.device("cpu"))


def tilted(w, x):
    """p(x | c) p(c | x)^w of all classes at points [..., 2], not normalised, as the paper writes it."""
    mixture = mixture_of()
    laws = [stats.multivariate_normal(*law).pdf(x) for law in zip(mixture.means, mixture.covariances, strict=True)]
    return np.array([law * (law / sum(laws)) ** w for law in laws])


@pytest.mark.parametrize("number", range(4))
def test_the_densities_are_the_papers_and_integrate_to_one(made, number):
    one = made[number]
    line = np.linspace(-1, 1, 301)  # Simpson's rule, on points that neither rule of the product has
    places = np.stack(np.meshgrid(line, line, indexing="ij"), axis=-1)
    values = one.density.at(places.reshape(-1, 2)).T.reshape(3, 301, 301)
    integral = integrate.simpson(integrate.simpson(values, x=line), x=line)
    np.testing.assert_allclose(integral, 1, atol=1e-3)
    np.testing.assert_allclose(one.density.integrals, 1, atol=1e-6)
    wanted = tilted(one.w, places)
    wanted /= integrate.simpson(integrate.simpson(wanted, x=line), x=line)[:, None, None]
    np.testing.assert_allclose(values, wanted, atol=1e-4 * wanted.max())


def test_the_unguided_density_is_the_gaussian_with_its_moments(made):
    density = made[0].density
    for c, (mean, covariance) in enumerate(zip(density.mixture.means, density.mixture.covariances, strict=True)):
        np.testing.assert_allclose(density.moments(c).mean, mean, atol=1e-6)
        np.testing.assert_allclose(density.moments(c).covariance, covariance, atol=1e-6)
        inside = density.level(c, 0.5), density.level(c, 0.95)
        peak = 1 / (2 * np.pi * covariance[0, 0])
        np.testing.assert_allclose(inside, [0.5 * peak, 0.05 * peak], rtol=0.01)  # exp(-r^2/2) is what lies outside r


def test_samples_have_the_law_of_the_density_without_guidance_and_another_with_it(made):
    for one in made:
        for deviation in one.deviations:
            for value, (mean, sd) in (
                (deviation.distance, deviation.distance_by_chance),
                (deviation.variation, deviation.variation_by_chance),
            ):
                far = (value - mean) / sd
                assert far < 5 if one.w == 0 else far > 10, (one.w, deviation)


def test_distance_and_total_variation_of_a_few_points():
    masses = np.array([[0.2, 0.3], [0.5, 0.0]])  # squares left below, left above, right below
    unit = Moments.from_covariance(torch.zeros(2), torch.eye(2))
    inside = np.array([[-1, -1], [-1, -1], [1, -1], [1, 1]]) / 2
    assert experiment.distances(inside, unit, masses)[1] == pytest.approx((0.3 + 0.3 + 0.25 + 0.25) / 2)
    assert experiment.distances(10 * inside, unit, masses)[1] == pytest.approx(1)  # all points are outside
    corners = np.array([[1, 1], [1, -1], [-1, 1], [-1, -1]]) * np.sqrt(3) / 2  # covariance 1
    assert experiment.distances(corners + np.array([0.3, 0.4]), unit, masses)[0] == pytest.approx(0.25)


def test_the_figure_has_four_strengths_and_three_classes(made):
    drawn = figure.draw(made)
    tops, bottoms = drawn.axes[::2], drawn.axes[1::2]
    assert len(tops) == len(bottoms) == 4
    for top, bottom, one in zip(tops, bottoms, made, strict=True):
        assert strength(one.w) in top.get_title()
        assert top.get_xlim() == bottom.get_xlim() == (-figure.VIEW, figure.VIEW)
        points = [drawn for drawn in bottom.collections if drawn.get_label().startswith("class")]
        for c, cloud in enumerate(points):
            np.testing.assert_array_equal(cloud.get_offsets(), one.points[one.labels == c][: figure.SHOWN])
        colours = {tuple(np.round(cloud.get_facecolor()[0, :3], 6)) for cloud in points}
        assert len(colours) == 3
        apart = np.mean([deviation.variation for deviation in one.deviations])
        assert f"total variation {apart:.2f}" in bottom.get_xlabel()
        picture = top.images[0].get_array()
        for c, mean in enumerate(one.density.mixture.means):  # at the peak of a class there is its colour
            i, j = ((mean + experiment.EDGE) / one.density.side).astype(int)
            assert _nearest(picture[j, i]) == c
    assert [text.get_text() for text in drawn.legends[0].get_texts()] == ["class 0", "class 1", "class 2"]


def _nearest(colour):
    from matplotlib.colors import to_rgb

    return int(np.argmin([np.abs(np.array(to_rgb(looks(c, 3)[0])) - colour).sum() for c in range(3)]))


def test_the_command_writes_the_figure_and_its_numbers(run, tmp_path, monkeypatch, made):
    monkeypatch.setattr(figure2, "run_experiment", lambda *_, **__: made)
    code, out, err = run("gaussians", "--pdf", "--out", tmp_path / "here" / "there")
    assert code == 0
    names = [line.rsplit("/", 1)[1] for line in out.split()]
    assert names == ["figure-2.png", "figure-2.svg", "figure-2.pdf", "figure-2.md", "figure-2.csv"]
    assert err.count("integrals of the densities 1.000000, 1.000000, 1.000000") == 4
    rows = pd.read_csv(tmp_path / "here" / "there" / "figure-2.csv")
    assert list(rows["w"]) == [w for w in experiment.WS for _ in range(3)]
    assert list(rows["class"]) == [0, 1, 2] * 4
    np.testing.assert_allclose(rows["integral"], 1, atol=1e-6)
    assert rows.loc[rows["w"] == 0, "radius_density"].to_numpy() == pytest.approx([0.25] * 3, abs=1e-4)
    assert (rows.loc[rows["w"] > 0, "radius_samples"] > rows.loc[rows["w"] > 0, "radius_density"] + 0.03).all()
    text = (tmp_path / "here" / "there" / "figure-2.md").read_text()
    assert text.count("\n| ") == 13
    assert (tmp_path / "here" / "there" / "figure-2.svg").stat().st_size < 1_000_000


def test_a_folder_that_cannot_be_made_is_one_line_before_any_work(run, tmp_path, monkeypatch):
    monkeypatch.setattr(figure2, "run_experiment", lambda *_, **__: pytest.fail("it has begun"))
    (tmp_path / "file").write_text("")
    code, out, err = run("gaussians", "--out", tmp_path / "file")
    assert (code, out) == (2, "")
    assert "cannot be written" in err
    assert err.count("\n") == 1
