import html
import io
import re
import sys

import numpy as np
import pandas as pd
import pytest
from markdown_it import MarkdownIt  # rich brings it
from rich.console import Console

from cfgbench.report import Report, print_tables
from cfgbench.report.rows.slices import slices
from cfgbench.report.tables.captions import bias
from cfgbench.report.tables.formats import csv, latex, markdown, terminal
from cfgbench.report.tables.layout import layout
from cfgbench.report.tables.markup import escape_latex, escape_markdown
from cfgbench.report.words import plus_minus, significant
from cfgbench.sweep.results.row import numbers_of


def markdown_cells(text):
    rows = [re.split(r"(?<!\\)\|", line)[1:-1] for line in text.splitlines() if re.match(r"\| -?\d", line)]
    return [[cell.strip() for cell in row] for row in rows]


def latex_cells(text):
    body = text.split(r"\midrule")[1].split(r"\bottomrule")[0]
    return [[cell.strip() for cell in re.split(r"(?<!\\)&", line[:-2])] for line in body.strip().splitlines()]


def plain(cell):
    return float(re.sub(r"\*\*|\\textbf\{|\}", "", cell))


def best_places(part):
    """{(metric, value of the columns): [w of the best]}"""
    table = layout(part)
    return {
        (metric.name, value): [w for w, row in zip(table.ws, table.body, strict=True) if row[j].best]
        for j, (metric, value) in enumerate(table.columns)
    }


def test_best_of_the_papers_tables(table1, table2):
    assert best_places(slices(table1)[0]) == {
        **{("FID", p): [0.1] for p in (0.1, 0.2, 0.5)},
        **{("IS", p): [4.0] for p in (0.1, 0.2, 0.5)},
    }
    assert best_places(slices(table2)[0]) == {
        **{("FID", 128): [0.4], ("FID", 256): [0.3], ("FID", 1024): [0.3]},
        **{("IS", T): [4.0] for T in (128, 256, 1024)},
    }


def test_ties_are_all_best(table1):
    for value in (1.55, 1.5512):  # printed alike
        table1.loc[2, "fid"] = value
        assert best_places(slices(table1)[0])["FID", 0.1] == [0.1, 0.2]
    table1.loc[2, "fid"] = 1.556
    assert best_places(slices(table1)[0])["FID", 0.1] == [0.1]


@pytest.mark.parametrize(
    ("write", "read", "bold"), [(markdown, markdown_cells, "**1.55**"), (latex, latex_cells, None)]
)
def test_text_reads_back_to_the_papers_numbers(table1, write, read, bold):
    cells = read(write(slices(table1)))
    numbers = np.array([[plain(cell) for cell in row] for row in cells])
    wide = table1.pivot(index="w", columns="p_uncond", values=["fid", "is_mean"])
    np.testing.assert_array_equal(numbers[:, 0], wide.index)
    np.testing.assert_allclose(numbers[:, 1], wide.index + 1)
    np.testing.assert_array_equal(numbers[:, 2:], wide.to_numpy())
    assert cells[1][2] == (bold or r"\textbf{1.55}")
    assert sum("**" in cell or "textbf" in cell for row in cells for cell in row) == 6


def test_csv_reads_back_to_the_same_floats(table1):
    table1["fid"] = np.random.default_rng(0).uniform(0, 30, len(table1))
    read = pd.read_csv(io.StringIO(csv(slices(table1))))
    wide = table1.pivot(index="w", columns="p_uncond", values="fid")
    np.testing.assert_array_equal(read[[f"FID p_uncond={p}" for p in (0.1, 0.2, 0.5)]].to_numpy(), wide.to_numpy())
    assert read["scale"].tolist()[:4] == [1.0, 1.1, 1.2, 1.3]
    assert set(read["features_id"]) == {"digits-0123456789ab"}
    assert set(read["samples"]) == {50_000}


