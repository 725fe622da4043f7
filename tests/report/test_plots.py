import io
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from drawn import bars, heading_of, steps, strength, tradeoff
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.image import imread
from matplotlib.text import Text

from cfgbench.report.drawing import legends, scales, style
from cfgbench.report.drawing.canvas import canvas, settle
from cfgbench.report.drawing.curves import look_out
from cfgbench.report.drawing.figure_files import NothingToPlot, pdf, png, svg
from cfgbench.report.rows.slices import slices
from cfgbench.report.words import FID


def curves(axes):
    """{legend's name: (xs, ys)} of the curves, without the stars."""
    lines = [line for line in axes.lines if not line.get_label().startswith("_")]
    return {line.get_label(): (line.get_xdata(), line.get_ydata()) for line in lines}


def stars(axes):
    return [(*line.get_xdata(), *line.get_ydata(), line.get_color()) for line in axes.lines if line.get_marker() == "*"]


def test_of_stars_that_lie_on_each_other_those_below_look_out():
    axes = Figure().subplots()
    axes.plot([0, 10], [1, 2], ".")
    style.stars(axes, [(5.0, 1.51, "blue"), (5.01, 1.5, "red"), (9.0, 1.6, "green"), (9.0, 1.6, "yellow")])
    found = [(line.get_color(), line.get_markersize()) for line in axes.lines[1:]]
    usual = found[0][1]
    assert found == [(style.INK, usual), ("blue", found[1][1]), ("red", usual)]  # the last on top
    assert found[1][1] > 1.5 * usual


def test_of_curves_that_lie_on_each_other_those_below_are_wider():
    axes = Figure().subplots()
    several = ([0, 1, 2, 3], "below"), ([0, 1, 2, 2.5], "parts"), ([1, 2, 3, 5], "above"), ([2.1, 3], "one point")
    for xs, name in several:
        axes.plot(xs, np.square(xs), label=name)
    look_out(axes)
    found = {line.get_label(): (line.get_linewidth(), line.get_markersize()) for line in axes.lines}
    assert found["parts"] == found["above"] == found["one point"]
    assert found["below"] == (found["above"][0] + 2, found["above"][1] + 2)


def test_many_that_lie_on_each_other_do_not_cover_the_figure():
    axes = Figure().subplots()
    for _ in range(40):
        axes.plot([0, 1, 2, 3], [0, 1, 4, 9], label="one of many")
    look_out(axes)
    style.stars(axes, [(1.0, 1.0 + 1e-6 * k, "blue") for k in range(40)])
    assert max(line.get_linewidth() for line in axes.lines) < 10
    assert max(line.get_markersize() for line in axes.lines) < 40


@pytest.mark.parametrize(
    "name", ["classifier-free guidance at temperature 0.5: FID 25.97 at w 0", "word " * 30, "short"]
)
def test_no_name_in_a_legend_is_cut(name):
    figure, (axes,) = canvas(8, 5.4, "title", "subtitle")
    legends.legend_above(figure, [axes.plot([0], [n], label=f"{n} {name}")[0] for n in range(7)])
    settle(figure)
    ends, top = figure.legends[0].get_window_extent(), axes.get_window_extent().y1
    assert ends.x0 >= 0
    assert ends.x1 <= figure.bbox.width
    assert ends.y0 > top


def test_tradeoff_draws_the_papers_curves(table1):
    (figure,) = tradeoff(slices(table1))
    (axes,) = figure.axes
    drawn = curves(axes)
    assert list(drawn) == [
        rf"$p_\mathrm{{uncond}}$ = {p}: FID {fid} at w 0.1" for p, fid in ((0.1, 1.55), (0.2, 1.62), (0.5, 1.91))
    ]
    for (xs, ys), (_, rows) in zip(drawn.values(), table1.groupby("p_uncond"), strict=True):
        np.testing.assert_array_equal(xs, rows["is_mean"])
        np.testing.assert_array_equal(ys, rows["fid"])
    assert sorted(star[:2] for star in stars(axes)) == [(56.1, 1.91), (64.58, 1.62), (66.11, 1.55)]
    assert axes.get_yscale() == "log"
    assert axes.get_ylabel() == "FID, log scale (digits features)"
    assert axes.get_xlabel() == "Inception Score (digits features)"
    for text in ("digits:", "50,000 images", "T 256", "v 0.3", "digits features"):
        assert text in heading_of(figure)


