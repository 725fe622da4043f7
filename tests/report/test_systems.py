"""Several systems in one sweep: which row is of which, what they share, and how they stand beside each other."""

import io
import re

import numpy as np
import pandas as pd
import pytest
from drawn import bars, steps, strength, title_of, tradeoff
from matplotlib.colors import to_rgb
from matplotlib.text import Text

from cfgbench.report import Report, Request, print_tables
from cfgbench.report.claims import judge
from cfgbench.report.rows.columns import conditions
from cfgbench.report.rows.slices import arranged, side_by_side, slices
from cfgbench.report.rows.systems import DEFAULTS, with_systems
from cfgbench.report.tables.formats import csv, latex, markdown
from cfgbench.sweep.results.influences import Influences

CFG, CLASSIFIER, SCALING, LOW = (
    *("classifier-free guidance", "classifier guidance"),
    *("score scaling", "low temperature"),
)
UNCONDITIONAL = "classifier guidance on the unconditional branch"
POINTS = {  # system: (its columns, {knob: (FID, IS)})
    CLASSIFIER: ({"guidance": "classifier"}, {0.5: (1.7, 60.0), 2.0: (1.6, 75.0), 8.0: (3.5, 90.0)}),
    UNCONDITIONAL: (
        {"guidance": "classifier", "on": "unconditional"},
        {1.0: (4.0, 40.0), 3.0: (2.5, 66.0), 5.0: (2.6, 70.0)},
    ),
    SCALING: ({"guidance": "score-scale"}, {0.5: (9.0, 30.0), 2.0: (90.0, 9.0)}),
    LOW: ({"guidance": "cfg"}, {0.9: (5.0, 50.0), 0.98: (1.9, 54.0)}),
}
UNGUIDED, NO_CLASS = (1.8, 53.71), (20.0, 15.0)  # of the paper's p_uncond 0.1


@pytest.fixture
def systems(table1):
    """The paper's three columns, the unconditional network of p_uncond 0.1, and four other systems beside that."""
    like = table1.iloc[[0]]
    rows = [table1, like.assign(w=-1.0, fid=NO_CLASS[0], is_mean=NO_CLASS[1], cell_id="no class")]
    for name, (columns, points) in POINTS.items():
        for at, (fid, score) in points.items():
            place = {"w": 0.0, "temperature": at} if name == LOW else {"w": at}
            more = {"fid": fid, "is_mean": score, "cell_id": f"{name} {at}", "nfe": 768} | place | columns
            rows.append(like.assign(**more, classifier_id="c" if columns["guidance"] == "classifier" else None))
    return pd.concat(rows, ignore_index=True)  # what a row lacks is null: it was made before there was such a column


@pytest.fixture
def axes(systems):
    return tradeoff(side_by_side(systems))[0].axes[0]


def curves(axes):
    lines = [line for line in axes.lines if not line.get_label().startswith("_")]
    return {line.get_label().split(":")[0]: line.get_xydata() for line in lines}


def cells(text):
    """The numbers of Markdown tables as rows of text."""
    return [
        [cell.strip(" *") for cell in line.split("|")[1:-1]] for line in text.splitlines() if re.match(r"\| -?\d", line)
    ]


def test_which_system_a_row_is_of(systems):
    named = with_systems(systems).groupby("system", sort=False)
    assert {name: len(rows) for name, rows in named} == {
        **{CFG: 43, CLASSIFIER: 3, UNCONDITIONAL: 3},
        **{SCALING: 2, LOW: 2},
    }
    turned = {name: (set(rows["knob"]), sorted(rows["at"])) for name, rows in named if name != CFG}
    assert turned == {
        name: ({"temperature" if name == LOW else "w"}, sorted(points)) for name, (_, points) in POINTS.items()
    }


def test_other_rules_and_guidance_at_another_temperature_have_names_too(table1):
    rows = table1.iloc[[1]]
    assert with_systems(rows.assign(guidance="interval"))["system"].tolist() == ["guidance interval"]
    assert with_systems(rows.assign(temperature=0.9))["system"].tolist() == [f"{CFG} at temperature 0.9"]
    assert with_systems(rows.assign(on="unconditional"))["system"].tolist() == [CFG]  # means nothing without classifier


