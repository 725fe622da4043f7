import io
import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from drawn import heading_of, samples, title_of
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from cfgbench.errors import UserError
from cfgbench.report.drawing.figure_files import NothingToPlot, png
from cfgbench.report.drawing.tiles import drawn_names, find_classes, places
from cfgbench.report.request import ImageChoice
from cfgbench.report.rows.slices import slices
from cfgbench.sweep.results.sheet import read_tiles

NAMES = ["zero", "one", "two"]


def save(path, shade, *, draws=2, side=8, labels=None, names=NAMES):
    """Tiles of one grey each: shade + 10 * class + draw."""
    grid = shade + 10 * np.arange(3)[None, :] + np.arange(draws)[:, None]
    pixels = grid.repeat(side, axis=0).repeat(side, axis=1).astype(np.uint8)
    note = PngInfo()
    layout = {"height": side, "width": side, "labels": labels or [[0, 1, 2]] * draws, "class_names": names}
    note.add_text("cfgbench", json.dumps(layout))
    path.parent.mkdir(exist_ok=True)
    Image.fromarray(pixels).save(path, pnginfo=note)


@pytest.fixture
def folder(tmp_path, table1):
    """Images of each cell; their shade is 100 p_uncond + w * 20."""
    for _, row in table1.iterrows():
        save(tmp_path / "samples" / f"{row['cell_id']}.png", 100 * row["p_uncond"] + 20 * row["w"])
    return tmp_path


def tile_shades(figure):
    """The grey in the middle of each tile of the drawn sheet, [rows, columns]."""
    (image,) = figure.axes[0].images
    pixels = np.asarray(image.get_array())[..., 0]
    step = 80 + 5
    return pixels[40::step, 40::step]


def test_sheet_is_classes_by_strength(folder, table1):
    (figure,) = samples(folder, slices(table1))
    ws = np.sort(table1["w"].unique())
    rows = np.array([0, 1, 10, 11, 20, 21])  # three classes, two draws of each
    expected = np.floor(10 + 20 * ws[None, :] + rows[:, None])  # p_uncond 0.1 has the best FID
    np.testing.assert_allclose(tile_shades(figure), expected, atol=1)
    texts = [text.get_text() for text in figure.axes[0].texts]
    assert texts[0] == "w 0"
    assert texts[3] == "FID 1.55\nIS 66.1"
    assert texts[-3:] == NAMES
    heading = heading_of(figure)
    for words in ("p_uncond 0.1", "FID and IS of 50,000 images, digits features", "scale = 1 + w"):
        assert words in heading
    assert heading.count("50,000 images") == 1  # so many are not on the sheet


def test_a_sheet_of_many_cells_shows_some_of_them(tmp_path, table1):
    """2,000 columns took 17 GB; now the best and an even choice of the others stand there, and how many there are."""
    first = table1[table1["p_uncond"] == 0.1].iloc[:1]
    rows = pd.concat([first] * 200, ignore_index=True)
    rows = rows.assign(w=np.arange(200.0), fid=2.0 + (np.arange(200) - 103) ** 2 / 100)
    rows["cell_id"] = [f"{number:012x}" for number in range(200)]
    for number, cell in enumerate(rows["cell_id"]):
        save(tmp_path / "samples" / f"{cell}.png", number)
    (figure,) = samples(tmp_path, slices(rows))
    shown = tile_shades(figure)[0]
    assert len(shown) == 24
    assert (shown[0], 103 in shown, shown[-1]) == (0, True, 199)
    assert np.diff(shown.astype(int)).max() < 12
    assert [text.get_text() for text in figure.axes[0].texts[:48:2]] == [f"w {w}" for w in shown]
    assert "24 of 200 cells" in heading_of(figure)
    (panels,) = samples(tmp_path, slices(rows), ImageChoice(ws=[77.0]))  # asked for, each is there
    assert "w = 77.0" in panels.axes[0].texts[0].get_text()