def test_a_curve_of_many_points_is_seen(table1):
    """White rings around each of 500 points once covered all of them, and the curve."""
    w = np.linspace(0, 10, 500)
    first = pd.concat([table1.iloc[:1]] * len(w), ignore_index=True)
    rows = first.assign(w=w, fid=2 + (w - 3) ** 2, is_mean=3 + w, cell_id=[f"{i:012x}" for i in range(len(w))])
    for figure in (*tradeoff(slices(rows)), *strength(slices(rows))):
        colour = np.array(to_rgb(figure.axes[0].lines[0].get_color()))
        image = imread(io.BytesIO(png(figure)))[::-1, :, :3]
        for axes in figure.axes:
            x0, y0, x1, y1 = axes.bbox.extents.astype(int)
            panel = image[y0:y1, x0:x1]
            seen = (np.abs(panel - colour).max(axis=2) < 0.1).any(axis=0)
            assert seen.mean() > 0.85  # the margins aside there is some of it over each x


def test_written_ticks_do_not_touch(table1):
    w = np.linspace(0, 40, 1001)
    first = pd.concat([table1.iloc[:1]] * len(w), ignore_index=True)
    (figure,) = strength(
        slices(first.assign(w=w, fid=2 + w, is_mean=3 + w, cell_id=[f"{i:012x}" for i in range(len(w))]))
    )
    figure.draw_without_rendering()
    for axes in figure.axes:
        boxes = [Text.get_window_extent(tick.label1) for tick in axes.xaxis.get_major_ticks()]
        assert len(boxes) > 5
        assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])
        assert len(axes.xaxis.get_minor_ticks()) < 300


def test_tradeoff_labels_lie_free_and_name_their_points(table1, table2):
    for rows, columns in ((table1, "p_uncond"), (table2, "T")):
        (figure,) = tradeoff(slices(rows))
        (axes,) = figure.axes
        places = {(row["is_mean"], row["fid"]): row for _, row in rows.iterrows()}
        written = [(note.get_text(), places[note.xy]) for note in axes.texts]
        assert all(float(text) == row["w"] for text, row in written)
        best = rows.loc[rows.groupby(columns)["fid"].idxmin()]
        needed = {(row[columns], w) for _, row in best.iterrows() for w in (0.0, row["w"], 4.0)}
        assert needed <= {(row[columns], row["w"]) for _, row in written}
        figure.draw_without_rendering()
        boxes = [Text.get_window_extent(note) for note in axes.texts]
        assert not any(a.padded(3.5, 0).overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])  # or 0.8 2 is 0.82
        assert all(axes.bbox.x0 <= box.x0 and box.x1 <= axes.bbox.x1 for box in boxes)
        assert all(axes.bbox.y0 <= box.y0 and box.y1 <= axes.bbox.y1 for box in boxes)


@pytest.mark.parametrize("squeezed", [1.0, 3.0, 8.0])
def test_a_label_is_nearest_to_its_own_point_of_those_in_its_colour(table1, table2, squeezed):
    crowd = table2.assign(is_mean=table2["is_mean"].where(table2["w"] > 1, 290 + table2["is_mean"] / squeezed))
    for rows in (table1, crowd):
        (axes,) = tradeoff(slices(rows))[0].axes
        axes.figure.draw_without_rendering()
        lines = {to_rgb(line.get_color()): line.get_xydata() for line in axes.lines if len(line.get_xydata()) > 1}
        beside = [note for note in axes.texts if note.arrow_patch is None]
        assert len(beside) > 8
        for note in beside:
            (x0, y0), (x1, y1) = Text.get_window_extent(note).get_points()
            x, y = axes.transData.transform(lines[to_rgb(note.get_color())]).T
            apart = np.hypot(np.maximum(x0 - x, x - x1).clip(0), np.maximum(y0 - y, y - y1).clip(0))
            nearest = lines[to_rgb(note.get_color())][apart < apart.min() + 0.5]
            assert note.xy in map(tuple, nearest)


