import gzip
import re
import shutil
import struct
import subprocess
import sys
import unicodedata
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from cfgbench import data
from cfgbench.data import digits as where
from cfgbench.data import folder as folders
from cfgbench.data.fashion_mnist import DEBIAN
from cfgbench.errors import UserError
from cfgbench.spec import Dataset

TINY = Path(__file__).parents[3] / "shared" / "data" / "tiny-imagenet-50.zip"


def picture(path, side=8, mode="RGB", value=100):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, (side, side), value if mode == "L" else (value, 0, 255)).save(path)


@pytest.fixture
def folder(tmp_path):
    root = tmp_path / "photos"
    for number in range(3):
        picture(root / "cat" / f"{number}.png", value=number)
        picture(root / "dog" / f"{number}.jpg", value=200 + number)
    (root / "dog" / "notes.txt").write_text("not an image, and not named like one")
    return root


def zipped(root, path, extra=()):
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(root.rglob("*.*")):
            archive.write(file, file.relative_to(root))
        for name, content in extra:
            archive.writestr(name, content)
    return path


LOADED = """
import sys
from cfgbench import data
from cfgbench.spec import Dataset
print(data.load(Dataset(name="folder", path=sys.argv[1], limit=int(sys.argv[2]))).images.shape)
"""


def test_images_are_in_memory_once(tmp_path, peak):
    """94 MB of them, the last coloured: all that came before are then made so."""
    for number in range(2000):
        picture(tmp_path / "photos" / "ab"[number % 2] / f"{number:04}.png", 125, "RGB" if number == 1999 else "L")
    (few, least), (all_of_them, most) = (peak(LOADED, str(tmp_path / "photos"), count) for count in ("4", "2000"))
    assert (few, all_of_them) == ("(4, 1, 125, 125)", "(2000, 3, 125, 125)")
    assert most - least < 1.5 * 94, (least, most)


def load(path, **keys):
    return data.load(Dataset(name="folder", path=path, **keys))


@pytest.mark.parametrize("file", [where.FILE, "datasets/elsewhere.csv"])
def test_digits_are_scikit_learns_scans_in_bytes(file, monkeypatch):
    monkeypatch.setattr(where, "FILE", file)
    monkeypatch.setattr(where, "_scans", where._scans.__wrapped__)  # as in a program that has not read them yet
    digits, scans = data.load(Dataset(name="digits")), load_digits()
    assert digits.images.shape == (1797, 1, 8, 8)
    assert (digits.images.min(), digits.images.max()) == (0, 255)
    np.testing.assert_array_equal(digits.images[:, 0], np.rint(scans.images / 16 * 255))
    np.testing.assert_array_equal(digits.labels, scans.target)
    assert digits.labels.dtype == np.int64
    assert not digits.flips


