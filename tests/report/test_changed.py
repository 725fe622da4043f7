"""A sweep file that changes between runs: `report` shows what a fresh folder would, as far as it is asked for."""

from pathlib import Path

import pandas as pd
import pytest

from cfgbench.report.rows.current import asked_for
from cfgbench.report.rows.slices import slices

SWEEP = """
name: points
dataset: {name: gaussians}
model: {name: gaussians}
sampling: {samples: 200, T: 8, sampler: SAMPLER, v: V}
evaluation: {metrics: METRICS}
grid: {GRID}
"""


@pytest.fixture
def sweep(tmp_path, monkeypatch, run):
    """Runs the sweep with this grid, and gives the lines that `report` says of it."""
    monkeypatch.chdir(tmp_path)

    def runs(grid, results="results", metrics="[fid, is]", sampler="ancestral", v="0.3"):
        text = SWEEP.replace("GRID", grid).replace("METRICS", metrics).replace("SAMPLER", sampler)
        Path("points.yaml").write_text(text.replace("V}", f"{v}}}"))
        assert run("sweep", "points.yaml", "--results", results, "--quiet")[0] == 0
        code, _, err = run("report", "points", "--results", results, "--out", results, "--table", "csv")
        assert code == 0
        return [line for line in err.splitlines() if not line.startswith("note:")]

    return runs


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("w: [0, 1]", "w: [0, 1, 2], clip: [true, false]"),
        ("w: [0, 1], clip: [true]", "w: [0, 1, 2]"),
        ("w: [0, 1], clip: [true]", "w: [0, 1, 2], sampling.clip: [true, false]"),
        ("w: [0, 1], sampling.clip: [true, false]", "w: [0, 1, 2], clip: [true, false]"),
    ],
)
def test_an_axis_may_come_go_and_be_spelled_anew(sweep, before, after):
    sweep(before)
    found, fresh = sweep(after), sweep(after, "fresh")
    assert len(found) == (2 if "false" in after else 1)
    assert [line.replace("sampling.clip", "clip") for line in found] == [
        line.replace("sampling.clip", "clip") for line in fresh
    ]


def test_to_a_sampler_without_variance_v_means_nothing(sweep):
    sweep("w: [0, 1]", sampler="ddim")
    after = "w: [0, 1, 2], sampler: [ddim, ancestral]"
    found = sweep(after, v="0.2")
    assert found == sweep(after, "fresh", v="0.2")
    assert sum("ddim" in line for line in found) == 1


def test_a_change_that_is_taken_back_leaves_what_is_asked_for_now(sweep):
    both = sweep("w: [0, 1]")
    sweep("w: [0, 1]", metrics="[fid]")
    assert sweep("w: [0, 1]") == both
    table = pd.read_csv("results/table.csv")
    assert any(column.startswith("IS") for column in table)


def test_a_note_of_before_tells_nothing_of_classifiers(table1):
    rows = table1.assign(checkpoint_id="a", classifier_id="b")
    assert len(asked_for(rows, [{"cell_id": "c", "checkpoint_id": "a"}])) == len(rows)
    assert len(asked_for(rows, [{"cell_id": "c", "checkpoint_id": "a", "classifier_id": "d"}])) == 0


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize(("column", "values"), [("clip", [False, True]), ("guidance", ["score-scale", "classifier"])])
def test_tables_are_in_the_order_of_the_sweep_whichever_cell_was_done_first(table1, column, values, first):
    rows = table1.assign(checkpoint_id="m", on="conditional")
    rows = pd.concat([rows.assign(**{column: one, "cell_id": rows["cell_id"] + f"-{one}"}) for one in values])
    cells = rows[["cell_id", "checkpoint_id", "p_uncond"]].to_dict("records")
    minutes = range(len(rows)) if first else reversed(range(len(rows)))
    done = rows.assign(created=[f"2026-01-01 00:{minute:02}" for minute in minutes])
    done = done.sort_values("created", ignore_index=True)

    def shown(cells):
        return [part.rows[column].iloc[0] for part in slices(asked_for(done, cells))]

    assert shown(cells) == values
    assert shown(cells[len(table1) :]) == values[::-1]  # what the sweep no longer has, at the end


def test_what_the_sweep_says_now_of_a_network_made_elsewhere_is_shown():
    rows = pd.DataFrame([{"cell_id": "c", "checkpoint_id": "a", "p_uncond": 0.1}])
    assert asked_for(rows, [{"cell_id": "c", "checkpoint_id": "a", "p_uncond": 0.5}])["p_uncond"].tolist() == [0.5]
    assert asked_for(rows, [{"cell_id": "d", "checkpoint_id": "a", "p_uncond": 0.5}])["p_uncond"].tolist() == [0.1]