@pytest.mark.parametrize(("fid_se", "is_se"), [(0.1, 4.0), (0.4, 8.0), (3.0, 1.0)])  # bars below 0 have no end
def test_tradeoff_labels_keep_off_error_bars(table1, fid_se, is_se):
    rows = table1[table1["w"].isin([0, 0.2, 0.4, 1, 2, 4]) & (table1["p_uncond"] == 0.1)]
    (figure,) = tradeoff(slices(rows.assign(fid_se=fid_se, is_se=is_se)))
    (axes,) = figure.axes
    figure.draw_without_rendering()
    assert len(axes.texts) >= 4
    assert len(bars(axes)) >= 6
    for note in axes.texts:
        box = Text.get_window_extent(note)
        for bar in bars(axes):
            ends = axes.transData.transform(np.clip(bar, 1e-3, None))
            assert not (box.x0 < ends[:, 0].max() and ends[:, 0].min() < box.x1
                        and box.y0 < ends[:, 1].max() and ends[:, 1].min() < box.y1)  # fmt: skip


def test_curves_go_in_order_of_w_whatever_the_rows_order(table1):
    (figure,) = tradeoff(slices(table1.sample(frac=1, random_state=1)))
    xs, _ = next(iter(curves(figure.axes[0]).values()))
    np.testing.assert_array_equal(xs, table1["is_mean"][:14])


@pytest.mark.parametrize("count", [1, 3, 6, 7, 20])
def test_curves_are_told_apart_and_dark_enough_for_their_labels(count):
    colours = [np.array(to_rgb(style.looks(number, count)[0])) for number in range(count)]
    assert len({tuple(colour) for colour in colours}) == count
    for colour in colours:  # contrast on white as WCAG 2 has it, at least its 3 for graphics
        linear = np.where(colour <= 0.04045, colour / 12.92, ((colour + 0.055) / 1.055) ** 2.4)
        assert 1.05 / (linear @ [0.2126, 0.7152, 0.0722] + 0.05) >= 3


_CONES = {  # what is left of linear RGB to eyes without one kind of cones (Machado, Oliveira & Fernandes 2009)
    "none": np.eye(3),
    "L": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "M": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "S": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}


