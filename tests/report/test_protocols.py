"""Rows that were measured otherwise: apart, or together and marked."""

import io
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from drawn import steps, strength, title_of, tradeoff

from cfgbench.errors import UserError
from cfgbench.report import Report, Request
from cfgbench.report.rows.slices import slices
from cfgbench.report.tables.formats import csv, latex, markdown

HERE, THERE = "digits, 1797 images; clip on; fp32", "digits, 1797 images; clip off; fp32"


@pytest.fixture
def whole(table1):
    """The same cells by two protocols; the second's FIDs are twice as high."""
    first = table1.assign(protocol=HERE, protocol_id="1a")
    second = first.assign(protocol=THERE, protocol_id="2b", fid=first["fid"] * 2, cell_id=first["cell_id"] + "-2")
    return pd.concat([first, second], ignore_index=True)


@pytest.fixture
def half(whole):
    """w up to 1 by the first protocol, above it by the second."""
    return whole[(whole["w"] <= 1) == (whole["protocol_id"] == "1a")].reset_index(drop=True)


def lines(axes):
    return {line.get_label(): line for line in axes.lines if not line.get_label().startswith("_")}


def points(axes, mark):
    return sorted(xy for line in axes.lines if line.get_label() == f"_mark {mark}" for xy in line.get_xydata().tolist())


def test_apart_unless_told(whole):
    parts = slices(whole)
    assert [part.setting["protocol"] for part in parts] == [HERE, THERE]
    assert all(len(part.marks) == 0 for part in parts)
    assert "[" not in markdown(parts)


def test_together_each_entry_has_its_mark(half):
    (part,) = slices(half, mixed=True)
    assert dict(part.marks) == {"a": "clip on", "b": "clip off"}
    text = markdown([part])
    rows = [line.split(" | ") for line in text.splitlines() if line.startswith("| ") and line[2].isdigit()]
    assert [row[0].strip("| ") for row in rows] == [f"{w:g}" for w in sorted(half["w"].unique())]
    assert all(entry.count(r"\[a\]") == 1 for row in rows[:11] for entry in row[2:])
    assert all(entry.count(r"\[b\]") == 1 for row in rows[11:] for entry in row[2:])
    assert r"\[a\] clip on" in text
    assert r"\[b\] clip off" in text
    assert "digits, 1797 images; fp32; as marked" in text
    assert "**" not in "".join("".join(row) for row in rows)
    assert "Best of each" not in text
    assert "[a] clip on" in latex([part])
    read = pd.read_csv(io.StringIO(csv([part])))
    assert read["FID mark p_uncond=0.1"].tolist() == ["a"] * 11 + ["b"] * 3
    assert "[b] clip off" in read["notes"][0]


def test_marks_that_meet_stand_in_lines_of_their_own(whole):
    (part,) = slices(whole, mixed=True)
    rows = [line for line in markdown([part]).splitlines() if line.startswith("| 0.1 ")]
    assert [r"1.55 \[a\]" in rows[0], r"3.10 \[b\]" in rows[1]] == [True, True]
    assert len(rows) == 2


def test_a_column_of_one_protocol_still_has_its_best(whole):
    rows = whole[(whole["p_uncond"] == 0.1) == (whole["protocol_id"] == "2b")]
    (part,) = slices(rows, mixed=True)
    text = markdown([part])
    assert r"**1.62 \[a\]**" in text
    assert r"**3.10 \[b\]**" in text


def test_seeds_are_averaged_within_a_protocol_only(whole):
    rows = pd.concat([whole, whole.assign(seed=1, fid=whole["fid"] + 2, cell_id=whole["cell_id"] + "s")])
    (part,) = slices(rows.reset_index(drop=True), mixed=True)
    at = part.rows.query("w == 0 and p_uncond == 0.1").set_index("mark")
    np.testing.assert_allclose(at["fid"][["a", "b"]], [2.8, 4.6])
    assert set(part.rows["seeds"]) == {2}


def test_the_figure_shows_the_mark_at_each_point(half, table1):
    (part,) = slices(half, mixed=True)
    (figure,) = tradeoff([part])
    (axes,) = figure.axes
    assert list(lines(axes)) == [rf"$p_\mathrm{{uncond}}$ = {p} [a, b]" for p in (0.1, 0.2, 0.5)]
    first = table1[table1["w"] <= 1]
    assert points(axes, "a") == sorted(first[["is_mean", "fid"]].to_numpy().tolist())
    assert len(points(axes, "b")) == 9
    legend = [text.get_text() for text in axes.get_legend().get_texts()]
    assert legend[-2:] == ["[a] clip on", "[b] clip off"]
    assert "best FID" not in legend
    assert not [line for line in axes.lines if line.get_marker() == "*"]


