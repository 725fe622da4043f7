"""The published numbers, digit for digit, and what stands beside them when there is a run."""

import csv
import io
import re
from decimal import Decimal
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from drawn import heading_of, steps, tradeoff

import cfgbench.report
from cfgbench.errors import UserError
from cfgbench.report import ImageChoice, Report, Request, print_paper, write_paper
from cfgbench.report.reference import TABLES, beside
from cfgbench.report.reference.agreement import published_behind
from cfgbench.report.rows.slices import slices

DATA = Path(cfgbench.report.__file__).parent / "reference"
KEYS = {1: "p_uncond", 2: "T"}
OFFICIAL = "inception-2048-6726825d-tf1-bilinear-299"


def printed(number):
    """{(w, value of the column): (FID, IS)} as the file beside the code has them, as text; FID with two decimals."""
    with (DATA / f"table{number}.csv").open() as file:
        found = list(csv.DictReader(file))
    return {
        (Decimal(row["w"]), Decimal(row[KEYS[number]])): (str(Decimal(row["fid"]).quantize(Decimal("0.01"))), row["is"])
        for row in found
    }


def baselines(number):
    with (DATA / "baselines.csv").open() as file:
        return [row for row in csv.DictReader(file) if row["table"] == str(number)]


def places(cells, number):
    """{(w, value of the column): (FID, IS)} of a table's rows [w, scale, FID ..., IS ...], as text."""
    values = list(dict.fromkeys(value for _, value in printed(number)))
    return {
        (Decimal(row[0]), value): (row[2 + k], row[2 + k + len(values)])
        for row in cells
        for k, value in enumerate(values)
    }


def markdown_cells(text):
    rows = [line.strip("| ").split(" | ") for line in text.splitlines() if re.match(r"\| -?\d", line)]
    return [[cell.replace("**", "").strip() for cell in row] for row in rows]


PROTOCOL = f"features {OFFICIAL}; reference imagenet64, 1281167 images; 50000 samples, classes balanced; clip on"


def measured(number, **changes):
    """Rows as a run on the paper's protocol would write them."""
    kept = TABLES[number - 1].rows.drop(columns=["fid_printed", "is_mean_printed", "source"])
    setting = {"dataset": f"imagenet{TABLES[number - 1].resolution}", "features_id": OFFICIAL, "seed": 0}
    stated = {"T": 256} if number == 1 else {"p_uncond": 0.1}
    return kept.assign(**(setting | stated | {"protocol": "reference imagenet, 1281167 images; clip on"} | changes))


def only(rows):
    (part,) = slices(rows)
    return part


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    out = tmp_path_factory.mktemp("paper")
    return out, {path.name for path in write_paper(out)}


@pytest.mark.parametrize("number", [1, 2])
def test_the_files_hold_the_paper(number, request):
    """The data against the numbers that the other tests have had typed in."""
    told = request.getfixturevalue(f"table{number}")
    rows = TABLES[number - 1].rows
    key = KEYS[number]
    found = {(row["w"], row[key]): (row["fid"], row["is_mean"]) for _, row in rows.iterrows()}
    assert found == {(row["w"], row[key]): (row["fid"], row["is_mean"]) for _, row in told.iterrows()}
    assert len(rows) == 42


@pytest.mark.parametrize("number", [1, 2])
def test_markdown_digit_for_digit(written, number):
    text = (written[0] / f"table-{number}.md").read_text()
    assert f"**Table {number}.**" in text
    assert places(markdown_cells(text), number) == printed(number)
    assert text.strip() in (written[0] / "index.md").read_text()


@pytest.mark.parametrize("number", [1, 2])
def test_latex_digit_for_digit(written, number):
    text = (written[0] / f"table-{number}.tex").read_text()
    _, body, below = text.split(r"\bottomrule")[0].split(r"\midrule")
    plain = re.sub(r"\\textbf\{(.*?)\}", r"\1", body)
    cells = [[cell.strip() for cell in line.removesuffix(r"\\").split("&")] for line in plain.strip().splitlines()]
    assert places(cells, number) == printed(number)
    for row in baselines(number):
        numbers = [rf"\multicolumn{{3}}{{c}}{{{row[metric] or '--'}}}" for metric in ("fid", "is")]
        assert f"{row['model']} ({row['citation']})".replace("&", r"\&") in below
        assert " & ".join(numbers) in below