@pytest.mark.parametrize("column", DEFAULTS)
def test_rows_from_before_these_columns_stand_with_the_new_ones(table1, column):
    rows = table1.assign(**DEFAULTS)
    plain = slices(table1)
    for old in (rows.drop(columns=column), rows.assign(**{column: rows[column].where(rows["w"] < 1, None)})):
        (part,) = slices(old)
        assert len(part.rows) == 42
        assert markdown([part]).replace("guidance cfg, ", "") == markdown(plain).replace("guidance cfg, ", "")
        assert list(pd.read_csv(io.StringIO(csv([part])))) == [
            name for name in pd.read_csv(io.StringIO(csv(plain))) if name != column or column in old
        ]
    assert side_by_side(rows) == []


def test_systems_stand_side_by_side_where_they_share_p_uncond_and_T(systems):
    (part,) = side_by_side(systems)
    assert part.values == [CFG, CLASSIFIER, UNCONDITIONAL, SCALING, LOW]
    assert (part.setting["p_uncond"], part.setting["T"], part.series) == (0.1, 256, "system")
    twice = pd.concat([systems, systems.assign(T=64, cell_id=systems["cell_id"] + "-64")], ignore_index=True)
    assert [(one.setting["T"], one.differs) for one in side_by_side(twice)] == [(64, "T 64"), (256, "T 256")]


def test_what_differs_otherwise_is_not_put_side_by_side(systems):
    rows = systems.copy()
    rows.loc[rows["guidance"] == "score-scale", "samples"] = 1000
    (part,) = side_by_side(rows)
    assert SCALING not in part.values
    assert len(side_by_side(rows.assign(samples=range(len(rows))))) == 0


def test_each_curve_begins_at_the_unguided_row(axes):
    drawn = curves(axes)
    assert list(drawn) == [CFG, CLASSIFIER, UNCONDITIONAL, SCALING, LOW]
    for name, (_, points) in POINTS.items():
        start = NO_CLASS if name == UNCONDITIONAL else UNGUIDED
        expected = [start, *(points[at] for at in sorted(points, reverse=name == LOW))]
        np.testing.assert_array_equal(drawn[name], [(score, fid) for fid, score in expected])
    assert len(drawn[CFG]) == 15


def test_an_unguided_cell_of_its_own_is_where_a_curve_begins(systems):
    own = systems[systems["guidance"] == "score-scale"].iloc[[0]].assign(w=0.0, fid=1.7, is_mean=54.0, cell_id="own")
    (figure,) = tradeoff(side_by_side(pd.concat([systems, own], ignore_index=True)))
    assert curves(figure.axes[0])[SCALING][0].tolist() == [54.0, 1.7]


def test_systems_begin_with_the_unguided_network_whatever_rule_sampled_it(systems):
    rows = systems.copy()
    unguided = (rows["w"] == 0) & rows["temperature"].isna() & (rows["p_uncond"] == 0.1)
    rows.loc[unguided, ["guidance", "on"]] = ["classifier", "conditional"]
    (part,) = side_by_side(rows)
    drawn = curves(tradeoff([part])[0].axes[0])
    for name in (CFG, CLASSIFIER, SCALING, LOW):
        assert UNGUIDED[::-1] in map(tuple, drawn[name]), name


@pytest.mark.parametrize("change", [{"status": "failed"}, {"p_uncond": 0.2}, {"seed": 1}])
def test_an_unguided_row_that_failed_or_is_of_another_place_starts_nothing(systems, change):
    rows = systems.copy()
    unguided = (rows["w"] == 0) & rows["temperature"].isna() & (rows["p_uncond"] == 0.1)
    rows.loc[unguided, list(change)] = list(change.values())
    (part,) = side_by_side(rows[rows["p_uncond"] == 0.1] if "seed" not in change else rows)
    assert curves(tradeoff([part])[0].axes[0])[SCALING].tolist() == [[30.0, 9.0], [9.0, 90.0]]