def test_curves_of_marks_that_meet_are_not_joined(whole, table1):
    (part,) = slices(whole, mixed=True)
    left, _ = strength([part])[0].axes
    drawn = lines(left)
    assert list(drawn)[:2] == [r"$p_\mathrm{uncond}$ = 0.1 [a]", r"$p_\mathrm{uncond}$ = 0.1 [b]"]
    one = table1[table1["p_uncond"] == 0.1]
    np.testing.assert_array_equal(drawn[r"$p_\mathrm{uncond}$ = 0.1 [a]"].get_ydata(), one["fid"])
    np.testing.assert_allclose(drawn[r"$p_\mathrm{uncond}$ = 0.1 [b]"].get_ydata(), one["fid"] * 2)
    assert not [line for line in left.lines if line.get_marker() == "*"]
    legend = [text.get_text() for text in strength([part])[0].legends[0].get_texts()]
    assert legend[-2:] == ["[a] clip on", "[b] clip off"]


def test_steps_have_marks_too(table2):
    rows = table2.assign(protocol=HERE)
    rows.loc[rows["T"] == 1024, "protocol"] = THERE
    (figure,) = steps(slices(rows, mixed=True))
    assert list(lines(figure.axes[0])) == ["w = 0 [a, b]", "w = 1 [a, b]", "w = 4 [a, b]"]
    assert [text.get_text() for text in figure.legends[0].get_texts()][-2:] == ["[a] clip on", "[b] clip off"]
    assert "(a, b)" not in " ".join(text.get_text() for text in figure.texts)


def test_what_differs_in_seed_and_protocol_at_one_T_is_not_put_together(tmp_path, table1):
    first, second = (table1.assign(seed=seed, protocol=protocol) for seed, protocol in ((0, HERE), (1, THERE)))
    rows = pd.concat([first, second.assign(cell_id=second["cell_id"] + "-1")], ignore_index=True)
    assert not any("kept apart" in line for line in Report(tmp_path, rows).notes)
    mixed = Report(tmp_path, rows, mixed=True)
    assert [dict(part.marks) for part in mixed.shown.parts] == [{}, {}]
    assert any("finds nothing to put together: where protocols differ, an axis" in line for line in mixed.notes)


def test_steps_of_two_seeds_have_marks_where_another_p_uncond_was_measured_otherwise(tmp_path, table1):
    like = table1[table1["p_uncond"] < 0.5].query("w == 1")
    first, second = (row.to_frame().T.infer_objects() for _, row in like.iterrows())
    rows = [first.assign(T=32), first.assign(T=8, seed=1), second.assign(T=16, seed=1, protocol=THERE)]
    rows = pd.concat([row.assign(cell_id=str(k)) for k, row in enumerate(rows)], ignore_index=True)
    report = Report(tmp_path / "digits", rows, mixed=True)
    assert len(report.write(tmp_path / "out", Request(plots=("steps",)))) == 2
    (figure,) = steps(report.shown.parts)
    assert list(lines(figure.axes[0])) == ["w = 1 (best FID, at T 32) [a]"]


def test_steps_show_the_largest_w_that_has_each_metric(tmp_path, table2):
    """Where none is called the best, and FID was measured at none of the usual."""
    rows = table2.assign(protocol=np.where(table2["w"] < 0.5, HERE, THERE), fid_se=0.01, is_se=0.1)
    rows.loc[~rows["w"].isin([0.2, 0.7]), ["fid", "fid_se"]] = None
    report = Report(tmp_path / "digits", rows, mixed=True)
    assert len(report.write(tmp_path / "out", Request(plots=("steps",)))) == 2
    fid, score = (list(lines(axes)) for axes in steps(report.shown.parts)[0].axes)
    assert fid == ["w = 0.7 [b]"]
    assert score == ["w = 0 [a]", "w = 0.7 [b]", "w = 1 [b]", "w = 4 [b]"]


def test_steps_of_several_models_have_every_T_however_it_was_measured(tmp_path, both):
    """The first's T 8 and 16 by another protocol; the second, which has no T 8, by one alone."""
    rows = both[(both["p_uncond"] == 0.1) | (both["p_uncond"] == 0.2) & (both["T"] > 8)]
    other = (rows["p_uncond"] == 0.1) & (rows["T"] < 32)
    rows = rows.assign(protocol=np.where(other, THERE, HERE)).reset_index(drop=True)
    figures = steps(Report(tmp_path, rows, mixed=True).shown.parts)
    assert [title_of(figure).partition("steps ")[2] for figure in figures] == ["(p_uncond 0.1)", "(p_uncond 0.2)"]
    first, second = (lines(figure.axes[0]) for figure in figures)
    assert first["w = 0 [a, b]"].get_xdata().tolist() == [8, 16, 32]
    assert second["w = 0 [b]"].get_xdata().tolist() == [16, 32]
    legends = [[text.get_text() for text in figure.legends[0].get_texts()] for figure in figures]
    assert [[name for name in names if name[0] == "["] for names in legends] == [
        ["[a] clip off", "[b] clip on"],
        ["[b] clip on"],
    ]