def test_csv_has_a_column_for_each_of_what_is_written_alike(table1):
    close = {0.1: 0.3333333, 0.2: 0.33333334, 0.5: 0.5}
    read = pd.read_csv(io.StringIO(csv(slices(table1.assign(p_uncond=table1["p_uncond"].map(close))))))
    columns = [f"FID p_uncond={p}" for p in ("0.3333333", "0.33333334", "0.5")]
    wide = table1.pivot(index="w", columns="p_uncond", values="fid")
    np.testing.assert_array_equal(read[columns].to_numpy(), wide.to_numpy())


def test_several_tables_in_one_file(both):
    parts = slices(both)
    text = markdown(parts)
    assert [f"**Table {n}.**" in text for n in (1, 2, 3, 4)] == [True, True, True, False]
    assert len(markdown_cells(text)) == 3 * 14
    assert latex(parts).count(r"\begin{tabular}") == 3
    read = pd.read_csv(io.StringIO(csv(parts)))
    assert read.groupby("table")["T"].unique().map(list).tolist() == [[8], [16], [32]]
    np.testing.assert_allclose(read.query("T == 8 and w == 0.1")["FID p_uncond=0.1"], 1.55 + 8)


def test_mixed_features_are_never_in_one_table(table1):
    other = table1.assign(features_id="inception-beef", fid=table1["fid"] * 7)
    tables = markdown(slices(pd.concat([table1, other]))).split("**Table ")[1:]
    assert ["digits-0123456789ab" in table for table in tables] == [True, False]
    assert ["inception-beef" in table for table in tables] == [False, True]
    assert ["**1.55**" in table for table in tables] == [True, False]


def test_failed_cells_are_dashes_with_the_reason(with_failures):
    parts = slices(with_failures)
    cells = markdown_cells(markdown(parts))
    assert cells[1][2] == cells[5][2] == cells[1][5] == "– (a)"
    assert cells[0][3] == "– (b)"
    assert r"(a) w 0.1, p_uncond 0.1; w 0.5, p_uncond 0.1: out of memory \| 50% of a_b & c" in markdown(parts)
    assert best_places(parts[0])["FID", 0.1] == [0.0]
    assert latex_cells(latex(parts))[1][2] == "-- (a)"
    assert r"out of memory \textbar{} 50\% of a\_b \& c" in latex(parts)
    read = pd.read_csv(io.StringIO(csv(parts)))
    assert np.isnan(read["FID p_uncond=0.1"][1])
    assert "50% of a_b" in read["notes"][0]


def test_a_latex_table_of_many_columns_is_in_small_letters(table1):
    small = r"\footnotesize\setlength"
    rows = table1.assign(fid_se=0.02, is_se=0.5)
    assert small in latex(slices(rows))
    assert small not in latex(slices(rows[rows["p_uncond"] < 0.2]))
    assert small in latex(slices(table1))  # of short numbers and longer heads: 448 points in letters of the usual size


def test_latex_has_the_papers_symbols_and_minus_signs(table1):
    text = latex(slices(table1.assign(w=table1["w"].replace(0, -1))))
    (caption,) = re.findall(r"\\caption\{(.*)\}", text)
    assert "guidance strength $w$ (scale = 1 + $w$), by $p_\\mathrm{uncond}$." in caption
    assert ", $T$ 256, sampler ancestral, $v$ 0.3," in caption
    assert re.search(r"^\$-1\$ & 0 & ", text, re.M)


def test_small_numbers_and_errors_keep_their_digits(table1):
    rows = table1.assign(fid=table1["fid"] / 1e7, fid_se=1.2e-9)
    assert markdown_cells(markdown(slices(rows)))[0][2] == "0.0000001800 ± 0.0000000012"
    assert plus_minus(4.312345e-5, 1.23e-7) == "0.00004312 ± 0.00000012"
    assert significant(1.234e-8, 3) == "0.0000000123"
    assert numbers_of({"fid": 4.312345e-5, "fid_se": 1.23e-7}) == ["FID 4.31e-05 ± 1.2e-07"]