def test_points_are_labelled_with_their_own_knob(axes):
    names = {to_rgb(line.get_color()): name for name, line in zip(curves(axes), axes.lines, strict=False)}
    told = {}
    for note in axes.texts:
        told.setdefault(names.get(to_rgb(note.get_color()), "all"), {})[note.get_text()] = note.xy
    assert told["all"] == {"unguided": UNGUIDED[::-1], "unconditional": NO_CLASS[::-1]}
    assert told[LOW] == {f"τ {at:g}": point[::-1] for at, point in POINTS[LOW][1].items()}
    for name in (CLASSIFIER, UNCONDITIONAL, SCALING):
        assert told[name].items() <= {f"{at:g}": point[::-1] for at, point in POINTS[name][1].items()}.items()
        assert f"{max(POINTS[name][1]):g}" in told[name]
    assert "0" not in told[CFG]


def test_the_labels_lie_free_of_each_other(axes):
    axes.figure.draw_without_rendering()
    boxes = [Text.get_window_extent(note) for note in axes.texts]
    assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])


def test_the_best_of_each_is_starred_and_named(axes):
    found = sorted(tuple(line.get_xydata()[0]) for line in axes.lines if line.get_marker() == "*")
    best = [(66.11, 1.55), (75.0, 1.6), (66.0, 2.5), UNGUIDED[::-1]]  # one star for both that begin there
    assert found == sorted(best)
    legend = [text.get_text() for text in axes.figure.legends[0].get_texts()]
    assert legend == [
        f"{CFG}: FID 1.55 at w 0.1",
        f"{CLASSIFIER}: FID 1.60 at w 2",
        f"{UNCONDITIONAL}: FID 2.50 at w 3",
        f"{SCALING}: FID 1.80 at w 0",
        f"{LOW}: FID 1.80 at τ 1",
        "best FID",
    ]
    assert axes.get_yscale() == "log"  # 1.55 ... 90
    ticks = [tick for tick in axes.yaxis.get_majorticklocs() if 1.55 < tick < 90]
    assert ticks == [2, 3, 5, 10, 20, 30, 50]


def test_the_figure_per_p_uncond_stays_and_what_is_told_is_not_repeated(tmp_path, systems, table1):
    paths = Report(tmp_path / "digits", systems).write(tmp_path / "out")
    names = {path.name for path in paths}
    assert {"tradeoff.png", "tradeoff-2.png", "strength-3.png", "table.md", "table.csv", "table.tex"} <= names
    assert "tradeoff-3.png" not in names
    shown = arranged(slices(systems), side_by_side(systems))
    assert [part.series for part in shown] == ["system", "p_uncond"]
    before, after = (tradeoff(slices(rows))[0].axes[0] for rows in (table1, systems[systems["w"] >= 0]))
    for old, new in zip(curves(before).values(), curves(after).values(), strict=True):
        np.testing.assert_array_equal(old, new)
    page = (tmp_path / "out" / "index.md").read_text()
    assert "53 cells: 53 done" in page
    assert "earlier version" not in page
    assert page.count("labelled with w where there is room. At low temperature w gives way to the temperature, τ.") == 1
    assert (tmp_path / "out" / "table.md").read_text().strip() in page


def test_a_table_per_p_uncond_stays_where_the_systems_tables_hold_all_of_it(table1):
    low = table1[table1["w"] == 0].assign(temperature=0.9, fid=5.0)
    rows = pd.concat([table1, low.assign(cell_id=low["cell_id"] + "-cold")], ignore_index=True)
    shown = arranged(slices(rows), side_by_side(rows))
    assert [part.series for part in shown] == [*["system"] * 3, *["p_uncond"] * 2]
    assert [part.differs for part in shown[:3]] == [f"p_uncond {p}" for p in (0.1, 0.2, 0.5)]
    assert shown[3].values == shown[4].values == [0.1, 0.2, 0.5]


