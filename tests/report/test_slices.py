import pandas as pd
import pytest

from cfgbench.errors import UserError
from cfgbench.report.rows.slices import settled, slices
from cfgbench.report.tables.captions import caption
from cfgbench.report.words import METRICS, extractor_name


def test_columns_are_what_varies(table1, table2, both):
    assert [(part.series, part.setting["T"]) for part in slices(table1)] == [("p_uncond", 256)]
    assert [(part.series, part.setting["p_uncond"]) for part in slices(table2)] == [("T", 0.1)]
    assert [(part.series, part.setting["T"], part.differs) for part in slices(both)] == [
        ("p_uncond", 8, "T 8"),
        ("p_uncond", 16, "T 16"),
        ("p_uncond", 32, "T 32"),
    ]


def test_every_row_stands_in_one_slice(both):
    ids = [cell for part in slices(both) for cell in part.rows["cell_id"]]
    assert sorted(ids) == sorted(both["cell_id"])


@pytest.mark.parametrize(
    ("column", "other"),
    [
        ("features_id", "inception-beef"),
        ("reference_id", "other"),
        ("samples", 1000),
        ("protocol", "clip off; fp32"),
        ("v", 0.75),
        ("sampler", "ddim"),
        ("guidance", "interval"),
        ("dataset", "fashion-mnist"),
    ],
)
def test_what_does_not_compare_is_kept_apart(table1, column, other):
    parts = slices(pd.concat([table1, table1.assign(**{column: other}, fid=table1["fid"] * 2)]))
    assert [part.setting[column] for part in parts] == [table1[column].iloc[0], other]
    assert [len(part.rows) for part in parts] == [42, 42]
    assert all(part.rows[column].nunique() == 1 for part in parts)
    assert str(other) in caption(parts[1], METRICS).replace(",", "")


def test_another_axis_is_kept_apart_and_named(table1):
    parts = slices(pd.concat([table1.assign(learning_rate=rate) for rate in (1e-4, 1.0000001e-4)]))
    assert [part.setting["learning_rate"] for part in parts] == [1e-4, 1.0000001e-4]
    assert "learning_rate 0.0001" in caption(parts[0], METRICS)
    assert parts[0].apart == ("learning_rate",)


def test_an_axis_named_with_its_section_does_not_split_the_plane(table1):
    assert len(slices(table1.assign(**{"training.p_uncond": table1["p_uncond"]}))) == 1


def test_rows_of_an_older_model_give_way(table1):
    old = table1.assign(checkpoint_id="old", created="2023-01-01", fid=0.5, w=table1["w"] + 0.05)
    (part,) = slices(pd.concat([table1, old]))
    assert part.rows["checkpoint_id"].ne("old").all()
    assert len(part.rows) == 42


def test_the_newest_of_two_rows_at_one_point_counts(table1):
    again = table1.iloc[[3]].assign(fid=9.0, created="2025-01-01")
    (part,) = slices(pd.concat([again, table1]))
    assert part.rows.query("w == 0.3 and p_uncond == 0.1")["fid"].tolist() == [9.0]


def test_metrics_are_those_that_were_measured(table1):
    assert slices(table1)[0].metrics == METRICS
    assert [metric.name for metric in slices(table1.assign(is_mean=None))[0].metrics] == ["FID"]
    assert [metric.name for metric in slices(table1.drop(columns=["fid", "fid_se"]))[0].metrics] == ["IS"]


def test_curves_are_in_order_of_w(table1):
    (part,) = slices(table1.sample(frac=1, random_state=0))
    for value, rows in part.curves(*METRICS):
        assert rows["w"].is_monotonic_increasing
        assert set(rows["p_uncond"]) == {value}


def test_what_tells_slices_apart_is_said_in_their_titles(table1):
    long = "features digits-0123456789ab; reference digits, 1797 images; uint8 by rounding; clip"
    other = table1.assign(protocol=f"{long} on; bf16")
    first, second = slices(pd.concat([table1.assign(protocol=f"{long} on; fp32"), other]))
    assert first.differs != second.differs
    assert len(first.differs) <= 50
    parts = slices(pd.concat([table1, other.assign(features_id="inception-2048-beef", seed=1)]))
    assert [part.differs for part in parts] == [
        "seed 0, features digits-0123456789ab",
        "seed 1, features inception-2048-beef",
    ]


def test_caption_tells_extractor_images_and_conditions(table1):
    text = caption(slices(table1)[0], METRICS)
    for words in (
        "digits:",
        "50,000 images",
        "T 256",
        "ancestral",
        "v 0.3",
        "digits-0123456789ab",
        "clip on",
        "fedcba",
    ):
        assert words in text


@pytest.mark.parametrize(
    ("features_id", "name"),
    [
        ("inception-6726825d", "inception"),
        ("inception-64-6726825d", "inception-64"),
        ("inception-768 6726825d", "inception-768"),
        ("inception-6426825d", "inception"),
        ("digits", "digits"),
        ("fashion-mnist:abc", "fashion-mnist"),
        ("digits2", "digits2"),
    ],
)
def test_extractor_name(features_id, name):
    assert extractor_name(features_id) == name


def test_no_rows(table1):
    with pytest.raises(UserError, match=r"results/x: no cells yet"):
        settled(table1.iloc[:0], where="results/x")
    with pytest.raises(UserError, match="features_id"):
        slices(table1.drop(columns="features_id"))


def test_p_uncond_and_T_may_be_null(table1, table2):
    unknown = pd.concat([table1[table1["p_uncond"] == 0.1].assign(p_uncond=None), table1], ignore_index=True)
    (part,) = slices(unknown)
    assert len(part.rows) == 56
    assert [value for value, _ in part.curves(*METRICS)] == [0.1, 0.2, 0.5, None]
    (part,) = slices(table1.assign(T=None))
    assert part.setting["T"] is None
    assert "T not stated" in caption(part, METRICS)
    (part,) = slices(table2.assign(p_uncond=pd.NA))
    assert part.series == "T"
    assert "p_uncond not stated" in caption(part, METRICS)
    parts = slices(pd.concat([table1, table1.assign(T=None)]))
    assert [len(part.rows) for part in parts] == [42, 42]
    assert [part.differs for part in parts] == ["T 256", "T not stated"]
    (part,) = slices(table1[table1["p_uncond"] == 0.1].assign(p_uncond=None, T=None))
    assert (part.series, len(part.rows)) == ("p_uncond", 14)


def test_an_older_model_of_unknown_p_uncond_gives_way_too(table1):
    rows = table1[table1["p_uncond"] == 0.1].assign(p_uncond=None)
    old = rows.assign(checkpoint_id="old", created="2023-01-01", w=rows["w"] + 0.05)
    (part,) = slices(pd.concat([old, rows]))
    assert part.rows["checkpoint_id"].ne("old").all()
    assert len(part.rows) == 14


def test_rows_are_settled_once_and_a_file_cannot_say_that_they_are(table1):
    whole = settled(table1)
    assert settled(whole) is whole
    claimed = settled(table1.assign(members="all"))
    assert [len(members) for members in claimed["members"]] == [1] * len(table1)
    pd.testing.assert_frame_equal(claimed[["fid", "is_mean", "seeds"]], whole[["fid", "is_mean", "seeds"]])