def test_where_some_means_are_of_other_seeds_the_caption_says_that_they_are_not_best(table1):
    three = pd.concat([table1.assign(seed=seed, cell_id=table1["cell_id"] + f"-{seed}") for seed in range(3)])
    assert "Best of each column in bold." in markdown(slices(three))
    fewer = three[(three["w"] != 0.1) | (three["seed"] == 0)]
    for text in (markdown(slices(fewer)), latex(slices(fewer))):
        assert "Best of each column in bold, but for means over other seeds." in text


def test_the_thirteenth_footnote_is_a_footnote(table1):
    failed = table1.index < 13
    reasons = [f"reason {number}" for number in table1.index]
    rows = table1.assign(status=np.where(failed, "failed", "ok"), reason=reasons, fid=table1["fid"].where(~failed))
    (table,) = terminal(slices(rows))
    console = Console(width=110, record=True, file=io.StringIO())
    console.print(table)
    assert "– (m) " in console.export_text()
    several = pd.concat([rows.assign(seed=seed) for seed in (0, 1)], ignore_index=True)
    cells = latex_cells(latex(slices(several)))
    assert cells[12][2] == "-- (m)"
    assert cells[13][2] == r"\textbf{\shortstack[r]{26.22 $\pm$ 0.00\\(min of 2: 26.22)}}"


def test_cells_that_were_not_run_are_empty(table1):
    cells = markdown_cells(markdown(slices(table1.drop(index=1))))
    assert cells[1][2] == ""
    assert cells[1][3] == "**1.62**"


def test_everything_failed(table1):
    rows = table1.assign(status="failed", reason="NaN", fid=None, is_mean=None)
    cells = markdown_cells(markdown(slices(rows)))
    assert {cell for row in cells for cell in row[2:]} == {"– (a)"}
    assert "**" not in "".join(cell for row in cells for cell in row)


def test_standard_errors_are_printed_where_known(table1):
    table1.loc[:13, "fid_se"] = 0.021
    parts = slices(table1)
    cells = markdown_cells(markdown(parts))
    assert cells[0][2] == "1.800 ± 0.021"
    assert cells[1][2] == "**1.550 ± 0.021**"
    assert cells[0][3] == "1.800"
    assert latex_cells(latex(parts))[0][2] == r"1.800 $\pm$ 0.021"
    assert pd.read_csv(io.StringIO(csv(parts)))["FID se p_uncond=0.1"].tolist() == [0.021] * 14


def test_an_fid_without_error_beside_numbers_that_have_one_is_told(table1):
    rows, said = table1.assign(fid_se=0.02, is_se=0.1), "has no error: that takes more images than the features have"
    lacking = rows.assign(fid_se=rows["fid_se"].where(rows["w"] != 1))
    for table in (markdown, latex, csv):
        assert said in table(slices(lacking))
        assert said in table(slices(rows.assign(fid_se=None)))
        assert said not in table(slices(rows))
        assert said not in table(slices(table1))


@pytest.mark.parametrize("lacking", [None, "fid", "is_mean"])
def test_notes_of_rows_stand_once_under_the_tables_of_their_metric(table1, lacking):
    notes = table1["w"].map(lambda w: "FID: few images" if w < 1 else "IS: small splits | FID: few images")
    rows = table1.assign(notes=notes) if lacking is None else table1.assign(**{"notes": notes, lacking: np.nan})
    text = markdown(slices(rows))
    assert text.count("FID: few images.") == (lacking != "fid")
    assert text.count("IS: small splits.") == (lacking != "is_mean")
    failed = rows.assign(status="failed", reason="boom", fid=np.nan, is_mean=np.nan)
    assert "few images" not in markdown(slices(failed))


def test_small_numbers_keep_two_digits(table1):
    cells = markdown_cells(markdown(slices(table1.assign(fid=table1["fid"] / 1000))))
    assert cells[1][2] == "**0.0015**" or cells[1][2] == "**0.0016**"