def test_a_single_system_of_its_own_has_what_it_had(table1):
    rows = table1.assign(guidance="classifier", on="unconditional", classifier_id="c")
    assert side_by_side(rows) == []
    (part,) = arranged(slices(rows), [])
    text = markdown([part])
    assert UNCONDITIONAL in text
    assert cells(text)[1] == ["0.1", "1.55", "1.62", "1.91", "66.11", "64.58", "56.10"]  # the weight has no scale
    assert "scale" not in text


def test_markdown_has_a_table_a_knob(systems):
    text = markdown(side_by_side(systems))
    first, second, third = (block for block in text.split("**Table ")[1:])
    assert [block.split("**")[0] for block in (first, second, third)] == ["1.", "1, continued.", "1, continued."]
    assert f"| w | scale | FID<br>{CFG} | FID<br>{CLASSIFIER} | FID<br>{UNCONDITIONAL} | FID<br>{SCALING} |" in first
    assert f"| w | scale | IS<br>{CFG} |" in second
    assert f"| temperature | FID<br>{LOW} | IS<br>{LOW} |" in third
    rows = {row[0]: row[1:] for row in cells(first)}
    assert rows["-1"] == ["0", "20.00", "", "", ""]
    assert rows["0"] == ["1", "1.80", "1.80", "20.00", "1.80"]
    assert rows["2"] == ["3", "21.03", "1.60", "", "90.00"]
    assert rows["8"] == ["", "", "3.50", "", ""]  # a classifier's weight is no scale
    assert cells(third) == [["1", "1.80", "53.71"], ["0.98", "1.90", "54.00"], ["0.9", "5.00", "50.00"]]
    assert f"Where {CLASSIFIER} and {SCALING} have no cell at w 0, the unguided one (w 0) of another" in first
    assert f"Where {UNCONDITIONAL} has no cell at w 0, the unconditional one (w -1) of another system" in first
    assert "without guidance (w 0)" in third


def test_csv_holds_every_number_once(systems):
    frame = pd.read_csv(io.StringIO(csv(side_by_side(systems))))
    for name, (_, points) in POINTS.items():
        knob = "temperature" if name == LOW else "w"
        found = frame.dropna(subset=[knob, f"FID system={name}"]).set_index(knob)
        for at, (fid, score) in points.items():
            assert (found[f"FID system={name}"][at], found[f"IS system={name}"][at]) == (fid, score)
        assert len(found) == len(points) + 1
    assert set(frame["table"]) == {1}
    assert set(frame["p_uncond"]) == {0.1}


def test_latex_is_as_wide_as_it_says(systems):
    text = latex(side_by_side(systems))
    assert text.count(r"\begin{tabular}") == 3
    for table in text.split(r"\begin{tabular}{")[1:]:
        width = len(table.split("}")[0])
        body = table.split(r"\midrule")[1].split(r"\bottomrule")[0].strip().splitlines()
        assert {line.count("&") + 1 for line in body} == {width}
    assert r"\shortstack[r]{classifier\\guidance on the\\unconditional\\branch}" in text
    assert text.count("{") == text.count("}")


def test_the_terminal_names_all_systems(systems, capsys, tmp_path):
    print_tables(Report(tmp_path, systems))
    text = capsys.readouterr().out
    assert "unconditional" in text
    assert re.search(r"^\s+0\.98 +1\.90 +54\.00", text, re.M)
    assert re.search(r"^\s+2 +3 +21\.03 +1\.60 +90\.00", text, re.M)


def test_strength_has_a_figure_a_knob(systems):
    guided, cooled = strength(side_by_side(systems))
    assert list(curves(guided.axes[0])) == [CFG, CLASSIFIER, UNCONDITIONAL, SCALING]
    assert curves(guided.axes[0])[SCALING].tolist() == [[0, 1.8], [0.5, 9], [2, 90]]
    assert curves(cooled.axes[0]).keys() == {LOW}
    assert curves(cooled.axes[1])[LOW].tolist() == [[1, 53.71], [0.98, 54], [0.9, 50]]
    assert guided.axes[0].get_xlabel() == "guidance strength w\n(scale = 1 + w; of a classifier w is the weight)"
    assert cooled.axes[0].get_xlabel() == "temperature"
    assert cooled.axes[0].xaxis_inverted()


