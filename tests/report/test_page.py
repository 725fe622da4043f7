import json
import re

import numpy as np
import pandas as pd
import pytest
from conftest import fail

from cfgbench.errors import UserError
from cfgbench.files import identity
from cfgbench.report import Report, Request, print_tables

CLAIMS = {"claims.md", "claims.csv"}


@pytest.fixture
def out(tmp_path):
    return tmp_path / "reports" / "digits"


def test_everything_that_the_rows_allow(tmp_path, out, with_failures):
    paths = Report(tmp_path / "digits", with_failures).write(out)
    names = {path.name for path in paths}
    figures = {f"{name}.{kind}" for name in ("tradeoff", "strength") for kind in ("png", "svg")}
    assert names == figures | {"table.md", "table.csv", "table.tex", "index.md", "rows.parquet"} | CLAIMS
    assert {path.name for path in out.iterdir()} == names
    read = pd.read_parquet(out / "rows.parquet")
    assert list(read) == list(with_failures)
    assert read["cell_id"].tolist() == with_failures["cell_id"].tolist()
    assert read["fid"].equals(with_failures["fid"].astype(float))


def test_the_page_tells_the_whole(tmp_path, out, with_failures):
    Report(tmp_path / "digits", with_failures).write(out)
    page = (out / "index.md").read_text()
    links = re.findall(r"\]\(([^)]+)\)", page)
    assert all((out / link).is_file() for link in links)
    assert {"tradeoff.png", "strength.png", "rows.parquet", "table.csv"} <= set(links)
    assert "42 cells: 39 done, 3 failed" in page
    assert "- p_uncond 0.5: best FID 1.91 at w 0.1 (scale 1.1); 2.21 without guidance (digits features)" in page
    assert "| features | digits-0123456789ab |" in page
    assert r"| `cell001` | p_uncond 0.1, T 256, w 0.1 (scale 1.1) | out of memory \| 50% of a_b & c |" in page
    assert (out / "table.md").read_text().strip() in page


def test_the_settings_of_the_sweep_are_part_of_the_whole(tmp_path, out, table1):
    """They say what the network is and how it was trained. A file that is damaged is another command's to tell; one of
    the user's own, in a folder that is named with --out, stays."""
    folder = tmp_path / "digits"
    folder.mkdir()
    out.mkdir(parents=True)
    (out / "sweep.yaml").write_text("mine")
    report = Report(folder, table1)
    (folder / "sweep.yaml").write_text("name: digits\n")
    assert out / "settings.yaml" in report.write(out)
    assert (out / "settings.yaml").read_text() == "name: digits\n"
    assert (out / "sweep.yaml").read_text() == "mine"
    said = "training and all other settings, as the sweep was last run: [settings.yaml](settings.yaml)."
    assert said in (out / "index.md").read_text()
    (folder / "sweep.yaml").write_bytes(bytes(1 << 20))
    assert out / "settings.yaml" not in report.write(out)
    assert said not in (out / "index.md").read_text()
    assert "of an earlier report, and not of this one: settings.yaml" in report.notes


def test_only_what_a_report_writes_is_said_to_be_left(tmp_path, out, table1):
    own = (
        "samples.npz",
        "reference.npz",
        "settings.json",
        "claims.docx",
        "rows-2024.csv",
        "table-1.md",
        "samples-chosen.png",
    )
    left = "comparison.tex", "steps-2.svg", "tradeoff.pdf"
    out.mkdir(parents=True)
    for name in (*own, *left):
        (out / name).touch()
    report = Report(tmp_path / "digits", table1[table1["p_uncond"] == 0.1])
    report.write(out)
    assert [line for line in report.notes if "earlier" in line] == [
        f"of an earlier report, and not of this one: {', '.join(left)}"
    ]


def test_a_failed_cell_without_a_reason_is_said_to_have_none(tmp_path, out, table1):
    report = Report(tmp_path / "digits", fail(table1, 1, None))
    report.write(out)
    assert "1 cell failed, such as: failed without a reason" in report.notes
    assert "w 0.1 (scale 1.1) | failed without a reason |" in (out / "index.md").read_text()
    assert "None" not in (out / "table.md").read_text()


def test_a_failed_cell_is_told_from_others_of_its_place(tmp_path, out, table1):
    some = table1[table1["p_uncond"] == 0.1].reset_index(drop=True)
    several = [some.assign(seed=seed, clip=seed == 1, cell_id=some["cell_id"] + f"-{seed}") for seed in (0, 1)]
    rows = pd.concat(several, ignore_index=True)
    failed = rows["w"] == 0.3
    rows = rows.assign(status=np.where(failed, "failed", "ok"), fid=rows["fid"].where(~failed), reason="__init__() x_y")
    Report(tmp_path / "digits", rows).write(out)
    page = (out / "index.md").read_text()
    for seed, clip in ((0, False), (1, True)):
        place = f"p_uncond 0.1, T 256, w 0.3 (scale 1.3), seed {seed}, clip {clip}"
        assert f"-{seed}` | {place} | \\_\\_init\\_\\_() x_y |" in page