def test_digits_are_read_without_loading_scikit_learn():
    program = (
        "import sys; from cfgbench import data; from cfgbench.spec import Dataset; data.load(Dataset(name='digits')); "
        "assert not [name for name in sys.modules if name.startswith('sklearn')]"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_a_folder_and_its_zip_hold_the_same_images(folder, tmp_path):
    a, b = load(folder), load(zipped(folder, tmp_path / "photos.zip"))
    assert a.class_names == ("cat", "dog")
    assert a.images.shape == (6, 3, 8, 8)
    assert a.labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert a.images[1, :, 0, 0].tolist() == [1, 0, 255]
    assert a.content == b.content
    assert a.flips
    assert not load(folder, flip=False).flips


def test_the_content_hash_sees_a_single_pixel_and_a_class_name(folder):
    before = load(folder).content
    picture(folder / "cat" / "0.png", value=77)
    after = load(folder).content
    (folder / "cat").rename(folder / "bat")
    assert len({before, after, load(folder).content}) == 3


def test_files_that_were_passed_over_are_counted(folder, tmp_path):
    """The folder has notes.txt among its dogs."""
    before = load(folder)
    (folder / "classes.tsv").write_text("cat\tcat\n")
    (folder / "cat" / ".DS_Store").write_bytes(b"hidden")
    assert (before.ignored, load(folder).ignored, load(folder, classes=["cat"]).ignored) == (1, 1, 0)
    picture(folder / "cat" / "more" / "3.webp")
    picture(folder / "loose.png")
    (folder / "licence.txt").write_text("of the images")
    after = load(folder)
    assert (after.ignored, load(folder, classes=["cat"], limit=1).ignored) == (4, 3)
    assert load(zipped(folder, tmp_path / "photos.zip")).ignored == 4
    assert after.content == before.content


def test_of_a_split_what_lies_in_it_or_is_an_image_above_is_counted(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "top" / "train")
    shutil.copytree(folder, tmp_path / "top" / "val")
    (tmp_path / "top" / "words.txt").write_text("of all classes")
    assert load(tmp_path / "top", split="train").ignored == 1
    picture(tmp_path / "top" / "loose.png")
    picture(tmp_path / "top" / "train" / "loose.png")
    picture(tmp_path / "top" / "val" / "loose.png")
    assert load(tmp_path / "top", split="train").ignored == 3
    (tmp_path / "outer").mkdir()
    (tmp_path / "top").rename(tmp_path / "outer" / "inner")
    picture(tmp_path / "outer" / "loose.png")
    assert load(tmp_path / "outer", split="inner/train").ignored == 4


@pytest.mark.parametrize(
    ("images", "labels", "said"),
    [
        (np.zeros((2, 1, 8, 8)), np.arange(2), "images (2, 1, 8, 8) of float64; they are [n, ch, h, w] of uint8"),
        (np.zeros((2, 8, 8), np.uint8), np.arange(2), "images (2, 8, 8) of uint8; they are [n, ch, h, w] of uint8"),
        (None, np.arange(2, dtype=np.int32), "labels (2,) of int32; they are (2,) of int64"),
        (None, np.arange(3), "labels (3,) of int64; they are (2,) of int64"),
        (None, np.array([0, 2]), "label 2; those of 2 classes are 0 to 1"),
        (None, np.array([-1, 1]), "label -1; those of 2 classes are 0 to 1"),
    ],
)
def test_arrays_that_are_no_images_with_labels(images, labels, said):
    images = np.zeros((2, 1, 8, 8), np.uint8) if images is None else images
    with pytest.raises(ValueError, match=f"^{re.escape(said)}$"):
        data.Images("some", images, labels, ("a", "b"), flips=False)


def test_grey_stays_one_channel_until_a_colour_image_joins(tmp_path):
    picture(tmp_path / "a" / "0.png", mode="L")
    assert load(tmp_path).images.shape == (1, 1, 8, 8)
    picture(tmp_path / "a" / "1.png")
    assert load(tmp_path).images.shape == (2, 3, 8, 8)


def test_resolution_averages_areas_of_the_middle_square(tmp_path):
    pixels = np.zeros((4, 8), np.uint8)
    pixels[:, 2:4], pixels[:, 4:6] = 100, 200
    pixels[::2] //= 2
    (tmp_path / "a").mkdir()
    Image.fromarray(pixels).save(tmp_path / "a" / "0.png")
    assert load(tmp_path, resolution=2).images[0, 0].tolist() == [[75, 150], [75, 150]]


def test_a_mean_of_one_half_is_rounded_alike_however_it_is_summed(tmp_path):
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (384, 384), dtype=np.uint8)
    (tmp_path / "a").mkdir()
    Image.fromarray(pixels).save(tmp_path / "a" / "0.png")
    sums = pixels.reshape(64, 6, 64, 6).sum((1, 3), dtype=np.int64)
    assert (sums % 36 == 18).sum() > 50
    assert np.array_equal(load(tmp_path, resolution=64).images[0, 0], np.rint(sums / 36))


def test_a_palette_of_greys_is_grey(tmp_path):
    for number, colours in enumerate((False, False, True)):
        (tmp_path / str(number) / "a").mkdir(parents=True)
        image = Image.new("L", (8, 8), 77)
        image.paste(200, (0, 0, 4, 4))
        image.save(tmp_path / str(number) / "a" / "0.png")
        image = image.quantize() if not colours else Image.new("RGB", (8, 8), (1, 2, 3)).quantize()
        image.save(tmp_path / str(number) / "a" / "1.png")
    assert load(tmp_path / "0").images.shape == (2, 1, 8, 8)
    assert np.ptp(load(tmp_path / "0").images, axis=0).max() == 0
    assert load(tmp_path / "2").images.shape == (2, 3, 8, 8)