def test_a_point_that_systems_share_has_one_pair_of_error_bars_in_each_figure(systems):
    rows = systems.assign(fid_se=0.01, is_se=0.1)
    guided, cooled = strength(side_by_side(rows))
    own = sum(len(points) for name, (_, points) in POINTS.items() if name != LOW)
    assert [len(bars(axes)) for axes in guided.axes] == [15 + own] * 2
    assert [len(bars(axes)) for axes in cooled.axes] == [3, 3]  # the unguided one among them
    assert len(bars(tradeoff(side_by_side(rows))[0].axes[0])) == 2 * (15 + own + 2)


def test_low_and_high_temperature_begin_with_one_pair_of_error_bars(systems):
    hot = systems[systems["temperature"] == 0.9].assign(temperature=1.25, cell_id="hot", fid=9.0)
    rows = pd.concat([systems, hot], ignore_index=True).assign(fid_se=0.01, is_se=0.1)
    _, turned = strength(side_by_side(rows))
    assert [len(bars(axes)) for axes in turned.axes] == [4, 4]


def test_what_figures_ask_for_is_no_condition(systems):
    for part in (*slices(systems), *side_by_side(systems)):
        assert conditions(part.ok) == conditions(part.rows)


def test_steps_of_each_system_go_by_its_knob(systems):
    rows = pd.concat([systems.assign(T=T, cell_id=systems["cell_id"] + f"-{T}") for T in (8, 64)], ignore_index=True)
    figures = {title_of(figure): figure for figure in steps(slices(rows))}
    (cooled,) = (figure for title, figure in figures.items() if LOW in title)
    assert list(curves(cooled.axes[0])) == ["temperature = 0.9", "temperature = 1 (best FID, at T 8)"]
    (scaling,) = (figure for title, figure in figures.items() if SCALING in title)
    assert list(curves(scaling.axes[0])) == ["w = 0 (best FID, at T 8)", "w = 2"]


def test_a_line_a_system_says_its_best_by_its_knob(tmp_path, systems):
    lines = Report(tmp_path, systems).best
    assert len(lines) == 7
    assert f"p_uncond 0.1, {CLASSIFIER}: best FID 1.60 at w 2; 1.80 without guidance (digits features)" in lines
    of_branch = (
        f"p_uncond 0.1, {UNCONDITIONAL}: best FID 2.50 at w 3; 20.00 of the unconditional model without guidance"
    )
    assert any(line.startswith(of_branch) for line in lines)
    assert f"p_uncond 0.1, {LOW}: best FID 1.80 at temperature 1 (digits features)" in lines
    assert f"p_uncond 0.1, {CFG}: best FID 1.55 at w 0.1 (scale 1.1); 1.80 without guidance (digits features)" in lines


def test_more_noise_than_there_should_be_is_no_low_temperature(systems):
    more = systems[systems["temperature"] == 0.9].assign(
        temperature=[1.125], fid=9.0, cell_id="hot", **{"is_mean": 40.0, "created": systems["created"].max()}
    )
    hotter = more.assign(temperature=1.25, fid=12.0, cell_id="hotter")
    rows = pd.concat([systems, more, hotter], ignore_index=True)
    (part,) = side_by_side(rows)
    assert part.values == [CFG, CLASSIFIER, UNCONDITIONAL, SCALING, LOW, "high temperature"]
    at = {system: found["at"].tolist() for system, found in part.rows.groupby("system")}
    assert at[LOW] == [1, 0.98, 0.9]
    assert at["high temperature"] == [1, 1.125, 1.25]  # from the unguided one on, as the knob is turned
    assert [row[0] for row in cells(markdown([part]).split("**Table ")[3])] == ["1.25", "1.125", "1", "0.98", "0.9"]
    both = pd.concat([rows.assign(T=T, cell_id=rows["cell_id"] + f"-{T}") for T in (8, 64)], ignore_index=True)
    (heated,) = (figure for figure in steps(slices(both)) if "high temperature" in title_of(figure))
    assert list(curves(heated.axes[0])) == ["temperature = 1 (best FID, at T 8)", "temperature = 1.25"]