def test_figures_of_several_slices_are_numbered_and_shown(tmp_path, out, both):
    paths = Report(tmp_path / "digits", both[both["w"].isin([0, 0.1, 4])]).write(out)
    names = {path.name for path in paths if path.suffix == ".png"}
    assert names == {f"{kind}{k}.png" for kind in ("tradeoff", "strength", "steps") for k in ("", "-2", "-3")}
    page = (out / "index.md").read_text()
    assert all(f"]({name})" in page for name in names)


def test_only_what_is_named(tmp_path, out, table1):
    made = Report(tmp_path, table1)
    assert [path.name for path in made.write(out, Request(plots=["tradeoff"]))] == ["tradeoff.png", "tradeoff.svg"]
    assert [path.name for path in made.write(out, Request(tables=["tex", "csv"]))] == ["table.tex", "table.csv"]


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"plots": ["tradeoff", "steps"]}, "--plot steps: needs finished cells at two values of T"),
        ({"plots": ["samples"]}, "--plot samples: needs images"),
        ({"plots": ["trade"]}, "--plot trade: not known; there are tradeoff"),
        ({"tables": ["html"]}, "--table html: not known; there are md, csv, tex"),
    ],
)
def test_what_cannot_be_made_is_said_and_nothing_is_written(tmp_path, out, table1, asked, words):
    with pytest.raises(UserError, match=words):
        Report(tmp_path, table1).write(out, Request(**asked))
    assert not out.exists()


def test_a_sweep_where_all_failed_has_tables_and_a_page(tmp_path, out, table1):
    rows = table1.assign(status="failed", reason="NaN in the images", fid=None, is_mean=None, temperature=0.9)
    names = {path.name for path in Report(tmp_path, rows).write(out)}
    assert names == {"table.md", "table.csv", "table.tex", "index.md", "rows.parquet"} | CLAIMS
    page = (out / "index.md").read_text()
    assert "42 failed" in page
    assert "p_uncond 0.1, T 256, w 0 (scale 1), temperature 0.9 | NaN in the images |" in page


def test_rows_that_gave_way_are_counted(tmp_path, out, table1):
    old = table1.assign(checkpoint_id="old", created="2023-01-01", fid=0.5)
    Report(tmp_path, pd.concat([table1, old], ignore_index=True)).write(out)
    page = (out / "index.md").read_text()
    assert "42 rows of an earlier version" in page
    assert "0.5 at" not in page


def test_failures_of_cells_that_are_no_longer_asked_for_are_no_news(tmp_path, out, table1):
    keys = ["cell_id", "checkpoint_id", "p_uncond", "w", "T", "guidance"]
    cells = table1.assign(T=256, guidance="cfg")[keys].to_dict("records")
    (tmp_path / "asked.json").write_text(json.dumps({"digest": identity(cells), "cells": cells}))
    failed = table1[:1].assign(status="failed", reason="loss is NaN", fid=None, is_mean=None)
    old = failed.assign(cell_id="old", checkpoint_id="old")
    report = Report(tmp_path, pd.concat([table1, old], ignore_index=True))
    report.write(out)
    assert "NaN" not in (page := (out / "index.md").read_text()) + " ".join(report.notes)
    assert "42 cells: 42 done, 0 failed." in page
    assert "1 row of an earlier version of the sweep is in `rows.parquet`" in page
    report = Report(tmp_path, pd.concat([table1[1:], failed], ignore_index=True))
    report.write(out)
    assert "1 cell failed, such as: loss is NaN" in report.notes
    assert "42 cells: 41 done, 1 failed." in (page := (out / "index.md").read_text())
    assert "loss is NaN" in page


def test_tables_are_printed_whole_where_there_is_no_terminal(capsys, table1, tmp_path):
    print_tables(Report(tmp_path, table1))
    text = capsys.readouterr().out
    assert "260.20" in text
    assert "…" not in text


@pytest.mark.parametrize("column", ["p_uncond", "T"])
def test_a_report_of_rows_where_it_is_not_stated(tmp_path, out, with_failures, column):
    rows = with_failures[with_failures["p_uncond"] == 0.1].assign(**{column: None})
    names = {path.name for path in Report(tmp_path, rows).write(out)}
    assert {"tradeoff.png", "strength.png", "table.tex", "index.md"} <= names
    page = (out / "index.md").read_text()
    assert f"{column} not stated" in page
    assert "nan" not in page.replace("NaN", "").lower().split()
    assert "1.80" in page
    assert "– (a)" in page
    head = "$p_\\mathrm{uncond}$ not stated" if column == "p_uncond" else "$T$ not stated"
    assert head in (out / "table.tex").read_text()