def test_a_table_of_names_counts_where_a_zip_holds_a_folder_too(folder, tmp_path):
    (folder / "classes.tsv").write_text("cat\tkitten\n")
    shutil.copytree(folder, tmp_path / "outer" / "photos")
    direct, below = load(folder), load(tmp_path / "outer", split="photos")
    inside = load(zipped(tmp_path / "outer", tmp_path / "outer.zip"), split="photos")
    assert direct.class_names == below.class_names == inside.class_names == ("kitten", "dog")
    assert direct.content == below.content == inside.content
    assert direct.ignored == below.ignored == inside.ignored == 1
    (tmp_path / "outer" / "classes.tsv").write_text("cat\ttiger\n")
    assert load(tmp_path / "outer", split="photos").class_names == ("kitten", "dog")
    (tmp_path / "outer" / "photos" / "classes.tsv").unlink()
    assert load(tmp_path / "outer", split="photos").class_names == ("tiger", "dog")


@pytest.mark.parametrize(("seconds", "told"), [(0.0, 7), (1e9, 0)])
def test_images_that_take_long_to_read_have_progress(folder, monkeypatch, seconds, told):
    monkeypatch.setattr(folders, "SECONDS_OF_SILENCE", seconds)
    seen = []
    data.load(Dataset(name="folder", path=folder), lambda *one: seen.append(one[1:]))
    assert seen == [(place, 6, "") for place in range(told)]


def test_grey_of_sixteen_bits_is_the_same_grey(tmp_path):
    pixels = np.arange(256, dtype=np.uint16).reshape(16, 16)
    for folder, image in (("8", pixels.astype(np.uint8)), ("16", pixels * 257)):
        (tmp_path / folder / "a").mkdir(parents=True)
        Image.fromarray(image).save(tmp_path / folder / "a" / "0.png")
    eight, sixteen = (data.load(Dataset(name="folder", path=tmp_path / folder)).images for folder in ("8", "16"))
    assert np.array_equal(eight, sixteen)
    assert np.array_equal(eight[0, 0], pixels)
    Image.fromarray(pixels * 257).save(tmp_path / "16" / "a" / "0.png", transparency=7 * 257)
    with pytest.raises(UserError, match=r"0\.png: has transparent pixels"):
        load(tmp_path / "16")


def test_split_classes_and_limit(folder, tmp_path):
    top = tmp_path / "top"
    top.mkdir()
    folder.rename(top / "train")
    found = load(top, split="train", classes=["dog"], limit=2)
    assert (found.class_names, len(found.images)) == (("dog",), 2)
    assert load(top, split="train", limit=3).labels.tolist() == [0, 0, 1]
    assert load(top, split="train", classes=1).class_names == ("cat",)


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"classes": ["cow"]}, "dataset.classes = cow: no such class; there are cat, dog"),
        ({"classes": 3}, "dataset.classes = 3: there are only 2"),
        ({"limit": 1}, "dataset.limit = 1: 2 classes need"),
        ({"split": "test"}, "dataset.split = test: not in .*; it has cat, dog$"),
        ({"split": "cat/test"}, "dataset.split = cat/test: not in .*/cat; it has no folders$"),
        ({"split": "cat"}, "dataset.split = cat: in .*: no class; it needs one sub-folder of images per class$"),
        ({"split": "cat/../.."}, r"dataset.split = cat/\.\./\.\.: should be a folder in dataset.path, such as train$"),
        ({"split": "/cat"}, "dataset.split = /cat: should be a folder in dataset.path, such as train$"),
    ],
)
def test_choices_that_cannot_be_met(folder, tmp_path, keys, said):
    for place in (folder, zipped(folder, tmp_path / "photos.zip")):
        with pytest.raises(UserError, match=said):
            load(place, **keys)


