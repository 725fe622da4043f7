"""What can be told apart: paired by influences, by seeds, or not at all; and the sentence that says it."""

import numpy as np
import pandas as pd
import pytest

from cfgbench.errors import UserError
from cfgbench.report import Report
from cfgbench.report.rows.differences import Difference, Term, combine, compare
from cfgbench.report.rows.slices import slices
from cfgbench.report.summary import summary
from cfgbench.sweep.results.influences import Influences

N = 400
LABELS = np.arange(N) % 4
SIGN = np.where(np.arange(N) // 4 % 2, 1.0, -1.0)  # in each class as many +1 as -1


def spread(amount):
    """Influences with std(q) / sqrt(n) = amount inside the classes: n_h = 100, so +-a has variance a^2 100 / 99."""
    return SIGN * amount * np.sqrt(N) * np.sqrt(0.99)


def half(amount):
    """The same amount, in no step with `spread`: the product of the two sums to zero in each class."""
    return np.where(np.arange(N) // 8 % 2, 1.0, -1.0) * amount * np.sqrt(N) * np.sqrt(0.99)


def row(cell_id, fid, se=0.5, **more):
    fixed = {"status": "ok", "seed": 0, "samples": N, "dataset": "digits", "features_id": "f", "reference_id": "r"}
    return fixed | {"cell_id": cell_id, "fid": fid, "fid_se": se, "is_mean": 3.0, "protocol": "p"} | more


@pytest.fixture
def influences(tmp_path):
    """Cells a and b move together by 0.4 but for 0.03 of b's own; c has other images' classes, d fewer images."""
    (tmp_path / "digits").mkdir()
    influences = Influences(tmp_path / "digits")
    shared = half(0.4)
    influences.put("a", {"label": LABELS, "fid": shared, "is_mean": shared})
    influences.put("b", {"label": LABELS, "fid": shared + spread(0.03), "is_mean": shared})
    influences.put("c", {"label": LABELS[::-1].copy(), "fid": shared, "is_mean": shared})
    influences.put("d", {"label": LABELS[:-4], "fid": shared[:-4], "is_mean": shared[:-4]})
    influences.put("e", {"label": LABELS, "fid": shared * np.nan, "is_mean": shared})
    return influences


def test_shared_noise_is_taken_out(influences):
    difference = compare(influences, row("b", 2.0), row("a", 1.5), "fid")
    assert difference == Difference(0.5, pytest.approx(0.03), True)
    assert compare(influences, row("a", 1.5), row("b", 2.0), "fid") == Difference(-0.5, pytest.approx(0.03), True)
    assert compare(influences, row("a", 1.5), row("b", 2.0), "is_mean") == Difference(0.0, 0.0, True)


@pytest.mark.parametrize(
    "other",
    [
        *({"seed": 1}, {"samples": 2 * N}, {"dataset": "x"}, {"features_id": "x"}, {"reference_id": "x"}),
        *({"protocol": "x"}, {"cell_id": "c"}, {"cell_id": "d"}, {"cell_id": "absent"}),
    ],
)
def test_what_shares_nothing_is_not_paired(influences, other):
    difference = compare(influences, row("a", 1.0, 0.3), row("b", 2.0, 0.4) | other, "fid")
    assert difference == Difference(-1.0, pytest.approx(0.5), False)


def test_the_extrapolated_fid_is_not_paired(influences):
    more = {"fid_infinity": 1.0, "fid_infinity_se": 0.6}, {"fid_infinity": 3.0, "fid_infinity_se": 0.8}
    difference = compare(influences, row("a", 1.0, **more[0]), row("b", 2.0, **more[1]), "fid_infinity")
    assert difference == Difference(-2.0, pytest.approx(1.0), False)


def test_without_an_error_nothing_is_told(influences):
    difference = compare(influences, row("absent", 1.0, None), row("b", 2.0), "fid")
    assert np.isnan(difference.se)
    assert difference.told_apart is None


def test_influences_that_are_not_finite_are_named(influences):
    with pytest.raises(UserError, match=r"e\.parquet: fid is not finite; delete it"):
        compare(influences, row("e", 1.0), row("a", 1.0), "fid")


@pytest.mark.parametrize(
    ("value", "told"), [(0.195, False), (-0.195, False), (0.197, True), (-0.197, True), (0, False)]
)
def test_told_apart_from_1_96_standard_errors_on(value, told):
    assert Difference(value, 0.1, True).told_apart is told
    assert Difference(0.0, 0.0, True).told_apart is False


def seeds(table1, gaps):
    """p_uncond 0.1 and 0.2; w 0.1 lies `gaps[seed]` above w 0; the seeds themselves lie far apart."""
    rows = table1[(table1["p_uncond"] == 0.1) & (table1["w"] < 0.15)]
    parts = [
        rows.assign(seed=s, cell_id=rows["cell_id"] + str(s), fid=[1 + 5.0 * s, 1 + 5.0 * s + gap])
        for s, gap in enumerate(gaps)
    ]
    return pd.concat(parts, ignore_index=True)


def test_means_compare_seed_by_seed(tmp_path, table1):
    (part,) = slices(seeds(table1, (0.1, 0.2, 0.6)))
    first, second = (mean for _, mean in part.rows.iterrows())
    difference = compare(Influences(tmp_path), second, first, "fid")
    assert difference == Difference(pytest.approx(0.3), pytest.approx(np.sqrt(0.14 / 2 / 3)), True)
    assert difference.doubt.noise == pytest.approx((0.14 / 2 / 3, 2))
    assert second["fid_se"] > 2


def trained(cell_id, fids, first=0, se=0.5):
    """The mean over trainings, all on the noise of one seed; the cell of training 1 is CELL_ID1."""
    members = tuple(row(f"{cell_id}{k}", fid, se, **{"training.seed": first + k}) for k, fid in enumerate(fids))
    return members[0] | {"fid": float(np.mean(fids)), "members": members, "seeds": len(fids)}


def test_trainings_on_the_same_noise_have_its_error_in_common(tmp_path):
    """b is 1 and 2 above a; the images' part of that is 0.3 in both trainings alike, and 0.1 of each its own."""
    influences = Influences(tmp_path)
    own = np.where(np.arange(N) // 16 % 2, 1.0, -1.0) * 0.1 * np.sqrt(N) * np.sqrt(0.99)
    for training, sign in ((0, 1), (1, -1)):
        influences.put(f"a{training}", {"label": LABELS, "fid": half(0.4)})
        influences.put(f"b{training}", {"label": LABELS, "fid": half(0.4) + spread(0.3) + sign * own})
    difference = compare(influences, trained("b", [2.0, 3.0]), trained("a", [1.0, 1.0]), "fid")
    of_trainings, of_noise = 0.5**2, 0.3**2 - 0.1**2  # the own parts cancel in the mean: -0.1^2 makes up for that
    assert difference.value == 1.5
    assert difference.paired
    assert difference.se**2 == pytest.approx(of_trainings + of_noise, rel=0.02)
    assert difference.doubt.trainings == pytest.approx((of_trainings, 1))
    assert difference.doubt.images.variance == pytest.approx(of_noise, rel=0.02)
    without = compare(Influences(tmp_path / "none"), trained("b", [2.0, 3.0]), trained("a", [1.0, 1.0]), "fid")
    assert without.se**2 == pytest.approx(of_trainings + 2 * 0.5**2)  # unpaired, at least
    silent = compare(influences, trained("b", [2.0, 3.0], se=np.nan), trained("x", [1.0, 1.0], se=np.nan), "fid")
    assert (silent.value, silent.told_apart) == (1.5, None)
    assert np.isnan(silent.se)


def test_draws_of_one_network_are_told_apart_by_their_images(tmp_path):
    """Two of them: by their spread it would take 12.7 errors."""
    influences = Influences(tmp_path)
    for draw, amount in ((0, 0.03), (1, 0.04)):
        influences.put(f"a{draw}", {"label": LABELS, "fid": half(0.4)})
        influences.put(f"b{draw}", {"label": LABELS, "fid": half(0.4) + spread(amount)})
    a, b = (
        members[0] | {"fid": fid, "members": members, "seeds": 2}
        for name, fid in (("a", 1.0), ("b", 1.06))
        for members in [tuple(row(f"{name}{k}", fid + (-1) ** k * 0.01 * (name == "b"), seed=k) for k in (0, 1))]
    )
    found = compare(influences, b, a, "fid")
    assert found == Difference(pytest.approx(0.06), pytest.approx(0.05 / 2), True)
    assert (found.told_apart, found.reach()) == (True, pytest.approx(1.96 * 0.025))
    without = compare(Influences(tmp_path / "none"), b, a, "fid")
    assert (without.se, without.told_apart) == (pytest.approx(0.01), False)


def test_of_equal_means_over_trainings_one_in_twenty_is_told_apart(tmp_path):
    random, told, influences = np.random.default_rng(0), [], Influences(tmp_path)
    for training in range(3):
        influences.put(f"a{training}", {"label": LABELS * 0, "fid": np.zeros(N)})
    for _ in range(500):
        noise, fids = random.normal(size=N), []  # what an image's noise does to b more than to a, in each training
        for training in range(3):
            pulls = 2 * noise + random.normal(size=N)
            fids.append(1 + pulls.mean() + random.normal(0, 0.05))
            influences.put(f"b{training}", {"label": LABELS * 0, "fid": pulls})
        told.append(compare(influences, trained("b", fids), trained("a", [1.0] * 3), "fid").told_apart)
    assert 0.02 < np.mean(told) < 0.09


@pytest.mark.parametrize(("count", "other_seeds"), [(2, False), (3, False), (5, False), (3, True), (6, True)])
def test_of_what_is_equal_one_in_twenty_is_told_apart_however_few_the_seeds(tmp_path, table1, count, other_seeds):
    randomness = np.random.default_rng(count)
    row = table1.iloc[0].to_dict() | {"fid_se": np.nan}

    def mean(first):
        fids = randomness.normal(10.0, 1.0, count)
        members = tuple(row | {"seed": first + k, "fid": fid} for k, fid in enumerate(fids))
        return row | {"fid": fids.mean(), "fid_se": fids.std(ddof=1) / np.sqrt(count), "members": members}

    told = [compare(Influences(tmp_path), mean(0), mean(100 * other_seeds), "fid").told_apart for _ in range(2000)]
    assert 0.025 < np.mean(told) < 0.07  # Welch's degrees of freedom err on the safe side


def test_means_compare_on_the_seeds_that_both_have(tmp_path, table1):
    rows = seeds(table1, (0.1, 0.2, 0.6)).drop(index=5)
    (part,) = slices(rows.reset_index(drop=True))
    first, second = (mean for _, mean in part.rows.iterrows())
    difference = compare(Influences(tmp_path), second, first, "fid")
    assert difference == Difference(pytest.approx(0.15), pytest.approx(0.05), True)
    assert difference.doubt.noise.freedom == 1


def test_a_mean_and_a_single_row_compare_at_the_seed_of_that(tmp_path, table1):
    (part,) = slices(seeds(table1, (0.1, 0.2, 0.6)))
    mean = part.rows.iloc[1]  # seeds lie 5 apart: all of them against the first alone would differ by that
    single = table1.iloc[0].to_dict() | {"seed": 0, "fid": 1.0}
    assert compare(Influences(tmp_path), mean, single, "fid").value == pytest.approx(0.1)
    another = single | {"seed": 7}  # none in common
    assert compare(Influences(tmp_path), mean, another, "fid").value == pytest.approx(5.3)


def test_unpaired_an_image_pulls_both_metrics_of_its_row(tmp_path):
    """FID + IS of one cell, whose images pull them against each other, beside those of another data set."""
    influences = Influences(tmp_path)
    influences.put("a", {"label": LABELS, "fid": half(0.4), "is_mean": -half(0.3)})
    rows = [row(name, 1.0, 0.4, is_mean=2.0, is_se=0.3, dataset=name) for name in "ab"]
    terms = [
        Term(sign, one, metric) for one, sign in zip(rows, (1.0, -1.0), strict=True) for metric in ("fid", "is_mean")
    ]
    difference = combine(influences, terms)
    assert not difference.paired
    assert difference.se == pytest.approx(np.sqrt(0.1**2 + 0.4**2 + 0.3**2), rel=1e-2)  # of b it is not known


@pytest.mark.parametrize("slope", [-1.0, 2.0])
def test_unpaired_seeds_tell_how_both_metrics_of_a_mean_err_together(tmp_path, slope):
    """FID falls where IS rises, from seed to seed of each of two data sets that share no seed."""
    fids = {"a": np.array([1.0, 1.3, 1.7]), "b": np.array([2.0, 2.6, 2.1])}
    scores = {name: 5.0 - fid**2 for name, fid in fids.items()}
    sums = {name: fids[name] - slope * scores[name] for name in fids}
    terms = []
    for name, sign, first in ("a", 1.0, 0), ("b", -1.0, 7):
        pairs = zip(fids[name], scores[name], strict=True)
        more = {"is_se": 1.0, "dataset": name}
        members = tuple(row(name, fid, is_mean=score, seed=first + k, **more) for k, (fid, score) in enumerate(pairs))
        mean = row(name, fids[name].mean(), is_mean=scores[name].mean(), members=members, seeds=3, **more)
        terms += [Term(sign, mean, "fid"), Term(-sign * slope, mean, "is_mean")]
    difference = combine(Influences(tmp_path), terms)
    assert not difference.paired
    assert difference.value == pytest.approx(sums["a"].mean() - sums["b"].mean())
    assert difference.se == pytest.approx(np.sqrt(sum(total.var(ddof=1) / 3 for total in sums.values())))


@pytest.mark.parametrize(
    ("first", "several", "told"), [(0, 5, None), (7, 5, None), (0, 1, True), (7, 1, None), (None, 1, None)]
)
def test_of_one_training_beside_others_nothing_is_told(tmp_path, first, several, told):
    """What its images have in common with those of one of them, or of none, tells nothing of the other trainings; nor
    is another training on the same noise the same network."""
    influences = Influences(tmp_path)
    for training in range(5):
        influences.put(f"a{training}", {"label": LABELS, "fid": half(0.4)})
    influences.put("b0", {"label": LABELS, "fid": half(0.41)})
    b = row("b0", 2.0, 0.01) if first is None else trained("b", [2.0], first, se=0.01)
    difference = compare(influences, b, trained("a", [1.0] * several, se=0.01), "fid")
    assert (difference.value, difference.told_apart) == (1.0, told)


def drawn(cell_id, fids):
    """The mean over these seeds, (training, sampling) -> FID."""
    members = tuple(
        row(f"{cell_id}{k}", fid, 0.01, **{"training.seed": training, "sampling.seed": sampling})
        for k, ((training, sampling), fid) in enumerate(fids.items())
    )
    return members[0] | {"fid": float(np.mean(list(fids.values()))), "members": members, "seeds": len(fids)}


@pytest.mark.parametrize(
    ("trainings", "told"),
    [
        *((([0], [0, 1]), None), (([0, 2], [0, 1]), None), (([0], [1]), None)),
        *((([0, 1], [0, 1]), True), (([0], [0]), True)),
    ],
)
def test_draws_of_noise_of_one_shared_training_do_not_stand_for_the_others(tmp_path, trainings, told):
    """Trainings lie 1 apart, draws of noise 0.02."""
    b, a = (
        {(t, s): at + t + 0.02 * s for t in held for s in (0, 1)}
        for at, held in zip((9.0, 2.0), trainings, strict=True)
    )
    b[0, 1] += 0.01
    difference = compare(Influences(tmp_path), drawn("b", b), drawn("a", a), "fid")
    assert difference.told_apart is told


def test_the_same_images_are_not_told_apart(influences):
    """A data set of one class, say, whose null branch is that class's: all w make the same images."""
    rows = pd.DataFrame([row("a", 1.5, w=w, p_uncond=0.1, T=8, guidance="cfg") for w in (0.0, 1.0, 2.0)])
    (line,) = summary(influences, slices(rows))
    assert "w 1 and 2 cannot be told from it" in line


def test_means_by_other_protocols_are_not_paired(tmp_path, table1):
    (part,) = slices(seeds(table1, (0.1, 0.2, 0.6)))
    first, second = (mean for _, mean in part.rows.iterrows())
    assert compare(Influences(tmp_path), second, first, "fid").paired
    assert not compare(Influences(tmp_path), second, first.to_dict() | {"protocol": "other"}, "fid").paired


def test_means_over_other_seeds_are_not_paired(tmp_path, table1):
    rows = seeds(table1, (0.0,) * 4)
    rows = rows[(rows["seed"] < 2) == (rows["w"] == 0)]
    rows = pd.concat([rows, seeds(table1, (0.0,) * 4).query("w == 0 and seed == 2")])  # one seed is not enough
    (part,) = slices(rows.reset_index(drop=True))
    first, second = (mean for _, mean in part.rows.iterrows())
    difference = compare(Influences(tmp_path), second, first, "fid")
    assert not difference.paired
    np.testing.assert_allclose(difference.se, np.hypot(first["fid_se"], second["fid_se"]))


def line_of(tmp_path, rows):
    return summary(Influences(tmp_path / "digits"), slices(rows))[0]


@pytest.fixture
def curve(tmp_path, table1):
    """p_uncond 0.1: FID 0.9, 0.34, 0.33, 0.335, 0.6 at w 0 ... 0.4, errors of 0.03 of which nearly all is shared."""
    rows = table1.iloc[:5].assign(fid=[0.9, 0.34, 0.33, 0.335, 0.6], fid_se=0.03, samples=N)
    (tmp_path / "digits").mkdir()
    influences = Influences(tmp_path / "digits")
    for place, cell_id in enumerate(rows["cell_id"]):
        own = spread(0.02) if place == 1 else half(0.002) if place == 3 else 0.0 * SIGN
        influences.put(cell_id, {"label": LABELS, "fid": half(0.03) + own, "is_mean": half(0.03)})
    return rows


def test_the_sentence_of_a_curve(tmp_path, curve):
    assert line_of(tmp_path, curve) == (
        "p_uncond 0.1: best FID 0.330 ± 0.030 at w 0.2 (scale 1.2); w 0.1 cannot be told from it; "
        "0.900 ± 0.030 without guidance, difference 0.57 ± 0.00 (paired) (digits features)"
    )


def test_the_sentence_says_unpaired(tmp_path, curve):
    for cell_id in curve["cell_id"]:
        Influences(tmp_path / "digits").path(cell_id).unlink()
    assert line_of(tmp_path, curve) == (
        "p_uncond 0.1: best FID 0.330 ± 0.030 at w 0.2 (scale 1.2); w 0.1 and 0.3 cannot be told from it (unpaired); "
        "0.900 ± 0.030 without guidance, difference 0.570 ± 0.042 (unpaired) (digits features)"
    )
    put = Influences(tmp_path / "digits").put
    for place in (1, 2):
        put(curve["cell_id"].iloc[place], {"label": LABELS, "fid": spread(0.03 * place), "is_mean": SIGN})
    assert "w 0.1 and 0.3 cannot be told from it (unpaired: w 0.3)" in line_of(tmp_path, curve)


def test_the_sentence_without_errors_says_nothing_of_telling_apart(tmp_path, table1):
    assert line_of(tmp_path, table1) == (
        "p_uncond 0.1: best FID 1.55 at w 0.1 (scale 1.1); 1.80 without guidance (digits features)"
    )


def test_the_sentence_where_all_can_be_told(tmp_path, curve):
    rows = curve.assign(fid=[0.9, 0.7, 0.33, 0.5, 0.6])
    assert "; every other w can be told from it; 0.900" in line_of(tmp_path, rows)


@pytest.mark.parametrize("fid", [0.335, 0.5])
def test_the_sentence_says_of_which_the_error_is_not_known(tmp_path, curve, fid):
    """As where some rows are of a version that had no errors: their influences are missing too."""
    rows = curve.assign(fid=[0.9, 0.7, 0.33, fid, 0.6])
    for place in (1, 4):
        Influences(tmp_path / "digits").path(rows["cell_id"].iloc[place]).unlink()
        rows.loc[place, "fid_se"] = None
    told = "w 0.3 cannot" if fid == 0.335 else "every w that compares can"
    Influences(tmp_path / "digits").path(rows["cell_id"].iloc[3]).unlink()
    said = f"; {told} be told from it (unpaired); the error of w 0.1 and 0.4 is not known; 0.900"
    assert said in line_of(tmp_path, rows)


def test_the_sentence_of_several_seeds(tmp_path, table1):
    (line,) = Report(tmp_path, seeds(table1, (0.1, 0.2, 0.7))).best  # 0.33 apart, 0.19 is the error of that
    assert "best FID 6.00 ± 2.89 at w 0 (scale 1), mean of 3 seeds (minimum 1.00); w 0.1 cannot be told from it" in line
    (line,) = Report(tmp_path, seeds(table1, (0.2, 0.25, 0.3))).best  # 0.25 apart, 0.03
    assert "(minimum 1.00); every other w can be told from it" in line