def test_a_page_names_the_temperatures_that_it_has(tmp_path, systems):
    hot = systems["temperature"].map({0.9: 1.25}).fillna(systems["temperature"])
    Report(tmp_path / "digits", systems.assign(temperature=hot)).write(tmp_path / "out")
    assert "At low temperature and high temperature w gives way to" in (tmp_path / "out" / "index.md").read_text()


def test_a_page_tells_the_bias_of_its_tables(tmp_path, systems):
    few = systems.assign(samples=1000, fid_infinity=systems["fid"] - 0.01 * systems.index)
    Report(tmp_path / "digits", few).write(tmp_path / "out")
    above, below = (tmp_path / "out" / "index.md").read_text().split("## Tables")
    ends = re.search(r"here by about (\S+) to (\S+) \(FID − FID∞, mean over each table\)", above).groups()
    told = re.findall(r"here by about (\S+) \(FID − FID∞, mean over the table\)", below)
    assert len(told) == 3
    assert ends == (min(told, key=float), max(told, key=float))


def test_a_page_speaks_of_temperatures_where_it_shows_them(tmp_path, systems):
    guided = systems[systems["guidance"].eq("cfg") & systems["temperature"].isna()]
    rows = pd.concat([systems, guided.assign(T=8, cell_id=guided["cell_id"] + "-8")], ignore_index=True)
    Report(tmp_path / "digits", rows).write(tmp_path / "out")
    sections = (tmp_path / "out" / "index.md").read_text().split("\n## ")
    told = {section.split("\n")[0] for section in sections if "gives way to the temperature" in section}
    assert "![Over sampling steps]" in "".join(sections)
    assert told == {"Trade-off", "Over guidance strength"}


def test_seeds_of_a_system_are_averaged_at_each_temperature(systems):
    rows = pd.concat(
        [systems.assign(seed=s, fid=systems["fid"] + s, cell_id=systems["cell_id"] + f"-{s}") for s in (0, 1)],
        ignore_index=True,
    )
    (part,) = side_by_side(rows)
    low = part.rows[part.rows["system"] == LOW].set_index("at")["fid"]
    assert low.to_dict() == {1.0: 2.3, 0.98: 2.4, 0.9: 5.5}


def test_an_older_network_or_classifier_gives_way_in_all_systems(systems):
    old = systems.assign(created="2023-01-01", cell_id=systems["cell_id"] + "-old", fid=0.5, w=systems["w"] + 0.01)
    for stale in (old.assign(checkpoint_id="old"), old[old["guidance"] == "classifier"].assign(classifier_id="old")):
        (part,) = side_by_side(pd.concat([systems, stale], ignore_index=True))
        assert not part.rows["cell_id"].str.endswith("-old").any()


def test_an_axis_named_with_its_section_is_no_further_condition(systems):
    rows = systems.assign(**{"sampling.temperature": systems["temperature"], "sampling.guidance": systems["guidance"]})
    (part,) = side_by_side(rows)
    assert len(part.values) == 5


def test_marks_of_protocols_stand_in_the_systems_table_too(systems):
    other = systems["guidance"] == "score-scale"
    rows = systems.assign(protocol=np.where(other, "clip off; fp32", "clip on; fp32"))
    assert all(SCALING not in part.values for part in side_by_side(rows))
    (part,) = side_by_side(rows, mixed=True)
    assert SCALING in part.values