def test_broken_content_names_the_file(folder, tmp_path):
    (folder / "cat" / "9.png").write_text("just text")
    with pytest.raises(UserError, match=r"cat/9\.png: cannot be read as an image \(not a PNG or JPEG\)"):
        load(folder)
    picture(folder / "cat" / "9.png", side=64)
    whole = (folder / "cat" / "9.png").read_bytes()
    (folder / "cat" / "9.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match=r"cat/9\.png"):
        load(folder)
    (folder / "cat" / "9.png").write_bytes(whole)
    with pytest.raises(
        UserError, match=r"cat/9\.png: 64 x 64 pixels, where cat/0\.png has 8 x 8; set dataset\.resolution"
    ):
        load(folder)


def test_a_link_that_leads_nowhere_is_named(folder):
    (folder / "cat" / "9.png").symlink_to("unmounted.png")
    with pytest.raises(UserError, match=r"cat/9\.png: cannot be read as an image"):
        load(folder)


def test_a_class_may_be_called_by_a_number_and_images_be_oblong(folder):
    (folder / "cat").rename(folder / "1")
    assert load(folder, classes=[1]).class_names == ("1",)
    for path in folder.rglob("*.*g"):
        Image.new("RGB", (24, 20)).save(path)
    with pytest.raises(UserError, match=r"1/0\.png: 24 x 20 pixels, not square; set dataset\.resolution"):
        load(folder)


def test_an_empty_class_and_no_class(folder, tmp_path):
    (folder / "emu").mkdir()
    with zipfile.ZipFile(tmp_path / "packed.zip", "w") as archive:
        for path in sorted(folder.rglob("*")):
            archive.write(path, path.relative_to(folder.parent))
    for place, split in ((folder, None), (tmp_path / "packed.zip", folder.name)):
        with pytest.raises(UserError, match="class emu has no images"):
            load(place, split=split)
    (tmp_path / "none").mkdir()
    with pytest.raises(UserError, match="no class"):
        load(tmp_path / "none")
    with pytest.raises(UserError, match="no such file or folder"):
        load(tmp_path / "absent")


@pytest.mark.parametrize(
    ("below", "said"),
    [
        (["a"], r"a: taken for classes .* \(cat, dog\); if these are the classes, set dataset\.split: a"),
        (["train", "Val"], r"Val, train: taken for classes .*, set dataset\.split: "),
    ],
)
def test_folders_of_classes_are_not_taken_for_classes(folder, tmp_path, below, said):
    for name in below:
        shutil.copytree(folder, tmp_path / "deeper" / name)
    with pytest.raises(UserError, match=said):
        load(tmp_path / "deeper")
    with pytest.raises(UserError, match=r"set dataset\.split"):
        load(zipped(tmp_path / "deeper", tmp_path / "deeper.zip"))
    assert load(tmp_path / "deeper", split=below[0]).class_names == ("cat", "dog")
    shutil.copytree(tmp_path / "deeper", tmp_path / "deepest" / "x")
    with pytest.raises(UserError, match=rf"set dataset\.split: x/({'|'.join(below)})$"):
        load(tmp_path / "deepest", split="x")
    packed = zipped(tmp_path / "deepest", tmp_path / "deepest.zip")
    for place in (tmp_path / "deepest", packed):
        assert load(place, split=f"x/{below[0]}/").content == load(folder).content


def test_the_folder_that_holds_all_classes_is_found_however_deep_and_rather_train_than_test(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "one" / "photos" / "train")
    for place in (tmp_path / "one", zipped(tmp_path / "one", tmp_path / "one.zip")):
        with pytest.raises(UserError, match=r"photos: taken for classes .*, set dataset\.split: photos/train$"):
            load(place)
    for split in ("extra", "test", "train"):
        shutil.copytree(folder, tmp_path / "several" / split)
        if split != "train":
            (tmp_path / "several" / split / "cat" / "0.png").unlink()
    with pytest.raises(UserError, match=r"set dataset\.split: train$"):
        load(tmp_path / "several")


@pytest.mark.parametrize("split", [None, "train"])
def test_folders_whose_labels_are_in_a_file_are_no_classes(folder, tmp_path, split):
    shutil.copytree(folder, tmp_path / "train")
    (tmp_path / "train" / "dataset.json").write_text('{"labels": [["cat/0.png", 1]]}')
    with pytest.raises(UserError, match=r"dataset\.json keeps the labels, .*; sort the images into one folder a class"):
        load(tmp_path / "train" if split is None else tmp_path, split=split)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_what_nobody_sees_is_not_taken_for_an_image(folder, mode):
    glyph = Image.new("RGBA", (8, 8), (0, 0, 0, 255))
    path = folder / "cat" / "0.png"
    glyph.convert(mode).save(path)
    load(folder, resolution=8)
    glyph.putpixel((3, 3), (0, 0, 0, 0))
    glyph.convert(mode).save(path, **({"transparency": 0} if mode == "P" else {}))
    with pytest.raises(UserError, match=r"cat/0\.png: has transparent pixels; lay it on a background of one colour"):
        load(folder, resolution=8)


def test_names_of_a_mac_are_those_that_are_typed(folder, tmp_path):
    for name, letters in (("cat", "cafe\u0301"), ("dog", "naif")):
        shutil.copytree(folder / name, tmp_path / "mac" / letters)
    assert load(tmp_path / "mac").class_names == ("caf\u00e9", "naif")
    for typed in ("caf\u00e9", "cafe\u0301"):
        assert load(tmp_path / "mac", classes=[typed]).class_names == ("caf\u00e9",)
    shutil.copytree(tmp_path / "mac", tmp_path / "outer" / "e\u0301te\u0301")
    with pytest.raises(UserError, match=re.escape("set dataset.split: \u00e9t\u00e9")):
        load(tmp_path / "outer")
    assert load(tmp_path / "outer", split="\u00e9t\u00e9").content == load(tmp_path / "mac").content
    (tmp_path / "mac" / "classes.tsv").write_text("caf\u00e9\tcoffee\n", encoding="utf-8")
    found = load(zipped(tmp_path / "mac", tmp_path / "mac.zip"))
    assert (found.class_names, found.ignored) == (("coffee", "naif"), load(folder).ignored)


def test_a_macs_copy_of_a_folder_is_the_same_data_set(folder, tmp_path):
    for name, form in (("typed", "NFC"), ("mac", "NFD")):
        (tmp_path / name / "a").mkdir(parents=True)
        for file, called in (("0", "\u00e9"), ("1", "f"), ("2", "z")):
            shutil.copy(
                folder / "cat" / f"{file}.png", tmp_path / name / "a" / unicodedata.normalize(form, f"{called}.png")
            )
    typed, mac = (load(tmp_path / name) for name in ("typed", "mac"))
    assert typed.content == mac.content
    assert not np.array_equal(typed.images[0], typed.images[2])


def test_a_zip_whose_names_begin_with_a_dot_holds_the_same_images(folder, tmp_path):
    """As tar writes them."""
    path = tmp_path / "dotted.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("./", "")
        archive.writestr("./train/", "")
        for file in sorted(folder.rglob("*.*")):
            archive.writestr(f"./train/{file.relative_to(folder)}", file.read_bytes())
    assert load(path, split="train").content == load(folder).content
    with pytest.raises(UserError, match=r"set dataset\.split: train"):
        load(path)


def test_images_of_a_class_may_lie_deeper(folder, tmp_path):
    for name in ("cat", "dog"):
        for year in ("2019", "2020"):
            shutil.copytree(folder / name, tmp_path / "years" / name / year)
        shutil.copytree(folder / name, tmp_path / "tiny" / "train" / name / "images")
        shutil.copytree(folder / "cat", tmp_path / "only" / "cat" / "images" / name)
        shutil.copytree(folder / "cat", tmp_path / "some" / "train" / name)
    assert load(tmp_path / "years").labels.tolist() == [0] * 6 + [1] * 6
    shutil.copytree(folder / "cat", tmp_path / "only" / "cat" / "images", dirs_exist_ok=True)
    assert load(tmp_path / "only").class_names == ("cat",)
    shutil.copytree(folder / "cat", tmp_path / "some" / "test")  # without labels, as Kaggle's
    zipped(tmp_path / "some", tmp_path / "some.zip")
    for place in (tmp_path / "some", tmp_path / "some.zip"):
        said = (
            r"train: taken for classes they hold no images, but folders of them \(cat, dog\); .* dataset\.split: train"
        )
        with pytest.raises(UserError, match=said):
            load(place)
        assert load(place, split="train").class_names == ("cat", "dog")
    shutil.copytree(folder / "dog", tmp_path / "flat" / "train")
    shutil.copytree(folder / "cat", tmp_path / "flat" / "test")
    assert load(tmp_path / "flat").class_names == ("test", "train")
    assert load(tmp_path / "tiny", split="train").labels.tolist() == [0] * 3 + [1] * 3


def test_of_two_files_of_one_name_in_a_zip_the_later_one_counts(folder, tmp_path):
    zipped(folder, tmp_path / "photos.zip")
    with zipfile.ZipFile(tmp_path / "photos.zip", "a") as archive, pytest.warns(UserWarning, match="Duplicate name"):
        archive.write(folder / "cat" / "2.png", "cat/0.png")
    found = load(tmp_path / "photos.zip")
    assert found.labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert found.images[0].tolist() == found.images[2].tolist()


@pytest.mark.parametrize("name", ["../out/0.png", "/etc/0.png", "cat/../../0.png"])
def test_a_zip_that_climbs_out_is_refused(folder, tmp_path, name):
    with pytest.raises(UserError, match="climbs out"):
        load(zipped(folder, tmp_path / "bad.zip", [(name, b"x")]))


def test_a_cut_zip_is_refused(folder, tmp_path):
    path = zipped(folder, tmp_path / "cut.zip")
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(UserError, match="neither a folder nor a whole zip"):
        load(path)


def test_a_bomb_is_refused_before_it_is_unpacked(tmp_path):
    (tmp_path / "a").mkdir()
    Image.new("1", (20_000, 20_000)).save(tmp_path / "a" / "bomb.png")
    with pytest.raises(UserError, match=r"bomb\.png"):
        load(tmp_path)


def test_keys_that_a_data_set_does_not_use_are_refused():
    with pytest.raises(UserError, match=r"dataset\.resolution: the data set digits does not use it"):
        data.load(Dataset(name="digits", resolution=16))


def idx(path, array):
    head = struct.pack(f">{1 + array.ndim}i", 0x800 + array.ndim, *array.shape)
    path.write_bytes(gzip.compress(head + array.tobytes()))


@pytest.fixture
def fashion(tmp_path):
    rng = np.random.default_rng(0)
    idx(tmp_path / "train-images-idx3-ubyte.gz", rng.integers(0, 256, (20, 28, 28), dtype=np.uint8))
    idx(tmp_path / "train-labels-idx1-ubyte.gz", np.arange(20, dtype=np.uint8) % 10)
    return tmp_path


def test_fashion_mnist_reads_idx_and_pads_to_32(fashion):
    plain = data.load(Dataset(name="fashion-mnist", path=fashion))
    padded = data.load(Dataset(name="fashion-mnist", path=fashion, resolution=32))
    assert plain.images.shape == (20, 1, 28, 28)
    assert (padded.images[:, :, 2:-2, 2:-2] == plain.images).all()
    assert padded.images[:, :, :2].max() == 0


def test_fashion_mnist_absent_or_broken_says_what_to_do(fashion, tmp_path):
    with pytest.raises(UserError, match="apt-get install dataset-fashion-mnist"):
        data.load(Dataset(name="fashion-mnist", path=tmp_path / "nowhere"))
    file = fashion / "train-images-idx3-ubyte.gz"
    file.write_bytes(file.read_bytes()[:-200])
    with pytest.raises(UserError, match=r"or put the four files .* in a folder and name it"):
        data.load(Dataset(name="fashion-mnist", path=file))
    with pytest.raises(UserError, match=r"train-images-idx3-ubyte\.gz: not a whole IDX file"):
        data.load(Dataset(name="fashion-mnist", path=fashion))
    idx(file, np.zeros(5, np.uint8))
    with pytest.raises(UserError, match=r"train-images-idx3-ubyte\.gz"):
        data.load(Dataset(name="fashion-mnist", path=fashion))


@pytest.mark.skipif(not DEBIAN.exists(), reason="Debian's dataset-fashion-mnist is not installed")
def test_debians_fashion_mnist_is_found():
    found = data.load(Dataset(name="fashion-mnist"))
    assert np.bincount(found.labels).tolist() == [6000] * 10


@pytest.mark.skipif(not TINY.exists(), reason="the zip of photographs is not here")
def test_a_zip_of_real_photographs():
    found = data.load(Dataset(name="folder", path=TINY, split="train", classes=3, limit=30))
    assert found.images.shape == (30, 3, 64, 64)
    assert found.class_names[0] == "goldfish"


def test_only_words_of_a_table_are_cut_at_a_comma(tmp_path):
    for name in ("Paris, France", "Paris, Texas", "n02121808"):
        picture(tmp_path / name / "0.png")
    (tmp_path / "classes.tsv").write_text("n02121808\tdomestic cat, house cat\n")
    assert load(tmp_path).class_names == ("Paris, France", "Paris, Texas", "domestic cat")
    content = load(tmp_path).content
    (tmp_path / "classes.tsv").write_text("n02121808\tdomestic cat , house cat \n")
    assert load(tmp_path).content == content
    assert load(tmp_path, classes=["Paris, Texas"]).class_names == ("Paris, Texas",)


def test_a_table_from_a_spreadsheet_begins_with_a_mark(tmp_path):
    for name in ("a", "b"):
        picture(tmp_path / name / "0.png")
    (tmp_path / "classes.tsv").write_bytes("\ufeffa\tcat\r\nb\tdog\r\n".encode())
    assert load(tmp_path).class_names == ("cat", "dog")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("cat\tK\xe4tzchen\n".encode("latin-1"), "not UTF-8; save it as UTF-8, or remove it"),
        ("cat\tkitten\n".encode("utf-16"), "not UTF-8; save it as UTF-8, or remove it"),
        (b"cat kitten\ndog puppy\n", "names none of the classes; write folder, tab, words, such as 'cat'"),
        (b"cat\tkitten\ndog\t\n", r"line 2: 'dog\t': no name; write one behind the tab"),
        (b"cat\t , kitten\n", r"line 1: 'cat\t , kitten': no name; write one behind the tab"),
        (b"Cat\tkitten\n", "names none of the classes; write folder, tab, words, such as 'cat'"),
        (b"\n", "names none of the classes; write folder, tab, words, such as 'cat'"),
        (bytes((4 << 20) + 1), "cannot be read (larger than 4,194,304 bytes); replace or remove it"),
    ],
)
def test_a_table_that_cannot_be_used_is_refused(folder, tmp_path, content, said):
    (folder / "classes.tsv").write_bytes(content)
    for place in (folder, zipped(folder, tmp_path / "photos.zip")):
        with pytest.raises(UserError) as refused:
            load(place)
        assert str(refused.value) == f"{place}: classes.tsv: {said}"


