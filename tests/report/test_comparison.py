"""One's own systems among the published models: every number with its source, and whether it compares."""

import csv
import io
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import cfgbench.report
from cfgbench.report import Report, Request
from cfgbench.report.reference import TABLES, comparison
from cfgbench.report.reference.models import lines as lines_of
from cfgbench.report.rows.slices import slices

DATA = Path(cfgbench.report.__file__).parent / "reference"
OFFICIAL = "inception-2048-6726825d-tf1-bilinear-299"
CFG = "classifier-free guidance"


def told(name, **fixed):
    with (DATA / name).open() as file:
        return [row for row in csv.DictReader(file) if all(row[key] == value for key, value in fixed.items())]


@pytest.fixture
def systems(table1):
    """The paper's rows, with errors, and a classifier's beside p_uncond 0.1."""
    classifier = table1.iloc[[1, 2, 10]].assign(
        guidance="classifier", w=[0.5, 1.0, 8.0], fid=[1.7, 1.5, 4.0], is_mean=[60.0, 70.0, 95.0], nfe=768
    )
    rows = pd.concat([table1, classifier.assign(cell_id=["c1", "c2", "c3"])], ignore_index=True)
    return rows.assign(fid_se=0.021, is_se=0.31)


def frame(rows):
    return pd.read_csv(io.StringIO(comparison.csv(slices(rows))), dtype=str, keep_default_na=False)


def as_imagenet(rows, size=64):
    return rows.assign(dataset=f"imagenet{size}", features_id=OFFICIAL)


@pytest.mark.parametrize("number", [1, 2])
def test_what_the_paper_quotes_is_there_digit_for_digit(systems, number):
    found = frame(as_imagenet(systems, 64 * number))
    published = found[found["kind"] == "published"]
    quoted = published[published["conditions"].str.startswith("quoted in")]
    assert quoted[["model", "source", "FID", "IS"]].to_numpy().tolist() == [
        [row["model"], row["citation"], row["fid"], row["is"]] for row in told("baselines.csv", table=str(number))
    ]
    own = published[published["model"] == CFG]
    numbers = told(f"table{number}.csv")
    best = min(float(row["fid"]) for row in numbers)
    high = max(numbers, key=lambda row: float(row["is"]))
    assert {float(fid) for fid in own[own["row"] == "best FID"]["FID"]} == {best}
    assert len(own[own["row"] == "best FID"]) == sum(float(row["fid"]) == best for row in numbers)
    assert own[own["row"] == "max IS"]["IS"].tolist() == [high["is"]]
    assert f"w {float(high['w']):g} (scale " in own[own["row"] == "max IS"]["conditions"].item()


@pytest.mark.parametrize("resolution", ["64", "128"])
def test_the_models_own_papers_are_named_and_nothing_stands_twice(systems, resolution):
    found = frame(as_imagenet(systems, resolution))
    others = found[found["source"].str.startswith("arXiv")]
    sources = {
        (row["model"], row["source_paper"], row["value"])
        for row in told("literature.csv", resolution=resolution, metric="FID", confidence="verified")
    }
    assert set(others[["model", "source", "FID"]].itertuples(index=False, name=None)) <= sources
    assert {"64": "ADM (no dropout)", "128": "ADM"}[resolution] in set(others["model"])
    names = found["model"].str.extract(r"^(ADM-G|ADM|CDM|BigGAN-deep|LOGAN)")[0]
    assert not pd.Series(list(zip(names.dropna(), found["FID"][names.notna()], strict=True))).duplicated().any()
    assert {"ADM", "CDM", "BigGAN-deep", *(["LOGAN", "ADM-G"] if resolution == "128" else [])} == set(names.dropna())
    assert "EDM2-S" not in set(found["model"])


def test_conditions_of_quoted_models_come_from_their_papers(systems):
    found = frame(as_imagenet(systems, 128)).set_index("model")
    words = found.loc["ADM-G", "conditions"]
    assert words == "quoted in Ho & Salimans 2022, Table 2; classifier, scale 0.5; network calls or steps: 250"