def lab(linear):
    """CIELAB of linear sRGB [n, 3], at D65."""
    to_xyz = [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
    xyz = linear @ np.transpose(to_xyz) / [0.95047, 1, 1.08883]
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.stack([116 * f[:, 1] - 16, 500 * (f[:, 0] - f[:, 1]), 200 * (f[:, 1] - f[:, 2])], axis=1)


@pytest.mark.parametrize("lacking", _CONES)
def test_six_curves_are_told_apart_by_eyes_that_lack_a_kind_of_cones(lacking):
    colours = np.array([to_rgb(style.looks(number, 6)[0]) for number in range(6)])
    linear = np.where(colours <= 0.04045, colours / 12.92, ((colours + 0.055) / 1.055) ** 2.4)
    seen = lab((linear @ np.transpose(_CONES[lacking])).clip(0, 1))
    apart = np.linalg.norm(seen[:, None] - seen, axis=2)[~np.eye(6, dtype=bool)]
    assert apart.min() > 16.9


def test_a_curve_looks_alike_in_all_figures_of_a_report(table1):
    """Whatever stands beside it: p_uncond 0.5 alone at T 64, and in a panel where another has no number."""
    alone = table1[table1["p_uncond"] == 0.5].assign(T=64, cell_id=lambda rows: rows["cell_id"] + "-64")
    rows = pd.concat([table1, alone], ignore_index=True)
    rows.loc[rows["p_uncond"] == 0.1, "is_mean"] = None
    found = {}
    for figure in (*tradeoff(slices(rows)), *strength(slices(rows))):
        for axes in figure.axes:
            for line in axes.lines:
                if not line.get_label().startswith("_"):
                    name = line.get_label().split(":")[0]
                    found.setdefault(name, []).append((line.get_color(), line.get_marker()))
    assert [len(looks) for looks in found.values()] == [6, 3, 1]
    assert all(len(set(looks)) == 1 for looks in found.values())
    assert len({looks[0] for looks in found.values()}) == 3


@pytest.mark.parametrize(
    "features", ["digits-12ab", "fashion-mnist-12ab", "somebodys-own-extractor-of-many-words-12ab"]
)
def test_names_of_axes_are_no_longer_than_these(table1, features):
    rows = table1.assign(features_id=features)
    parts = slices(pd.concat([rows, rows.assign(T=64, cell_id=rows["cell_id"] + "-64")], ignore_index=True))
    for figure in (*tradeoff(parts), *strength(parts), *steps(parts)):
        figure.draw_without_rendering()
        for axes in figure.axes:
            name, panel = axes.yaxis.label.get_window_extent(), axes.bbox
            assert name.y0 >= panel.y0 - 1
            assert name.y1 <= panel.y1 + 1


def test_stars_that_a_larger_one_reaches_look_out_too():
    axes = Figure(figsize=(4, 4), dpi=72).add_axes((0, 0, 1, 1), xlim=(0, 288), ylim=(0, 288))
    style.stars(axes, [(100, 100, "#111111"), (105, 101, "#222222"), (113, 102, "#333333")])
    assert {line.get_color(): line.get_markersize() for line in axes.lines} == {
        "#111111": 15,
        "#222222": 23,
        "#333333": 23,
    }


def test_the_best_of_a_curve_over_T_is_of_a_w_that_has_a_curve(table2):
    lone = table2[(table2["w"] == 0.3) & (table2["T"] == 256)].assign(w=0.35, fid=0.1, cell_id="lone")
    without = table2[(table2["w"] != 0.3) | (table2["T"] != 128)]  # one of its three is not run yet
    for rows in (table2, without):
        (figure,) = steps(slices(pd.concat([rows, lone], ignore_index=True)))
        assert list(curves(figure.axes[0])) == ["w = 0", "w = 0.3 (best FID, at T 256)", "w = 1", "w = 4"]
    scored = table2.assign(fid=table2["fid"].where((table2["w"] != 4) & (table2["T"] != 128)))
    (figure,) = steps(slices(scored))  # most T are of a w that has no FID
    assert "w = 0.3 (best FID, at T 256)" in curves(figure.axes[0])


@pytest.mark.parametrize("count", [6, 12])
def test_of_many_curves_where_they_begin_need_not_be_written(table1, count):
    """All begin at one place, where there is no room for all."""
    one = table1[table1["p_uncond"] == 0.1]
    parts = [
        one.assign(p_uncond=0.01 * k, cell_id=one["cell_id"] + f"-{k}", fid=one["fid"] * (1 + k * one["w"] / 10))
        for k in range(1, count + 1)
    ]
    (figure,) = tradeoff(slices(pd.concat(parts, ignore_index=True)))
    (axes,) = figure.axes
    texts = [text.get_text() for text in axes.texts]
    assert texts.count("4") == count
    assert (texts.count("0") == count) == (count == 6)


def test_a_narrow_range_has_a_linear_axis(table1):
    (figure,) = tradeoff(slices(table1.assign(fid=table1["fid"] + 100)))
    assert figure.axes[0].get_yscale() == "linear"


def test_figures_that_are_held_against_each_other_have_axes_of_one_kind(both):
    parts = slices(both.assign(fid=both["fid"] - 1))
    ranges = [part.rows["fid"].max() / part.rows["fid"].min() for part in parts]
    assert min(ranges) < scales.LOG_FROM < max(ranges)
    for figures in (tradeoff(parts), strength(parts), tradeoff(parts[:2]), strength(parts[:2])):
        axes = [figure.axes[0] for figure in figures]
        assert {one.get_yscale() for one in axes} == {"log" if len(axes) == 3 else "linear"}
        for one in axes:
            low, high = one.get_ylim()
            assert sum(low <= tick <= high for tick in one.yaxis.get_majorticklocs()) >= 3
    models = steps(slices(both.assign(fid=both["fid"] * np.where(both["p_uncond"] == 0.1, both["w"] + 0.1, 1))))
    assert {figure.axes[0].get_yscale() for figure in models} == {"log"}
    drawn = steps(slices(both.assign(fid=np.where(both["w"] == 0.2, 5000.0, both["fid"] + 100))))
    assert {figure.axes[0].get_yscale() for figure in drawn} == {"linear"}  # w 0.2 is none of the curves


def test_published_curves_behind_ask_for_a_logarithmic_axis_too(table1):
    (wide,), (narrow,) = slices(table1), slices(table1.assign(fid=table1["fid"] + 100))
    for behind, scale in ((None, "linear"), (replace(wide, setting=wide.setting | {"source": "it"}), "log")):
        (figure,) = tradeoff([narrow], behind=lambda _, one=behind: one)
        assert figure.axes[0].get_yscale() == scale


@pytest.mark.parametrize("ratio", [1.2, 2, 4, 7.9, 30, 1e3, 1e6])
@pytest.mark.parametrize("low", [0.0123, 1.7, 80])
def test_a_logarithmic_axis_has_ticks_whatever_its_range(table1, ratio, low):
    (part,) = slices(table1)
    axes = Figure().subplots()
    values = np.array([low, low * ratio])
    scales.metric_axis(axes, FID, values, part, log=True, room=480)
    axes.plot([0, 1], values)
    ticks = [tick for tick in axes.yaxis.get_majorticklocs() if low <= tick <= low * ratio]
    assert 3 <= len(ticks) <= 8 or ratio == 1.2


@pytest.mark.parametrize("count", [12, 28, 60])
def test_axes_have_room_below_a_long_legend(table1, count):
    one = table1[table1["p_uncond"] == 0.1]
    parts = [
        one.assign(p_uncond=0.005 * k, cell_id=one["cell_id"] + f"-{k}", fid=one["fid"] + k)
        for k in range(1, count + 1)
    ]
    for figure in strength(slices(pd.concat(parts, ignore_index=True))):
        figure.draw_without_rendering()
        legend, title = figure.legends[0].get_window_extent(), figure.texts[1].get_window_extent()
        assert title.y0 > legend.y1
        for axes in figure.axes:
            frame = axes.get_window_extent()
            assert frame.height > 1.7 * figure.dpi
            assert frame.y1 < legend.y0
        assert figure.texts[0].get_window_extent().y1 < figure.bbox.height


def test_failed_cells_are_not_drawn(with_failures):
    (figure,) = tradeoff(slices(with_failures))
    assert [len(xs) for xs, _ in curves(figure.axes[0]).values()] == [12, 13, 14]


def test_a_figure_for_each_part_that_does_not_compare(both):
    parts = slices(both)
    for figures in (tradeoff(parts), strength(parts)):
        assert [f"(T {T})" in heading_of(figure) for T, figure in zip((8, 16, 32), figures, strict=True)] == [True] * 3


def test_strength_draws_both_metrics_over_w(table1):
    (figure,) = strength(slices(table1))
    left, right = figure.axes
    assert [axes.get_ylabel() for axes in (left, right)] == [
        "FID, log scale\n(digits features)",
        "Inception Score\n(digits features)",
    ]
    for axes, column in ((left, "fid"), (right, "is_mean")):
        for (xs, ys), (_, rows) in zip(curves(axes).values(), table1.groupby("p_uncond"), strict=True):
            np.testing.assert_array_equal(xs, rows["w"])
            np.testing.assert_array_equal(ys, rows[column])
    assert [star[:2] for star in stars(left)] == [(0.1, 1.91), (0.1, 1.62), (0.1, 1.55)]
    assert stars(right) == []
    assert "scale = 1 + w" in left.get_xlabel()
    place = [left.transScale.transform((w, 1.0))[0] for w in (0, 1, 4)]
    assert place[1] - place[0] > place[2] - place[1]  # 0 ... 1 takes more room than 1 ... 4
    assert set(left.xaxis.get_majorticklocs()) >= {0, 1, 2, 3, 4}


def test_strength_of_one_metric_has_one_panel(table1):
    (figure,) = strength(slices(table1.assign(is_mean=None)))
    assert [axes.get_ylabel() for axes in figure.axes] == ["FID, log scale\n(digits features)"]


def test_steps_draws_a_few_strengths_over_T(table2):
    (figure,) = steps(slices(table2))
    left, right = figure.axes
    assert left.get_xscale() == "log"
    assert list(curves(left)) == ["w = 0", "w = 0.3 (best FID, at T 256)", "w = 1", "w = 4"]
    for axes, column in ((left, "fid"), (right, "is_mean")):
        for w, (xs, ys) in zip((0, 0.3, 1, 4), curves(axes).values(), strict=True):
            rows = table2[table2["w"] == w].sort_values("T")
            np.testing.assert_array_equal(xs, rows["T"])
            np.testing.assert_array_equal(ys, rows[column])
    assert left.xaxis.get_majorticklocs().tolist() == [128, 256, 1024]


def test_steps_of_a_strength_that_has_one_metric_alone_stand_in_its_panel(table2):
    rows = table2[table2["w"].isin([0, 0.1, 4])].reset_index(drop=True)
    rows.loc[rows["w"] == 4, "fid"] = None
    (figure,) = steps(slices(rows))
    fid, score = figure.axes
    assert [line.get_label() for line in score.lines] == ["w = 0", "w = 0.1 (best FID, at T 1024)", "w = 4"]
    assert [line.get_label() for line in fid.lines] == ["w = 0", "w = 0.1 (best FID, at T 1024)"]
    assert [line.get_color() for line in fid.lines] == [line.get_color() for line in score.lines[:2]]
    told = [text.get_text() for text in figure.legends[0].get_texts()]
    assert told == ["w = 0", "w = 0.1 (best FID, at T 1024)", "w = 4"]


def test_steps_of_several_models_are_kept_apart(both):
    figures = steps(slices(both))
    assert [f"(p_uncond {p})" in heading_of(f) for p, f in zip((0.1, 0.2, 0.5), figures, strict=True)] == [True] * 3
    for p, figure in zip((0.1, 0.2, 0.5), figures, strict=True):
        xs, ys = curves(figure.axes[0])["w = 0"]
        rows = both.query(f"p_uncond == {p} and w == 0").sort_values("T")
        np.testing.assert_array_equal(xs, [8, 16, 32])
        np.testing.assert_array_equal(ys, rows["fid"])


def test_nothing_to_plot_says_why(table1):
    with pytest.raises(NothingToPlot, match="two values of T"):
        steps(slices(table1))
    with pytest.raises(NothingToPlot, match="two values of T"):
        steps(slices(pd.concat([table1, table1.assign(T=64)]).assign(fid=None, is_mean=None)))
    with pytest.raises(NothingToPlot, match="two values of w"):
        strength(slices(table1[table1["w"] == 0]))
    with pytest.raises(NothingToPlot, match="FID and IS"):
        tradeoff(slices(table1.assign(is_mean=None)))
    with pytest.raises(NothingToPlot):
        tradeoff(slices(table1.assign(status="failed")))


def test_standard_errors_become_bars(table1):
    def count(figure):
        return sum(len(bars(axes)) for axes in figure.axes)

    assert count(strength(slices(table1))[0]) == 0
    assert count(strength(slices(table1.assign(fid_se=0.1)))[0]) == 42
    assert count(tradeoff(slices(table1.assign(fid_se=0.1, is_se=1.0)))[0]) == 84
    some = table1.assign(fid_se=[0.1, np.nan] * 21)
    assert count(strength(slices(some))[0]) == 21


def test_many_curves_stay_distinct(table1):
    rows = pd.concat([table1[table1["p_uncond"] == 0.1].assign(T=T, cell_id=f"{T}") for T in range(4, 16)])
    (figure,) = strength(slices(rows))
    looks = {(line.get_color(), line.get_marker()) for line in figure.axes[1].lines}
    assert len(looks) == 12


def test_a_drawing_that_grows_too_large_is_left(table1):
    (figure,) = tradeoff(slices(table1))
    whole = svg(figure)
    assert svg(figure, len(whole)) == whole
    assert svg(figure, len(whole) - 1) == b""


def test_files_are_the_same_for_the_same_numbers(table1):
    first, again = (tradeoff(slices(table1))[0] for _ in range(2))
    assert svg(first) == svg(again) == svg(first)
    assert png(first) == png(again)
    assert pdf(first) == pdf(again)
    assert b"<dc:date>" not in svg(first)
    assert b"Date" not in pdf(first)


def test_text_of_a_pdf_is_in_fonts_that_journals_take(table1):
    (figure,) = tradeoff(slices(table1))
    content = pdf(figure)
    assert b"/FontFile2" in content  # TrueType
    assert b"/Type3" not in content


@pytest.mark.parametrize(("curves", "inside"), [(3, True), (6, True), (7, False), (20, False)])
def test_a_long_legend_lies_above_the_axes(table1, curves, inside):
    one = table1[table1["p_uncond"] == 0.1]
    parts = [
        one.assign(p_uncond=0.01 * k, cell_id=one["cell_id"] + f"-{k}", fid=one["fid"] + k)
        for k in range(1, curves + 1)
    ]
    (figure,) = tradeoff(slices(pd.concat(parts, ignore_index=True)))
    (axes,) = figure.axes
    legend = axes.get_legend() if inside else figure.legends[0]
    assert (axes.get_legend() is not None, len(legend.get_texts())) == (inside, curves + 1)
    figure.draw_without_rendering()
    box, frame = legend.get_window_extent(), axes.get_window_extent()
    assert box.y0 >= (frame.y0 if inside else frame.y1)
    assert inside or box.y0 - frame.y1 < 0.3 * figure.dpi  # no band of white
    assert box.y1 <= figure.texts[1].get_window_extent().y0
    assert ("labels: w" in figure.texts[1].get_text()) != inside