@pytest.mark.parametrize("mixed", [False, True])
@pytest.mark.parametrize("ws", [[0, 0.1875, 0.25, 1 / 3, 0.35], [-1.23456e-05, 0, 1e-5 / 3], [0, 0.25, 0.35, 1]])
def test_heads_of_columns_lie_beside_each_other_and_above_their_numbers(tmp_path, table1, ws, mixed):
    rows = table1.iloc[: len(ws)].assign(w=ws, fid=np.arange(1, 1 + len(ws)) * 1.23e-5)
    if mixed:
        rows = rows.assign(protocol=["clip on; fp32", *["clip on; bf16"] * (len(ws) - 1)])
    for cell in rows["cell_id"]:
        save(tmp_path / "samples" / f"{cell}.png", 100)
    (figure,) = samples(tmp_path, slices(rows, mixed=mixed))
    (axes,) = figure.axes
    heads = axes.texts[: 2 * len(ws)]
    assert heads[2].get_text().split("\n") == [f"w {ws[1]:g}", *["[b]"] * mixed]
    boxes = [text.get_window_extent() for text in [*heads, *figure.texts]]
    assert not any(one.overlaps(other) for n, one in enumerate(boxes) for other in boxes[:n])
    assert min(text.get_fontsize() for text in heads) >= 6


def test_a_pixel_of_an_image_is_a_whole_number_of_pixels_of_the_figure(folder, table1):
    (figure,) = samples(folder, slices(table1))
    (axes,) = figure.axes
    height, width = axes.images[0].get_array().shape[:2]
    np.testing.assert_allclose([axes.bbox.width, axes.bbox.height], [width, height], atol=0.01)


@pytest.mark.parametrize("choice", [ImageChoice(), ImageChoice(ws=[0.0, 1.0, 4.0])])
def test_the_png_holds_the_images_pixel_for_pixel(folder, table1, choice):
    (figure,) = samples(folder, slices(table1), choice)
    drawn = np.asarray(Image.open(io.BytesIO(png(figure))).convert("RGB"))
    for axes in figure.axes:
        wanted = np.asarray(axes.images[0].get_array())[..., :3]
        left, top = round(axes.bbox.x0), len(drawn) - round(axes.bbox.y1)
        np.testing.assert_array_equal(drawn[top:, left:][: wanted.shape[0], : wanted.shape[1]], wanted)


def test_cells_without_images_are_left_out(folder, table1):
    (folder / "samples" / "cell003.png").unlink()
    (figure,) = samples(folder, slices(table1))
    assert tile_shades(figure).shape == (6, 13)
    assert "w 0.3" not in [text.get_text() for text in figure.axes[0].texts]


def test_cells_with_other_tiles_are_left_out(folder, table1):
    save(folder / "samples" / "cell003.png", 0, labels=[[2, 1, 0]] * 2)
    (figure,) = samples(folder, slices(table1))
    assert tile_shades(figure).shape == (6, 13)
    assert "p_uncond 0.1, without 1 cell of other classes" in heading_of(figure)


def test_the_sheet_shows_the_classes_that_most_cells_show(folder, table1):
    of_one = table1[table1["p_uncond"] == 0.1].sort_values("w")["cell_id"]
    save(folder / "samples" / f"{of_one.iloc[0]}.png", 0, labels=[[2, 1, 0]] * 2)
    (figure,) = samples(folder, slices(table1))
    assert tile_shades(figure).shape == (6, 13)


def test_no_images(tmp_path, table1):
    with pytest.raises(NothingToPlot, match="samples"):
        samples(tmp_path, slices(table1))


def test_grey_and_colour_are_read(tmp_path):
    save(tmp_path / "a.png", 7)
    tiles = read_tiles(tmp_path / "a.png")
    assert tiles.images.shape == (2, 3, 8, 8, 3)
    assert tiles.images[1, 2].min() == tiles.images[1, 2].max() == 7 + 20 + 1
    assert tiles.labels.tolist() == [[0, 1, 2]] * 2


@pytest.mark.parametrize("damage", ["text", "no note", "truncated", "wrong size"])
def test_a_broken_file_is_named(tmp_path, damage):
    path = tmp_path / "broken.png"
    save(path, 0)
    if damage == "text":
        path.write_text("not a picture")
    elif damage == "no note":
        Image.new("L", (24, 16)).save(path)
    elif damage == "truncated":
        path.write_bytes(path.read_bytes()[:-40])
    else:
        save(path, 0, labels=[[0, 1]] * 2)
    with pytest.raises(UserError, match=r"broken\.png"):
        read_tiles(path)