def test_each_own_system_has_its_best_rows_with_errors(systems):
    found = frame(systems)
    own = found[found["kind"] == "measured"]
    keys = ["model", "row", "FID", "FID se", "IS", "IS se"]
    assert own[keys].to_numpy().tolist() == [
        [CFG, "best FID", "1.55", "0.021", "66.11", "0.31"],
        [CFG, "max IS", "26.22", "0.021", "260.2", "0.31"],
        ["classifier guidance", "best FID", "1.5", "0.021", "70.0", "0.31"],
        ["classifier guidance", "max IS", "4.0", "0.021", "95.0", "0.31"],
    ]
    text = comparison.markdown(slices(systems))
    assert "| classifier guidance | best FID | measured here, digits | 1.500 ± 0.021 | 70.00 ± 0.31 | w 1, p_un" in text
    assert "w 0.1 (scale 1.1), p_uncond 0.1, T 256, 512 network passes an image, 50,000 images" in text
    assert "768 network passes an image" in text


def test_an_unguided_row_that_is_lent_is_no_systems_best(systems):
    rows = systems.copy()
    rows.loc[rows["guidance"] == "classifier", "fid"] = [9.0, 8.0, 10.0]
    own = frame(rows).query("kind == 'measured' and model == 'classifier guidance' and row == 'best FID'")
    assert own["FID"].tolist() == ["8.0"]


def test_one_row_that_is_both_stands_once(systems):
    rows = systems[(systems["guidance"] == "cfg") | (systems["w"] == 1)]
    own = frame(rows).query("kind == 'measured' and model == 'classifier guidance'")
    assert own["row"].tolist() == ["best FID and max IS"]


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({}, ""),
        ({"T": 32, "v": 0.2}, ""),
        ({"samples": 10_000}, "10,000 images"),
        ({"features_id": "inception-64-6726825d"}, "features inception-64-6726825d"),
        ({"dataset": "digits", "samples": 1000}, "data set digits, 1,000 images"),
    ],
)
def test_each_measured_row_says_whether_it_compares(systems, changes, why):
    rows = as_imagenet(systems).assign(**changes)
    own = frame(rows).query("kind == 'measured'")
    assert set(own["compares"]) == {"no" if why else "yes"}
    assert set(own["why_not"]) == {why}
    text = comparison.markdown(slices(rows))
    assert text.count(f"| no: {why} |") == (4 if why else 0)
    assert text.count("| yes, as far as the paper states its protocol |") == (0 if why else 4)
    assert ("No measured row compares with the published ones" in text) == bool(why)
    assert "**" not in text.split("\n\n", 1)[1]  # nothing is called the best across protocols


def test_what_is_of_another_protocol_has_lines_of_its_own(systems):
    rows = as_imagenet(systems)
    both = pd.concat([rows, rows.assign(samples=1000, cell_id=rows["cell_id"] + "-few")], ignore_index=True)
    own = frame(both).query("kind == 'measured'")
    assert own["compares"].value_counts().to_dict() == {"yes": 4, "no": 4}
    assert "4 of 8 measured rows do not compare" in comparison.markdown(slices(both))


def test_every_format_has_every_line(tmp_path, systems):
    paths = Report(tmp_path / "run", as_imagenet(systems)).write(tmp_path / "out", published=True)
    assert {"comparison.md", "comparison.csv", "comparison.tex"} <= {path.name for path in paths}
    text = (tmp_path / "out" / "comparison.md").read_text()
    assert text.strip() in (tmp_path / "out" / "index.md").read_text()
    lines = lines_of(slices(as_imagenet(systems)))[TABLES[0]]
    table = [line for line in text.splitlines() if line.startswith("| ")][1:]
    latex = (tmp_path / "out" / "comparison.tex").read_text()
    body = [line for line in latex.splitlines() if line.endswith(r"\\")][1:]
    assert len(lines) == len(table) == len(body) == len(pd.read_csv(tmp_path / "out" / "comparison.csv"))
    for line, row, other in zip(lines, table, body, strict=True):
        assert [cell.strip() for cell in row.split("|")[4:6]] == [line.fid or "–", line.score or "–"]
        assert [cell.strip() for cell in re.split(r"(?<!\\)&", other)[3:5]] == [
            text.replace("±", r"$\pm$") or "--" for text in (line.fid, line.score)
        ]
    assert latex.count("{") == latex.count("}")


def test_formats_are_those_that_are_named(tmp_path, systems):
    paths = Report(tmp_path / "r", systems).write(tmp_path / "o", Request(tables=["tex"]), published=True)
    assert [path.name for path in paths] == ["table.tex", "comparison.tex"]