@pytest.mark.parametrize("number", [1, 2])
def test_csv_digit_for_digit(written, number):
    with (written[0] / f"table-{number}.csv").open() as file:
        rows = list(csv.DictReader(file))
    key = KEYS[number]
    found = {
        (Decimal(row["w"]), Decimal(name.split("=")[1])): (row[name], row[name.replace("FID", "IS")])
        for row in rows
        if row["w"]
        for name in row
        if name.startswith(f"FID {key}=")
    }
    exact = {place: (Decimal(fid), Decimal(score)) for place, (fid, score) in found.items()}
    assert exact == {place: (Decimal(fid), Decimal(score)) for place, (fid, score) in printed(number).items()}
    quoted = [(row["model"], row["citation"], row["FID"], row["IS"]) for row in rows if not row["w"]]
    assert quoted == [(row["model"], row["citation"], row["fid"], row["is"]) for row in baselines(number)]
    assert {row["T" if number == 1 else "p_uncond"] for row in rows if row["w"]} == {""}


def test_the_terminal_has_both_tables_digit_for_digit(capsys):
    print_paper()
    text = capsys.readouterr().out
    for number, part in enumerate(text.split("Table 1. ")[1].split("Table 2. "), 1):
        lines = [line.split() for line in part.splitlines() if re.match(r"\s*\d[\d.]* +\d", line)]
        assert places(lines, number) == printed(number)
        for row in baselines(number):
            assert f"{row['model']} ({row['citation']}): FID {row['fid']}, IS {row['is'] or '–'}" in part
    for words in ("T not stated", "p_uncond not stated", "Figure 5 prints T = 128, 256, 512", "number of splits"):
        assert words in text


def test_all_files_of_the_paper(written):
    out, names = written
    tables = {f"table-{n}.{kind}" for n in (1, 2) for kind in ("md", "csv", "tex")}
    figures = {f"figure-{n}.{kind}" for n in (4, 5) for kind in ("png", "svg")}
    assert names == tables | figures | {"literature.md", "literature.csv", "claims.md", "claims.csv", "index.md"}
    assert {path.name for path in out.iterdir()} == names
    links = re.findall(r"\]\(([^)]+)\)", (out / "index.md").read_text())
    assert set(links) == names - {"index.md"}


@pytest.mark.parametrize("number", [1, 2])
def test_figures_draw_the_papers_points(number):
    (figure,) = tradeoff([TABLES[number - 1].part])
    (axes,) = figure.axes
    lines = [line for line in axes.lines if not line.get_label().startswith("_")]
    values = list(dict.fromkeys(value for _, value in printed(number)))
    drawn = {}
    for value, line in zip(values, lines, strict=True):
        assert f"= {value:g}" in line.get_label()
        ws = [w for w, other in printed(number) if other == value]
        drawn |= {(w, value): point for w, point in zip(ws, zip(*line.get_data(), strict=True), strict=True)}
    assert drawn == {place: (float(score), float(fid)) for place, (fid, score) in printed(number).items()}
    words = heading_of(figure)
    for text in (f"source Ho & Salimans 2022, Table {number}", "not stated", "50,000 images", f"v 0.{4 - number}"):
        assert text in words


def test_what_the_paper_does_not_state_is_null():
    rows = pd.concat([table.rows for table in TABLES], ignore_index=True)
    assert len(rows) == 84
    small, large = (rows[rows["dataset"] == f"ImageNet {side}x{side}"] for side in (64, 128))
    assert small["T"].isna().all()
    assert large["p_uncond"].isna().all()
    first, second = slices(rows)
    assert (first.series, second.series) == ("p_uncond", "T")
    assert first.setting["T"] is None
    assert "T not stated" in first.conditions
    assert "p_uncond not stated" in second.conditions
    for part in (first, second):
        assert set(part.rows["samples"]) == {50_000}
        assert part.extractor == "inception"


def test_only_what_is_named_and_nothing_where_published_numbers_cannot_give_it(tmp_path):
    names = [path.name for path in write_paper(tmp_path / "a", Request(tables=["md"], plots=["steps"]))]
    assert names == ["table-1.md", "table-2.md", "steps.png", "steps.svg"]
    for asked, words in (
        (Request(plots=["samples"]), "--plot samples: not known; there are tradeoff, strength, steps"),
        (Request(tables=["html"]), "--table html: not known; there are md, csv, tex"),
        (Request(["tradeoff"], choice=ImageChoice(ws=[1.0])), "--classes and --w choose images"),
    ):
        with pytest.raises(UserError, match=words):
            write_paper(tmp_path / "b", asked)
    assert not (tmp_path / "b").exists()