def test_images_of_a_model_of_unknown_p_uncond(folder, table1):
    rows = table1[table1["p_uncond"] == 0.1].assign(p_uncond=None)
    (figure,) = samples(folder, slices(rows))
    assert tile_shades(figure).shape == (6, 14)
    assert "p_uncond not stated" in title_of(figure)


def test_along_a_row_of_several_seeds_stand_images_of_one(tmp_path, table1):
    rows = table1[table1["p_uncond"] == 0.1]
    both = [rows.assign(seed=seed, cell_id=rows["cell_id"] + f"-{seed}", fid=rows["fid"] + seed) for seed in (0, 1)]
    for seed, of_seed in enumerate(both):
        for cell_id in of_seed["cell_id"][: 13 + seed]:  # seed 0 has no images at w 4
            save(tmp_path / "samples" / f"{cell_id}.png", 100 * seed)
    (figure,) = samples(tmp_path, slices(pd.concat(both, ignore_index=True)))
    np.testing.assert_array_equal(tile_shades(figure)[0], [100] * 14)
    assert figure.axes[0].texts[1].get_text() == "FID 2.30\nIS 53.7"
    assert "images of one seed, numbers are means" in heading_of(figure)


def panels_of(figure):
    """[(caption, shades [rows, columns])] of the panels; tiles are 136 pixels wide here, or 80."""
    found = []
    for axes in figure.axes:
        pixels = np.asarray(axes.images[0].get_array())[..., 0]
        step = 136 + 5
        found.append((axes.texts[0].get_text().replace("\n", " "), pixels[68::step, 68::step]))
    return found


def test_chosen_w_have_panels_with_the_same_images_at_the_same_place(folder, table1):
    (figure,) = samples(folder, slices(table1), ImageChoice(("two", "0"), (1.0, 0.0, 3.0)))
    found = panels_of(figure)
    assert [caption for caption, _ in found] == [
        "(a) w = 1.0: FID=12.60, IS=170.10",
        "(b) w = 0.0: FID=1.80, IS=53.71",
        "(c) w = 3.0: FID=24.83, IS=250.40",
    ]
    for (_, shades), w in zip(found, (1, 0, 3), strict=True):
        np.testing.assert_allclose(shades, 10 + 20 * w + np.array([[20, 0], [21, 1]]), atol=1)
    heading = heading_of(figure)
    for words in (
        "the same seeds at w 1, 0 and 3 (p_uncond 0.1)",
        "classes, left to right: two, zero",
        "50,000 images",
    ):
        assert words in heading


@pytest.mark.parametrize("choice", [ImageChoice(), ImageChoice(ws=(0.0, 0.1))])
def test_the_marks_of_images_are_explained_and_are_their_only_letters(tmp_path, table1, choice):
    first = table1[table1["p_uncond"] == 0.1].assign(protocol="clip on; fp32", protocol_id="1")
    second = first.assign(protocol=f"clip off; fp32; {'long ' * 30}", protocol_id="2", cell_id=first["cell_id"] + "-2")
    for cell in [*first["cell_id"], *second["cell_id"]]:
        save(tmp_path / "samples" / f"{cell}.png", 100)
    (figure,) = samples(tmp_path, slices(pd.concat([first, second], ignore_index=True), mixed=True), choice)
    title, subtitle = (" ".join(text.get_text().replace("\n", " ").split()) for text in figure.texts)
    assert "[a] clip on · [b] clip off; long" in subtitle
    assert "long [...]" in subtitle
    if choice.ws:
        assert [caption[:12] for caption, _ in panels_of(figure)] == [
            f"w = {w} [{m}]:" for w in (0.0, 0.1) for m in "ab"
        ]
        assert "at w 0 and 0.1 (p_uncond 0.1)" in title


def test_captions_lie_below_their_panels_and_beside_each_other(folder, table1):
    (figure,) = samples(folder, slices(table1), ImageChoice((), (0.0, 0.1, 0.2, 0.3, 4.0)))
    figure.draw_without_rendering()
    boxes = [axes.texts[0].get_window_extent() for axes in figure.axes] + [axes.bbox for axes in figure.axes]
    assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])
    assert all(box.x0 >= 0 and box.x1 <= figure.bbox.x1 and box.y0 >= 0 for box in boxes)
    height, width = figure.axes[0].images[0].get_array().shape[:2]
    np.testing.assert_allclose([figure.axes[3].bbox.width, figure.axes[3].bbox.height], [width, height], atol=0.01)