@pytest.mark.parametrize("again", [False, True])
def test_mixed_marks_systems_that_were_measured_otherwise(tmp_path, systems, again):
    mine = systems["guidance"] == "classifier"
    other = {"features_id": "inception-2048-0123", "protocol": "clip off; fp32"}
    other = systems[mine].assign(**other, cell_id=systems["cell_id"] + "-other")
    rows = pd.concat([systems if again else systems[~mine], other], ignore_index=True)
    (part,) = side_by_side(rows, mixed=True)
    assert len(part.marks) == 2
    assert part.rows["mark"].notna().all()
    Report(tmp_path / "digits", rows, mixed=True).write(tmp_path / "out")
    found = pd.read_csv(tmp_path / "out" / "table.csv").query("table == 1")
    assert found[f"FID system={CFG}"].notna().sum() == 15
    of_mark = part.rows.groupby("mark")["features_id"].agg(set)
    assert of_mark.tolist() == [{"digits-0123456789ab"}, {"inception-2048-0123"}]
    lines = Report(tmp_path, rows, mixed=True).best
    (best,) = (line for line in lines if f" {CLASSIFIER}, " in line and "[b]" in line)
    assert best.endswith("(inception features)")
    assert "without guidance" not in best  # that was measured otherwise


def test_mixed_a_system_of_one_protocol_has_its_mark_where_another_has_two(tmp_path, systems):
    """It begins at a point of that other, and stands beside it."""
    rows = systems[systems["guidance"].eq("cfg")]
    rows = rows.assign(protocol=np.where(rows["p_uncond"] == 0.2, "clip off; fp32", "clip on; fp32"))
    report = Report(tmp_path / "digits", rows, mixed=True)
    (cold,) = (part for part in report.shown.parts if part.setting["system"] == LOW)
    assert cold.rows[["at", "mark"]].to_numpy().tolist() == [[1, "a"], [0.98, "a"], [0.9, "a"]]
    assert len(report.write(tmp_path / "out", Request(plots=("tradeoff",)))) == 4
    (figure,) = tradeoff([part for part in report.shown.arranged if part.series == "system"])
    names = [line.get_label() for line in figure.axes[0].lines if not line.get_label().startswith("_")]
    assert [(name.split(":")[0], name[-4:]) for name in names] == [(CFG, " [a]"), (LOW, " [a]")]


def test_mixed_no_curve_begins_at_a_point_of_another_protocol_where_seeds_differ_too(tmp_path, systems):
    rows = systems[systems["p_uncond"].eq(0.1)]
    free = rows[rows["guidance"].eq("cfg") & rows["temperature"].isna()]
    free = pd.concat([free.assign(seed=seed, cell_id=free["cell_id"] + f"-{seed}") for seed in range(3)])
    other = rows[rows["guidance"].eq("score-scale")].assign(protocol="clip off; fp32")
    report = Report(tmp_path, pd.concat([free, other], ignore_index=True), mixed=True)
    (scaling,) = (part for part in report.shown.parts if part.setting["system"] == SCALING)
    assert scaling.rows["at"].tolist() == [0.5, 2]
    assert scaling.rows["mark"].tolist() == ["b", "b"]
    assert not any("finds nothing to put together" in line for line in report.notes)


@pytest.mark.parametrize("apart", [{"p_uncond": 0.7}, {"T": 64}])
def test_systems_that_never_stand_together_have_no_marks(tmp_path, table1, apart):
    other = table1[table1["p_uncond"] == 0.1].assign(guidance="classifier", features_id="inception-2048-0123", **apart)
    rows = pd.concat([table1, other.assign(cell_id=other["cell_id"] + "-other")], ignore_index=True)
    assert not any(part.marks for part in (*slices(rows, mixed=True), *side_by_side(rows, mixed=True)))
    assert any("--mixed finds nothing to put together" in line for line in Report(tmp_path, rows, mixed=True).notes)
    assert not any("kept apart" in line for line in Report(tmp_path, rows).notes)