def test_steps_of_the_paper_leave_out_what_has_no_T():
    (figure,) = steps([table.part for table in TABLES])
    assert "128x128" in figure.texts[0].get_text()


def test_literature_keeps_digits_source_and_confidence(written):
    text = (written[0] / "literature.md").read_text()
    sections = dict(re.findall(r"## (\d+)x\d+\n\n(.*?)(?=\n\n##|\Z)", text, re.S))
    with (DATA / "literature.csv").open() as file:
        told = list(csv.DictReader(file))
    for resolution, body in sections.items():
        cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in body.splitlines()[2:]]
        wanted = [row for row in told if row["resolution"] == resolution]
        for cell, row in zip(cells, wanted, strict=True):
            assert cell[2:4] == [row["metric"], row["value"]]
            assert cell[5:7] == [row["source_paper"], row["confidence"]]
            assert cell[4] == (f"{float(row['NFE_or_steps']):g}" if row["NFE_or_steps"] else "")
    assert set(sections) == {row["resolution"] for row in told}
    assert all(f"- {name}:" in text for name in {row["confidence"] for row in told})


@pytest.mark.parametrize("number", [1, 2])
def test_the_difference_is_measured_minus_published(number, tmp_path):
    rows = measured(number)
    rows = rows.assign(fid=rows["fid"] + 0.5 + rows["w"], is_mean=rows["is_mean"] - 2).sample(frac=1, random_state=0)
    Report(tmp_path / "run", rows).write(tmp_path / "out", Request(tables=["md", "csv"]), published=True)
    frame = pd.read_csv(tmp_path / "out" / "reference.csv")
    assert len(frame) == 42
    np.testing.assert_allclose(frame["fid_difference"], 0.5 + frame["w"], atol=1e-12)
    np.testing.assert_allclose(frame["is_mean_difference"], -2, atol=1e-12)
    exact = {(w, key): (fid, score) for w, key, fid, score in zip(
        frame["w"], frame[KEYS[number]], frame["fid_published"], frame["is_mean_published"], strict=True
    )}  # fmt: skip
    assert exact == {(float(w), float(key)): (float(a), float(b)) for (w, key), (a, b) in printed(number).items()}
    cells = markdown_cells((tmp_path / "out" / "reference.md").read_text())
    for key, _, w, scale, fid, fid_paper, fid_difference, score, score_paper, score_difference in cells:
        assert (fid_paper, score_paper) == printed(number)[Decimal(w), Decimal(key)]
        assert Decimal(scale) == 1 + Decimal(w)
        assert fid_difference == f"+{Decimal('0.50') + Decimal(w)}"
        assert Decimal(fid) - Decimal(fid_paper) == Decimal(fid_difference)
        assert Decimal(score) - Decimal(score_paper) == Decimal(score_difference) == -2
    assert len(cells) == 42


def test_points_meet_by_value_and_the_others_are_counted():
    rows = measured(1).iloc[:4].assign(w=[0.1 + 0.2, 0.05, 0.0, 4.0], p_uncond=[0.1, 0.1, 0.3, None], fid=9.0)
    one = beside.lay_beside(only(rows))
    assert one.rows[["w", "p_uncond"]].to_numpy().tolist() == [[0.3, 0.1]]
    assert one.rows["fid_difference"].tolist() == pytest.approx([9 - 3.03])
    assert one.alone == 3
    assert "3 measured points have no counterpart" in beside.markdown([one])
    assert "1 measured point has no counterpart" in beside.markdown([beside.lay_beside(only(rows.iloc[[0, 1]]))])


def test_the_weight_of_a_classifier_stands_beside_no_w_of_the_paper(tmp_path):
    names = {
        guidance: {path.name for path in Report(tmp_path / "run", rows).write(tmp_path / guidance, published=True)}
        for guidance, rows in ((one, measured(1).assign(guidance=one)) for one in ("cfg", "classifier"))
    }
    assert names["cfg"] - names["classifier"] == {"reference.md", "reference.csv"}


def kinds(rows):
    """{kind: {what: text}} of the notes."""
    found = {"same": {}, "differs": {}, "not stated": {}}
    for note in beside.lay_beside(only(rows)).notes:
        found[note.kind][note.what] = note.text
    return found