def test_point_by_point_stands_the_papers_guidance_only(tmp_path, systems):
    low = systems.iloc[[0]].assign(temperature=0.9, fid=5.0, cell_id="cold")
    rows = pd.concat([systems, low], ignore_index=True)
    Report(tmp_path / "run", rows).write(tmp_path / "out", Request(tables=["md", "csv"]), published=True)
    points = pd.read_csv(tmp_path / "out" / "reference.csv")
    assert len(points) == 42
    np.testing.assert_allclose(points["fid"], points["fid_published"], atol=1e-12)
    text = (tmp_path / "out" / "table.md").read_text()
    (number,) = set(points["table"])
    assert "by p_uncond" in text.split(f"**Table {number}.**")[1].split("**Table")[0]
    assert "low temperature" in (tmp_path / "out" / "comparison.md").read_text()


def test_a_sweep_without_one_of_the_metrics_or_any_number_stands_too(table1):
    own = frame(table1.drop(columns=["is_mean"])).query("kind == 'measured'")
    assert own["row"].tolist() == ["best FID"]
    assert own["IS"].tolist() == [""]
    failed = table1.assign(status="failed", reason="NaN", fid=None, is_mean=None)
    assert set(frame(failed)["kind"]) == {"published"}


def test_the_mean_of_seeds_is_called_so(table1):
    rows = pd.concat([table1.assign(seed=s, cell_id=table1["cell_id"] + f"-{s}") for s in (0, 1)], ignore_index=True)
    assert "measured here, digits, mean of 2 seeds |" in comparison.markdown(slices(rows))
    pairs = [rows.assign(**{"training.seed": k}, cell_id=rows["cell_id"] + f"-{k}") for k in (0, 1)]
    pairs = pd.concat(pairs, ignore_index=True)
    assert "measured here, digits, mean of 4 pairs of seeds |" in comparison.markdown(slices(pairs))
    later = rows.assign(is_mean=rows["is_mean"].where(rows["seed"] == 0))
    said = "measured here, digits, mean of 2 seeds, IS: mean over 1 of 2 seeds, 0 |"
    assert comparison.markdown(slices(later)).count(said) == 2
    out = rows.assign(status=rows["status"].where(rows["seed"] == 0, "failed"), reason="out of memory")
    said = "measured here, digits, mean over 1 of 2 seeds; seed 1: out of memory |"
    assert comparison.markdown(slices(out)).count(said) == 2


def test_the_two_tables_of_the_paper_have_a_comparison_each(systems):
    both = pd.concat([as_imagenet(systems, 64), as_imagenet(systems, 128)], ignore_index=True)
    found = lines_of(slices(both))
    assert tuple(found) == TABLES
    assert all(sum(line.measured for line in lines) == 4 for lines in found.values())


def test_a_mean_over_other_seeds_is_not_the_best_of_its_system(table1):
    one = table1[table1["p_uncond"] == 0.1]
    rows = [one.assign(seed=s, cell_id=one["cell_id"] + f"-{s}") for s in (0, 1, 2)]
    rows = [rows[0].assign(fid=one["fid"].where(one["w"] != 4, 0.1), is_mean=one["is_mean"].where(one["w"] != 4, 999))]
    rows += [one.assign(seed=s, cell_id=one["cell_id"] + f"-{s}")[one["w"] != 4] for s in (1, 2)]
    own = frame(pd.concat(rows, ignore_index=True)).query("kind == 'measured'")
    assert own["row"].tolist() == ["best FID", "max IS"]
    assert own["FID"].astype(float).min() == 1.55
    assert own["conditions"].str.contains("w 0.1 ").tolist() == [True, False]
    assert not own["conditions"].str.contains("w 4 ").any()


@pytest.mark.parametrize(("prepared", "verdict"), [("area", "yes"), ("adm", "no: preparation adm")])
def test_images_that_were_made_small_otherwise_do_not_compare(systems, prepared, verdict):
    protocol = f"features {OFFICIAL}; reference imagenet64 ({prepared}), 1281167 images; 50000 samples; clip on; fp32"
    rows = as_imagenet(systems).assign(samples=50_000, protocol=protocol)
    assert {line.verdict for of_table in lines_of(slices(rows)).values() for line in of_table if line.measured} == {
        "yes, as far as the paper states its protocol" if verdict == "yes" else verdict
    }
    assert set(frame(rows).query("kind == 'measured'")["compares"]) == {verdict.partition(":")[0]}