def test_latex_is_balanced_and_escaped(table1):
    text = latex(slices(table1.assign(features_id="digits_a&b #1 ~^\\", dataset="my_{set}")))
    assert r"digits\_a\&b \#1 \textasciitilde{}\textasciicircum{}\textbackslash{}" in text
    assert r"my\_\{set\}" in text
    bare = re.sub(r"\\[\\{}&%$#_]", "", text)
    assert bare.count("{") == bare.count("}")
    assert escape_latex("100%") == r"100\%"
    columns = text.split(r"\begin{tabular}{")[1].split("}")[0]
    assert {len(row) for row in latex_cells(text)} == {len(columns)}


@pytest.mark.parametrize(
    "text",
    [
        *("~~gone~~ and PROGRA~1", "a/_b_/c, _x_ and __init__", "a_b_c 1_000", "a &lt; b &amp; &#60; c & d;"),
        *("<b>", r"a\*b*", "![x](y)", "`code`", "a|b", "$x_1$ and $y$", "_a __b_", "λ_mean_ _"),
    ],
)
def test_markdown_shows_the_text_as_it_is(text):
    shown = MarkdownIt("commonmark").enable(["table", "strikethrough"]).renderInline(escape_markdown(text))
    assert html.unescape(shown) == text
    assert not re.search(r"(?<!\\)[~$]", escape_markdown(text))  # GitHub's own: ~this~ and mathematics


def test_markdown_is_read_easily_where_it_need_not_be_escaped():
    assert escape_markdown("p_uncond 0.1, a_b & c: 50 %;\n(a)") == "p_uncond 0.1, a_b & c: 50 %; (a)"


def test_terminal_shows_numbers_scale_and_conditions(with_failures):
    (table,) = terminal(slices(with_failures))
    console = Console(width=90, record=True, file=io.StringIO())
    console.print(table)
    text = console.export_text()
    row = next(line.split() for line in text.splitlines() if line.split()[:1] == ["0.3"])
    assert row == ["0.3", "1.3", "3.03", "2.93", "2.65", "92.80", "88.64", "74.92"]
    for words in ("digits features", "50,000 images", "(a) w 0.1", "out of memory"):
        assert words in text


def with_infinity(rows, excess=0.25):
    return rows.assign(fid_infinity=rows["fid"] - excess, fid_infinity_se=0.031)


def test_the_extrapolated_fid_stands_between_where_there_is_room(table1):
    (part,) = slices(with_infinity(table1[table1["p_uncond"] < 0.5]))
    text = markdown([part])
    assert text.count("**Table 1") == 1
    assert "FID<br>p_uncond 0.2 | FID∞<br>p_uncond 0.1 | FID∞<br>p_uncond 0.2 | IS<br>p_uncond 0.1" in text
    assert markdown_cells(text)[0] == ["0", "1", "1.80", "1.80", "1.550 ± 0.031", "1.550 ± 0.031", "53.71", "52.90"]
    assert "FID∞ ± one standard error of the extrapolation" in text
    assert best_places(part)["FID", 0.1] == [0.1]


def test_the_extrapolated_fid_has_a_table_of_its_own_where_there_is_none(table1):
    parts = slices(with_infinity(table1))
    text = markdown(parts)
    assert [head in text for head in ("**Table 1.**", "**Table 1, continued.**", "**Table 2")] == [True, True, False]
    cells = markdown_cells(text)
    assert [len(row) for row in cells] == [8] * 14 + [5] * 14
    assert cells[15][2] == "**1.300 ± 0.031**"
    assert "∞" not in latex(parts)
    assert r"FID$\infty$" in latex(parts)
    assert latex(parts).count(r"\begin{tabular}") == 2
    assert len(terminal(parts)) == 2


def test_csv_always_has_the_extrapolated_fid(table1):
    read = pd.read_csv(io.StringIO(csv(slices(with_infinity(table1)))))
    np.testing.assert_allclose(read["FID∞ p_uncond=0.5"], table1["fid"][28:] - 0.25)
    assert set(read["FID∞ se p_uncond=0.1"]) == {0.031}
    assert not [column for column in pd.read_csv(io.StringIO(csv(slices(table1)))) if "∞" in column]