@pytest.mark.parametrize("number", [1, 2])
def test_one_protocol_is_said_to_be_one(number):
    found = kinds(measured(number))
    assert found["differs"] == {}
    assert set(found["same"]) == {"data set", "features", "number of images", "sampler", "v", "guidance"}
    assert found["not stated"][KEYS[3 - number]] == ("T 256 here" if number == 1 else "p_uncond 0.1 here")
    assert "clip on" in found["not stated"]["reference"]
    assert "agree in all that the paper states" in beside.markdown([beside.lay_beside(only(measured(number)))])


@pytest.mark.parametrize(
    ("changes", "what", "text"),
    [
        ({"samples": 10_000}, "number of images", "number of images: 10,000 here, 50,000 in the paper"),
        ({"v": 0.2}, "v", "v: 0.2 here, 0.3 in the paper"),
        ({"v": None}, "v", "v: not stated here, 0.3 in the paper"),
        ({"sampler": "ddim"}, "sampler", "sampler: ddim here, ancestral in the paper"),
        ({"guidance": "interval"}, "guidance", "guidance: interval here, cfg in the paper"),
        ({"dataset": "imagenet32"}, "data set", "data set: imagenet32 here, ImageNet 64x64 in the paper"),
        ({"dataset": "tiny-imagenet64"}, "data set", "data set: tiny-imagenet64 here, ImageNet 64x64 in the paper"),
        ({"features_id": "digits-12ab"}, "features", "digits-12ab here, the Inception network's in the paper"),
        ({"features_id": "inception-64-6726825d-x"}, "features", "features: inception-64-6726825d-x here"),
        ({"features_id": "inception-2048-beef0123-x"}, "features", "not the published evaluators'"),
        ({"features_id": f"{OFFICIAL}-bf16"}, "features", "features: the Inception network's in bf16 here"),
        ({"protocol": PROTOCOL.replace("imagenet64,", "imagenet64 (box),")}, "preparation",
         "preparation: box here, area in the paper"),
        ({"protocol": PROTOCOL.replace("1281167", "50000")}, "data set",
         "data set: 50,000 of the 1,281,167 images of imagenet64 here, ImageNet 64x64 in the paper"),
        ({"dataset": "digits", "protocol": PROTOCOL.replace("imagenet64, 1281167", "digits, 1797")}, "data set",
         "data set: digits, 1,797 images, here, ImageNet 64x64 in the paper"),
    ],
)  # fmt: skip
def test_what_differs_is_said(changes, what, text):
    found = kinds(measured(1, **changes))
    assert list(found["differs"]) == [what]
    assert text in found["differs"][what]
    markdown = beside.markdown([beside.lay_beside(only(measured(1, **changes)))])
    assert "The protocols differ" in markdown
    assert f"- {found['differs'][what]}" in markdown


def test_a_temperature_is_another_sampler():
    rows = measured(1, temperature=0.9)
    found = kinds(rows[rows["w"] > 0])
    assert found["differs"] == {"temperature": "temperature: 0.9 here, 1 in the paper"}
    assert kinds(measured(1, temperature=1.0))["differs"] == {}


@pytest.mark.parametrize(
    ("number", "changes", "drawn"),
    [
        (1, {}, 3),
        (2, {}, 3),
        (1, {"samples": 10_000}, 3),
        (1, {"dataset": "digits"}, 0),
        (1, {"dataset": "imagenet32"}, 0),
        (1, {"features_id": "inception-64-6726825d-x"}, 0),
        (1, {"features_id": "digits-12ab"}, 0),
        (1, {"features_id": f"{OFFICIAL}-bf16"}, 0),
        (1, {"protocol": PROTOCOL}, 3),
        (1, {"protocol": PROTOCOL.replace("imagenet64,", "imagenet64 (area),")}, 3),
        (1, {"protocol": PROTOCOL.replace("imagenet64,", "imagenet64 (npz, val),")}, 0),
        (1, {"protocol": PROTOCOL.replace("1281167", "5000")}, 0),
    ],
)
def test_published_curves_stand_behind_only_on_the_same_axes(number, changes, drawn):
    (figure,) = tradeoff(slices(measured(number, **changes)), behind=published_behind)
    (axes,) = figure.axes
    grey = [line for line in axes.lines if line.get_label() == "_published"]
    assert len(grey) == drawn
    assert all(line.get_linestyle() == "--" for line in grey)
    entries = [text.get_text() for text in axes.get_legend().get_texts()]
    assert sum("Ho & Salimans" in entry for entry in entries) == (drawn > 0)
    if drawn:
        places = {place for line in grey for place in zip(*line.get_data(), strict=True)}
        assert places == {(float(score), float(fid)) for fid, score in printed(number).values()}


