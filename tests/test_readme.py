"""What README claims of the sweeps whose reports are in the repository is what the reports say."""

import re
from pathlib import Path

import pandas as pd
import pytest
import yaml

from cfgbench.spec import ClassifierSection, Dataset, Evaluation, Model, Sampling, Training
from cfgbench.sweep.results.row import COLUMNS

TOP = Path(__file__).parents[1]
README = (TOP / "README.md").read_text()


def test_every_number_with_an_error_stands_in_a_report():
    """In one of those that its paragraph names, or the last paragraph before it that names any."""
    reported, missing, count = "", [], 0
    for paragraph in README.split("\n\n"):
        if named := {*re.findall(r"reports/([a-z-]+)/", paragraph), *re.findall(r"sweeps/([a-z-]+)\.yaml", paragraph)}:
            files = [path for name in named for path in (TOP / "reports" / name).glob("*.md")]
            reported = "\n".join(path.read_text() for path in files)
        told = [number for number in re.findall(r"\d+\.\d+ ± \d+\.\d+", paragraph) if "0.0000" not in number]
        missing += [number for number in told if number not in reported]  # what is less stands in no table
        count += len(told)
    assert count >= 8
    assert missing == []


@pytest.mark.parametrize("name", ["digits", "digits-seeds", "digits-guidance", "fashion", "fashion-guidance"])
def test_the_table_of_verdicts_is_that_of_the_reports(name):
    lines = [line.strip("| ").split(" | ") for line in README.splitlines() if line.startswith("| ")]
    heads = next(cells for cells in lines if f"`{name}`" in cells)
    told = {int(cells[0][0]): cells[heads.index(f"`{name}`")] for cells in lines if re.match(r"\d\. ", cells[0])}
    claims = pd.read_csv(TOP / "reports" / name / "claims.csv")
    found = claims.drop_duplicates("number").set_index("number")["verdict"]
    assert told.keys() == set(found.index)
    assert {number: verdict.split(":")[0].replace("–", "cannot be told") for number, verdict in told.items()} == (
        found.to_dict()
    )


def test_how_far_trainings_lie_apart_is_that_of_the_report():
    points = pd.read_parquet(TOP / "reports/digits-seeds/rows.parquet").groupby(["p_uncond", "w"])
    apart = points["fid"].std() / points["fid_se"].mean()
    best = points["fid"].agg(["min", "max"]).loc[0.1, 0.7]
    told = (
        f"{apart.min():.1f} to {apart.max():.1f} times the error of their images, at the median of the {len(apart)} "
        f"points {apart.median():.1f} times"
    )
    words = " ".join(README.split())
    assert told in words
    assert f"the lowest {best['min']:.3f} and the highest {best['max']:.3f}" in words


@pytest.mark.parametrize("section", [Dataset, Model, Training, ClassifierSection, Sampling, Evaluation])
def test_the_table_of_keys_has_all_with_their_defaults(section):
    name = section.__name__.removesuffix("Section").lower()
    (line,) = [line for line in README.splitlines() if line.startswith(f"| `{name}` | ")]
    told = [key.partition(": ") for key in re.findall(r"`([^`]+)`", line)[1:]]
    fields = {key: None if field.is_required() else field.default for key, field in section.model_fields.items()}
    assert {key: yaml.safe_load(value) for key, _, value in told} == fields


def test_the_table_of_columns_has_all():
    _, _, after = README.partition("| columns of a row |")
    lines = after.partition("\n\n")[0].splitlines()[2:]
    told = [name for line in lines for name in re.findall(r"`([^`]+)`", line.split(" | ")[0])]
    assert sorted(told) == sorted(COLUMNS)