@pytest.mark.parametrize(
    ("error", "shown"),
    [
        (0.0213, "1.800 ± 0.021"),
        (0.213, "1.80 ± 0.21"),
        (2.13, "1.80 ± 2.13"),
        (0.00996, "1.800 ± 0.010"),
        (0, "1.80 ± 0.00"),
    ],
)
def test_the_errors_second_digit_decides_the_decimals(table1, error, shown):
    cells = markdown_cells(markdown(slices(table1.assign(fid_se=error))))
    assert cells[0][2] == shown
    assert cells[0][5] == "53.71"


def test_the_typical_error_decides_for_all(table1):
    rows = table1.assign(fid_se=0.021)
    rows.loc[0, "fid_se"] = 1.25
    assert markdown_cells(markdown(slices(rows)))[0][2:4] == ["1.800 ± 1.250", "1.800 ± 0.021"]


def test_an_error_far_below_the_others_is_not_shown_as_none(table1):
    rows = table1.assign(fid_se=0.12)
    rows.loc[0, "fid_se"] = 0.00041
    cells = markdown_cells(markdown(slices(rows)))
    assert cells[0][2:4] == ["1.80000 ± 0.00041", "1.80 ± 0.12"]


@pytest.mark.parametrize("write", [markdown, latex, csv, lambda parts: terminal(parts)[0].caption.plain])
def test_below_ten_thousand_images_the_bias_is_said(table1, write):
    few = table1.assign(samples=9_999)
    assert "FID of 9,999 images is biased upwards" in write(slices(few))
    assert "here by about" not in write(slices(few))
    measured = write(slices(with_infinity(few)))
    assert re.search(r"biased upwards; here by about 0\.25 \(FID .+ FID.+, mean over the table\)", measured)
    many = with_infinity(table1.assign(samples=10_000))
    assert "biased" not in write(slices(many))
    assert "biased" not in write(slices(many.assign(fid_se=0.26)))
    assert "FID of 10,000 images is biased upwards; here by about 0.25" in write(slices(many.assign(fid_se=0.24)))
    assert "biased" not in write(slices(few.drop(columns=["fid", "fid_se"])))


def test_an_excess_that_is_none_is_no_measure_of_the_bias(table1):
    rows = with_infinity(table1.assign(samples=9_999)).assign(fid_infinity=lambda rows: rows["fid"] + 0.1)
    text = markdown(slices(rows))
    assert "FID of 9,999 images is biased upwards." in text
    assert "here by about" not in text


def test_the_bias_is_a_mean_over_the_cells_where_it_was_measured(table1):
    rows = table1.assign(samples=1000, fid_infinity=None)
    rows.loc[0, "fid_infinity"] = 1.8 - 0.1
    rows.loc[20, "fid_infinity"] = rows["fid"][20] - 0.5
    assert "here by about 0.30 (" in markdown(slices(rows))
    assert "here by about 125 (" in markdown(slices(rows.assign(fid_infinity=rows["fid"] - 125)))
    lower = rows.assign(fid_infinity=rows["fid"] + 0.1, T=128, cell_id=rows["cell_id"] + "-128")
    text = bias(*slices(pd.concat([rows, lower], ignore_index=True)))
    assert "here by about 0.30 (FID − FID∞, mean over each table where it shows)" in text


@pytest.mark.parametrize("columns", [1, 40, 79, 90, 200])
@pytest.mark.parametrize("error", [None, 0.123])
def test_no_terminal_is_so_narrow_that_numbers_are_cut_off(table1, monkeypatch, capsys, tmp_path, columns, error):
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    print_tables(Report(tmp_path, table1.assign(fid_se=error)))
    words = re.sub(r"\x1b\[[\d;]*m", "", capsys.readouterr().out).split()
    assert {f"{number:.2f}" for number in table1["fid"]} <= set(words)
    assert "…" not in "".join(words)