def test_a_table_that_cannot_be_read_is_refused(folder, tmp_path):
    (folder / "classes.tsv").symlink_to("unmounted.tsv")
    with pytest.raises(UserError, match=r"classes\.tsv: cannot be read \(No such file or directory\); replace or rem"):
        load(folder)
    (folder / "classes.tsv").unlink()
    path = zipped(folder, tmp_path / "photos.zip", [("classes.tsv", "cat\tkitten\n")])
    path.write_bytes(path.read_bytes().replace(b"kitten", b"mitten"))
    with pytest.raises(UserError, match=r"classes\.tsv: cannot be read \(Bad CRC-32 .*\); replace or remove it"):
        load(path)


def test_a_table_may_name_some_of_the_classes_and_more_than_are_there(folder):
    (folder / "classes.tsv").write_text("# a remark\ndog\tpuppy\nemu\tbird\n\n")
    assert load(folder).class_names == ("cat", "puppy")
    assert load(folder, classes=["cat"]).class_names == ("cat",)


def test_data_without_commas_in_folders_names_keep_their_identity(tmp_path):
    """A hash from before folders kept their commas: results that there are stay those of their data."""
    for name in ("cat", "n02121808"):
        picture(tmp_path / name / "0.png")
    (tmp_path / "classes.tsv").write_text("n02121808\tdomestic cat, house cat\n")
    assert load(tmp_path).content == "d7a7f0f2a0a2789edadddf4268a48ab9fd39e7abfe5ce854e4dc9161059c178e"