def test_published_curves_have_the_colours_of_those_that_they_are_held_against():
    rows = measured(1).query("p_uncond != 0.2")
    (figure,) = tradeoff(slices(rows), behind=published_behind)
    lines = {label: line.get_color() for line in figure.axes[0].lines if (label := str(line.get_label()))}
    published = [line for line in figure.axes[0].lines if line.get_label() == "_published"]
    (first,), (last,) = ([lines[name] for name in lines if f"= {p}" in name] for p in (0.1, 0.5))
    assert [line.get_color() for line in published] == [first, "#808080", last]
    told = [text.get_text() for text in figure.axes[0].texts if text.get_color() == "#808080"]
    assert told == [r"$p_\mathrm{uncond}$ = 0.2"]
    entries = [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    assert "Ho & Salimans 2022, Table 1, p_uncond in the same colours" in entries


def test_measured_numbers_have_their_errors_beside_the_published(tmp_path):
    rows = measured(1).assign(fid_se=0.05)
    Report(tmp_path / "run", rows).write(tmp_path / "out", published=True)
    first = next(
        line for line in (tmp_path / "out" / "reference.md").read_text().splitlines() if line.startswith("| 0")
    )
    assert f"| {rows['fid'].iloc[0]:.3f} ± 0.050 |" in first
    found = pd.read_csv(tmp_path / "out" / "reference.csv")
    assert set(found["fid_se"]) == {0.05}
    assert "is_se" not in found


def test_a_run_gets_files_and_a_section(tmp_path):
    names = {path.name for path in Report(tmp_path / "run", measured(1)).write(tmp_path / "out", published=True)}
    assert {"reference.md", "reference.csv", "literature.md", "literature.csv", "tradeoff.png", "index.md"} <= names
    page = (tmp_path / "out" / "index.md").read_text()
    assert "## Beside the published numbers" in page
    assert (tmp_path / "out" / "reference.md").read_text().strip() in page
    assert set(pd.read_csv(tmp_path / "out" / "literature.csv")["resolution"]) == {64}
    without = {path.name for path in Report(tmp_path / "run", measured(1)).write(tmp_path / "none")}
    comparison = {f"comparison.{kind}" for kind in ("md", "csv", "tex")}
    assert names - without == {"reference.md", "reference.csv", "literature.md", "literature.csv"} | comparison
    assert "published" not in (tmp_path / "none" / "index.md").read_text()


def test_other_data_stands_beside_table_1_with_a_warning(tmp_path, table1):
    names = {path.name for path in Report(tmp_path / "run", table1).write(tmp_path / "out", published=True)}
    assert "literature.md" not in names
    text = (tmp_path / "out" / "reference.md").read_text()
    assert "The protocols differ:\n\n" in text
    assert "neither FID nor IS is on the same scale" in text
    assert "beside the paper's Table 1" in text
    assert {len(row) for row in markdown_cells(text)} == {8}  # no column of differences
    assert "difference" not in text
    official = table1.assign(features_id="inception-2048-6726825d-tf1")
    Report(tmp_path / "run", official).write(tmp_path / "out", published=True)
    text = (tmp_path / "out" / "reference.md").read_text()
    assert "The protocols differ, so a difference below is not a gain or a loss:" in text
    assert {row[6] for row in markdown_cells(text)} == {"+0.00"}
    assert "**About the paper's Table 1.**" in text
    assert "Table 2" not in text


def test_runs_without_numbers_or_with_one_metric_stand_too(table1):
    failed = only(table1.assign(status="failed", reason="NaN", fid=None, is_mean=None))
    assert beside.lay_beside(failed).rows.empty
    assert "published" in beside.csv([beside.lay_beside(failed)])
    fid_only = beside.lay_beside(only(table1.drop(columns="is_mean")))
    assert "IS<br>" not in beside.markdown([fid_only])
    assert "is_mean" not in beside.csv([fid_only])


def test_several_slices_are_laid_side_by_side_each(both):
    parts = slices(both.assign(features_id="inception-2048-6726825d-tf1"))
    laid = [beside.lay_beside(part, number) for number, part in enumerate(parts, 1)]
    frame = pd.read_csv(io.StringIO(beside.csv(laid)))
    assert frame.groupby("table")["T"].unique().map(list).tolist() == [[8], [16], [32]]
    np.testing.assert_allclose(frame["fid_difference"], 64 / frame["T"], atol=1e-12)