def test_classes_whose_names_have_commas_are_told_apart(tmp_path, table1):
    rows = table1[table1["p_uncond"] == 0.1]
    for number, cell in enumerate(rows["cell_id"]):
        save(tmp_path / "samples" / f"{cell}.png", number, names=["tench, Tinca tinca", "zero", "two"])
    (figure,) = samples(tmp_path, slices(rows), ImageChoice(ws=(0.0, 1.0)))
    assert "classes, left to right: tench, Tinca tinca; zero; two" in heading_of(figure)


def test_chosen_classes_are_the_rows_of_the_sheet(folder, table1):
    (figure,) = samples(folder, slices(table1), ImageChoice(("TWO", "zero")))
    assert tile_shades(figure).shape == (4, 14)
    assert [text.get_text() for text in figure.axes[0].texts[-2:]] == ["two", "zero"]
    np.testing.assert_allclose(tile_shades(figure)[:, 0], [30, 31, 10, 11], atol=1)


def test_classes_of_one_name_are_two_classes(tmp_path, table1):
    for cell in table1["cell_id"]:
        save(tmp_path / "samples" / f"{cell}.png", 100, names=["crane", "crane", "two"])
    (figure,) = samples(tmp_path, slices(table1))
    assert [text.get_text() for text in figure.axes[0].texts[28:]] == ["crane (0)", "crane (1)", "two"]


def test_a_class_goes_by_any_of_its_names(tmp_path):
    save(tmp_path / "a.png", 7)
    tiles = replace(
        read_tiles(tmp_path / "a.png"), class_names=("tench, Tinca tinca", "malamute, Alaskan malamute", "2")
    )
    assert find_classes(tiles, ["alaskan Malamute", "0", "malamute"]) == [1, 0]
    assert find_classes(tiles, ["2"]) == [2]
    assert places(tiles, 1, 5) == [(0, 1), (1, 1)]
    with pytest.raises(
        UserError, match=r"--classes mala: no such class; there are images of tench, Tinca tinca \(0\), "
    ):
        find_classes(tiles, ["mala"])


def test_classes_whose_names_begin_alike_are_told_apart(tmp_path):
    save(tmp_path / "a.png", 7)
    long = "a very long class name that goes on and on, "
    tiles = replace(read_tiles(tmp_path / "a.png"), class_names=(f"{long}Texas", f"{long}France", "Paris"))
    assert find_classes(tiles, [f"{long}France"]) == [1]
    assert find_classes(tiles, ["France", "a very long class name that goes on and on"]) == [1, 0]
    first, second, third = drawn_names(tiles, [0, 1, 2])
    assert (first, second, third) == (f"{long[:39]}… (0)", f"{long[:39]}… (1)", "Paris")
    assert drawn_names(tiles, [1, 2]) == [f"{long[:39]}…", "Paris"]
    both = replace(tiles, class_names=("Paris, Texas", "Paris, France", "Paris"))
    assert find_classes(both, ["Paris"]) == [2]  # it could not be had alone otherwise
    assert find_classes(replace(both, class_names=both.class_names[:2]), ["Paris"]) == [0, 1]
    assert find_classes(replace(tiles, class_names=("crane", "lion", "crane")), ["crane"]) == [0, 2]


def test_a_class_without_images_is_told_from_none(tmp_path):
    save(tmp_path / "a.png", 7, labels=[[0, 1, 1]] * 2)
    tiles = read_tiles(tmp_path / "a.png")
    for text in ("two", "2"):
        with pytest.raises(
            UserError, match=f"--classes {text}: no images of that class were kept .*; there are images of "
        ):
            find_classes(tiles, [text])
    with pytest.raises(UserError, match=r"--classes 3: no such class; there are images of zero \(0\), one \(1\)"):
        find_classes(tiles, ["3"])