def test_rows_go_by_the_words_of_their_protocol(whole):
    assert [part.setting["protocol_id"] for part in slices(whole)] == ["1a", "2b"]
    assert [len(part.rows) for part in slices(whole.assign(protocol_id=None))] == [42, 42]
    assert [len(part.rows) for part in slices(whole.drop(columns="protocol_id"))] == [42, 42]


def test_what_a_protocol_says_is_written_and_no_formula(whole):
    """A file of statistics may be called anything."""
    odd = whole.assign(protocol=whole["protocol"].str.replace("clip", r"reference a$\bad$x; clip $"))
    (part,) = slices(odd, mixed=True)
    (figure,) = strength([part])
    figure.canvas.draw()
    assert figure.legends[0].get_texts()[-1].get_text() == r"[b] clip \$ off"


def test_what_differs_otherwise_needs_no_marks(whole):
    rows = whole.copy()
    rows.loc[rows["protocol_id"] == "2b", "samples"] = 1000
    parts = slices(rows, mixed=True)
    assert [dict(part.marks) for part in parts] == [{}, {}]
    assert Report(Path("x"), rows).notes == []
    (line,) = Report(Path("x"), rows, mixed=True).notes
    assert line.endswith("nothing to put together: where protocols differ, an axis of the sweep does too")


def test_where_all_is_one_protocol_no_point_is_marked(whole, table1):
    alone = table1.assign(dataset="other", protocol="other", protocol_id="3c")
    marked_part, plain = slices(pd.concat([whole, alone], ignore_index=True), mixed=True)
    assert list(marked_part.marks) == ["a", "b"]
    assert not plain.marks
    assert "[" not in markdown([plain])
    assert list(lines(strength([plain])[0].axes[1])) == [rf"$p_\mathrm{{uncond}}$ = {p}" for p in (0.1, 0.2, 0.5)]


def test_other_features_are_named_on_the_axes(whole):
    rows = whole.copy()
    rows.loc[rows["protocol_id"] == "2b", "features_id"] = "inception-2048-6726825d"
    (part,) = slices(rows, mixed=True)
    assert part.marks["b"] == "clip off; features inception-2048-6726825d"
    (figure,) = tradeoff([part])
    assert figure.axes[0].get_ylabel() == "FID, log scale\n(digits and inception features)"


def test_one_line_says_what_is_kept_apart(whole, table1):
    (line,) = Report(Path("x"), whole).notes
    assert line == "2 protocols are kept apart: [a] clip on, [b] clip off; --mixed puts them together and marks them"
    assert Report(Path("x"), table1).notes == []
    assert Report(Path("x"), whole, mixed=True).notes == []
    assert "all rows have one protocol" in Report(Path("x"), table1, mixed=True).notes[0]


def test_the_page_lists_the_marks_and_compares_inside_each(tmp_path, half):
    Report(tmp_path / "digits", half, mixed=True).write(tmp_path / "out")
    page = (tmp_path / "out" / "index.md").read_text()
    assert r"| \[a\] | clip on |" in page
    assert r"- p_uncond 0.1 \[a\]: best FID 1.55 at w 0.1 (scale 1.1); 1.80 without guidance" in page
    assert r"- p_uncond 0.1 \[b\]: best FID 42.06 at w 2 (scale 3) (digits features)" in page
    with pytest.raises(UserError, match="leave out --reference"):
        Report(tmp_path / "digits", half, mixed=True).write(tmp_path / "other", published=True)


def test_slices_that_only_their_protocols_tell_apart_are_headed_so(table1):
    """Whatever else differs in the sweep."""
    rows = [
        table1.assign(T=T, protocol=f"clip on; {precision}", cell_id=table1["cell_id"] + f"-{T}-{precision}")
        for T in (4, 8)
        for precision in ("fp32", "bf16")
    ]
    parts = [part for part in slices(pd.concat(rows, ignore_index=True)) if part.series == "p_uncond"]
    assert sorted(part.differs for part in parts) == ["T 4, bf16", "T 4, fp32", "T 8, bf16", "T 8, fp32"]
    (one, other) = [part for part in slices(pd.concat(rows[::2], ignore_index=True)) if part.series == "p_uncond"]
    assert (one.differs, other.differs) == ("T 4", "T 8")