def test_systems_with_fewer_seeds_stand_beside_the_others_at_those(tmp_path, systems):
    free = systems["guidance"].eq("cfg") & systems["temperature"].isna() & systems["p_uncond"].eq(0.1)
    more = [systems[free].assign(seed=s, cell_id=systems["cell_id"] + f"-{s}", fid=systems["fid"] + s) for s in (1, 2)]
    rows = pd.concat([systems.assign(seed=0), *more], ignore_index=True)
    (part,) = side_by_side(rows)
    assert set(part.values) == set(side_by_side(systems)[0].values)
    assert part.rows.query("system == @CFG and w == 0.1")["fid"].tolist() == [1.55]  # of seed 0 alone
    assert part.setting["seed"] == 0
    table = markdown(arranged(slices(rows), [part]))
    assert "2.55 ± 0.58 (min of 3: 1.55)" in table  # and the mean over all in a table of its own
    (judged,) = judge(rows, Influences(tmp_path))
    told = [finding.text for verdict in judged.verdicts[6:] for finding in verdict.findings]
    assert len(told) == 4
    assert not any("not swept" in text for text in told)


def test_where_guidance_at_a_temperature_begins_is_not_called_unguided(systems):
    cold = systems[(systems["temperature"] == 0.98)]
    guided = cold.assign(w=1.0, cell_id="both", fid=30.0)
    (part,) = side_by_side(pd.concat([systems, guided], ignore_index=True))
    (figure,) = tradeoff([part])
    told = {text.get_text(): text.xy for text in figure.axes[0].texts}
    names = [name for name in told if name.startswith(("unguided", "τ 0.98"))]
    assert sorted(names) == ["unguided", "τ 0.98"]
    assert tuple(told["τ 0.98"]) == tuple(cold[["is_mean", "fid"]].to_numpy()[0])
    lent = "has no cell at w 0, the unguided one (w 0, temperature 0.98) of another system stands in."
    assert f"Where {CFG} at temperature 0.98 {lent}" in markdown([part])


@pytest.mark.parametrize("there", [(0,), (0, 1), (0, 1, 2)])
def test_a_curve_that_begins_at_another_systems_point_says_over_which_seeds_that_is(systems, there):
    rows = systems[systems["p_uncond"].eq(0.1)]
    classifier = rows["guidance"].eq("classifier") & rows["on"].ne("unconditional")
    free = rows["guidance"].eq("cfg") & rows["temperature"].isna() & rows["w"].ge(0)
    parts = [rows[classifier].assign(seed=seed, cell_id=lambda r, s=seed: r["cell_id"] + f"-{s}") for seed in range(3)]
    parts += [rows[free].assign(seed=seed, cell_id=lambda r, s=seed: r["cell_id"] + f"-{s}") for seed in there]
    (of_classifier,) = (
        part for part in slices(pd.concat(parts, ignore_index=True)) if part.rows["system"].iloc[0] == CLASSIFIER
    )
    (first,) = of_classifier.rows[of_classifier.rows["w"] == 0].to_dict("records")
    assert first["seeds"] == len(there)
    missing = {1: "seeds 1 and 2: not run", 2: "seed 2: not run"}.get(len(there))
    said = None if missing is None else f"mean over {len(there)} of 3 seeds; {missing}"
    assert first["shortfall"] == said
    assert np.isnan(first["fid_se"]) == (len(there) == 1)  # of one seed of several
    assert (said or "mean over 3 seeds") in markdown([of_classifier])


def test_seeds_that_the_other_system_has_more_of_are_not_said_to_be_missing(systems):
    """The classifier's third seed failed at each point: its curve begins at the seeds that it has."""
    rows = systems[systems["p_uncond"].eq(0.1)]
    classifier = rows["guidance"].eq("classifier") & rows["on"].ne("unconditional")
    free = rows["guidance"].eq("cfg") & rows["temperature"].isna() & rows["w"].ge(0)
    parts = [rows[classifier | free].assign(seed=s, cell_id=lambda r, s=s: r["cell_id"] + f"-{s}") for s in range(3)]
    parts[2].loc[classifier, ["status", "fid", "is_mean", "reason"]] = ["failed", np.nan, np.nan, "broken"]
    (of_classifier,) = (
        part for part in slices(pd.concat(parts, ignore_index=True)) if part.rows["system"].iloc[0] == CLASSIFIER
    )
    (first,) = of_classifier.rows[of_classifier.rows["w"] == 0].to_dict("records")
    assert (first["seeds"], first["shortfall"]) == (2, None)