@pytest.mark.parametrize(
    ("w", "words"),
    [
        (0.35, "--w 0.35: not sampled; there are w 0, 0.1, "),
        (float("nan"), "--w nan: not sampled"),
        (0.3, "--w 0.3: there are no images of it at p_uncond 0.1; there are w 0, 0.1, 0.2, 0.4"),
    ],
)
def test_a_w_without_images_is_named_with_those_that_there_are(folder, table1, w, words):
    (folder / "samples" / "cell003.png").unlink()
    with pytest.raises(UserError, match=words):
        samples(folder, slices(table1), ImageChoice((), (0.0, w)))


def test_each_system_has_a_sheet_and_panels_at_the_w_that_it_has(folder, table1):
    scaling = table1.iloc[[1, 10]].assign(guidance="score-scale", cell_id=["s1", "s2"])
    low = table1.iloc[[0, 0]].assign(temperature=[0.9, 0.98], cell_id=["t1", "t2"])
    for number, cell in enumerate(("s1", "s2", "t1", "t2")):
        save(folder / "samples" / f"{cell}.png", 100 + 20 * number)
    parts = slices(pd.concat([table1, scaling, low], ignore_index=True))
    figures = {title_of(figure): figure for figure in samples(folder, parts)}
    assert list(figures) == [
        "digits, classifier-free guidance: the same noise under growing guidance (p_uncond 0.1)",
        "digits, score scaling: the same noise under growing guidance (p_uncond 0.1)",
        "digits, low temperature: the same noise at lower and lower temperature (p_uncond 0.1)",
    ]
    shades = [tile_shades(figure)[0] for figure in figures.values()]
    np.testing.assert_allclose(shades[1], [10, 100, 120], atol=1)  # the unguided images come first
    np.testing.assert_allclose(shades[2], [10, 160, 140], atol=1)
    heads = [text.get_text() for text in figures[next(reversed(figures))].axes[0].texts]
    assert heads[::2][:3] == ["τ 1", "τ 0.98", "τ 0.9"]
    hot = slices(pd.concat([table1, low.assign(temperature=[1.5, 1.25])], ignore_index=True))
    figure = samples(folder, hot)[-1]
    title = "digits, high temperature: the same noise at higher and higher temperature (p_uncond 0.1)"
    assert title_of(figure) == title
    assert [text.get_text() for text in figure.axes[0].texts][:6:2] == ["τ 1", "τ 1.25", "τ 1.5"]
    guided, scaled = samples(folder, parts, ImageChoice((), (1.0, 4.0)))
    assert [len(figure.axes) for figure in (guided, scaled)] == [2, 1]
    assert "score scaling: the same seeds at w 1 " in title_of(scaled)
    (alone,) = samples(folder, parts, ImageChoice((), (0.0, 4.0)))  # score scaling has the unguided one only, lent
    assert "classifier-free guidance: the same seeds at w 0 and 4 " in title_of(alone)


def test_a_cell_without_one_of_the_metrics_has_no_number_of_it(folder, table1):
    rows = table1.assign(is_mean=table1["is_mean"].where(table1["w"] > 0))
    (sheet,) = samples(folder, slices(rows))
    heads = [text.get_text() for text in sheet.axes[0].texts]
    assert heads[1] == "FID 1.80"
    assert heads[3] == "FID 1.55\nIS 66.1"
    (figure,) = samples(folder, slices(rows), ImageChoice((), (0.0, 4.0)))
    captions = [text.get_text().replace("\n", " ") for axes in figure.axes for text in axes.texts]
    assert captions == ["(a) w = 0.0: FID=1.80", "(b) w = 4.0: FID=26.22, IS=260.20"]


def test_unguided_images_that_the_lender_does_not_show_are_shown(folder, table1):
    """Classifier-free guidance is best, and seen, at another p_uncond than where it lends its unguided images."""
    lender = pd.concat([table1.query("p_uncond == 0.1 and w == 0"), table1.query("p_uncond == 0.2 and w > 0")])
    other = table1.query("p_uncond == 0.1 and w == 1").assign(guidance="classifier", cell_id="c", classifier_id="c")
    save(folder / "samples" / "c.png", 100)
    parts = slices(pd.concat([lender, other], ignore_index=True))
    (figure,) = samples(folder, parts, ImageChoice((), (0.0,)))
    assert "classifier guidance: the same seeds at w 0 " in title_of(figure)
