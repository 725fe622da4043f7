import json

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from cfgbench.errors import UserError
from cfgbench.report.plots import NothingToPlot
from cfgbench.report.samples import read_tiles, samples
from cfgbench.report.slices import slices

NAMES = ["zero", "one", "two"]


def save(path, shade, *, draws=2, side=8, labels=None):
    """Tiles of one grey each: shade + 10 * class + draw."""
    grid = shade + 10 * np.arange(3)[None, :] + np.arange(draws)[:, None]
    pixels = grid.repeat(side, axis=0).repeat(side, axis=1).astype(np.uint8)
    note = PngInfo()
    layout = {"height": side, "width": side, "labels": labels or [[0, 1, 2]] * draws, "class_names": NAMES}
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
    heading = " ".join(text.get_text() for text in figure.texts)
    for words in ("p_uncond 0.1", "digits features", "50,000 images", "scale = 1 + w"):
        assert words in heading


def test_a_pixel_of_an_image_is_a_whole_number_of_pixels_of_the_figure(folder, table1):
    (figure,) = samples(folder, slices(table1))
    (axes,) = figure.axes
    height, width = axes.images[0].get_array().shape[:2]
    np.testing.assert_allclose([axes.bbox.width, axes.bbox.height], [width, height], atol=0.01)


def test_cells_without_images_are_left_out(folder, table1):
    (folder / "samples" / "cell003.png").unlink()
    (figure,) = samples(folder, slices(table1))
    assert tile_shades(figure).shape == (6, 13)
    assert "w 0.3" not in [text.get_text() for text in figure.axes[0].texts]


def test_cells_with_other_tiles_are_left_out(folder, table1):
    save(folder / "samples" / "cell003.png", 0, labels=[[2, 1, 0]] * 2)
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
    assert "p_uncond not stated" in figure.texts[0].get_text()


def test_along_a_row_of_several_seeds_stand_images_of_one(tmp_path, table1):
    rows = table1[table1["p_uncond"] == 0.1]
    both = [rows.assign(seed=seed, cell_id=rows["cell_id"] + f"-{seed}", fid=rows["fid"] + seed) for seed in (0, 1)]
    for seed, of_seed in enumerate(both):
        for cell_id in of_seed["cell_id"][: 13 + seed]:  # seed 0 has no images at w 4
            save(tmp_path / "samples" / f"{cell_id}.png", 100 * seed)
    (figure,) = samples(tmp_path, slices(pd.concat(both, ignore_index=True)))
    np.testing.assert_array_equal(tile_shades(figure)[0], [100] * 14)
    assert figure.axes[0].texts[1].get_text() == "FID 2.3\nIS 53.7"
    assert "images of one seed, numbers are means" in " ".join(text.get_text() for text in figure.texts)
