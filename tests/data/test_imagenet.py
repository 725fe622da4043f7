"""ImageNet's two layouts from real photographs: scikit-learn's two, cut into tiles."""

import fcntl
import io
import json
import os
import shutil
import subprocess
import sys
import threading
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from sklearn import datasets

from cfgbench import data, npz
from cfgbench.data import cache as preparing
from cfgbench.data import imagenet
from cfgbench.data.imagenet import adm, area, box
from cfgbench.errors import UserError
from cfgbench.spec import Dataset

TINY = Path(__file__).parents[3] / "shared" / "data" / "tiny-imagenet-50.zip"


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("CFGBENCH_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(scope="module")
def photos():
    """60 photographs of 64x64, [n, 3, 64, 64]."""
    sample = datasets.load_sample_images().images
    tiles = [
        photo[top : top + 64, left : left + 64]
        for photo in sample
        for top in range(0, 427 - 64, 64)
        for left in range(0, 640 - 64, 64)
    ]
    return np.stack(tiles[:60]).transpose(0, 3, 1, 2)


LABELS = np.array([7, 1, 1000] * 10)


@pytest.fixture
def batches(tmp_path, photos):
    """Two batch files in the published layout, and the validation file."""
    folder = tmp_path / "npz"
    folder.mkdir()
    flat = photos.reshape(60, -1)
    for number, part in ((1, flat[:30]), (2, flat[30:])):
        np.savez(folder / f"train_data_batch_{number}.npz", data=part, labels=LABELS, mean=flat.mean(axis=0))
    np.savez(folder / "val_data.npz", data=flat[5:15], labels=[7, 1] * 5)
    return folder


def load(path, name="imagenet64", progress=lambda *_: None, **keys):
    return data.load(Dataset(name=name, path=path, **keys), progress)


def test_batches_give_the_same_pixels_and_labels(batches, photos):
    images = load(batches)
    assert np.array_equal(images.images, photos)
    assert (images.name, load(batches, split="val").name) == ("imagenet64 (npz)", "imagenet64 (npz, val)")
    assert images.class_names == ("1", "7", "1000")
    assert images.labels.tolist() == [1, 0, 2] * 20
    assert images.flips
    assert isinstance(images.images, np.memmap)
    held_out = load(batches, split="val")
    assert np.array_equal(held_out.images, photos[5:15])
    assert held_out.class_names == ("1", "7")


def test_batches_are_read_in_the_order_of_their_numbers(batches, photos):
    flat = photos[:1].reshape(1, -1)
    for number in range(3, 11):
        np.savez(batches / f"train_data_batch_{number}.npz", data=flat // number, labels=[7])
    shutil.copy(batches / "train_data_batch_1.npz", batches / "train_data_batch_1 (1).npz")  # fetched once more
    images = load(batches)
    assert len(images.images) == 68
    assert np.array_equal(images.images[-8:], np.stack([photos[0] // number for number in range(3, 11)]))
    for number in (7, 1):
        (batches / f"train_data_batch_{number}.npz").unlink()
        with pytest.raises(UserError, match=rf"train_data_batch_{number}\.npz is missing, where others are; fetch it"):
            load(batches)
    assert len(load(batches, split="val").images) == 10


def test_each_choice_of_classes_is_prepared_by_itself(batches, photos, cache):
    for name, first in (("7", 0), ("1", 1), ("1000", 2)):
        images = load(batches, classes=[name])
        assert np.array_equal(images.images, photos[first::3])
    assert len({load(batches, classes=[name]).content for name in ("1", "7", "1000")}) == 3
    assert len(list(cache.iterdir())) == 3


def test_classes_and_limit_choose_from_the_batches(batches, photos):
    images = load(batches, classes=["7", "1000"], limit=6)
    assert images.class_names == ("7", "1000")
    assert np.array_equal(images.images, photos[[0, 2, 3, 5, 6, 8]])
    assert images.labels.tolist() == [0, 1] * 3


def test_batches_of_which_nothing_is_taken_are_not_read(batches, monkeypatch):
    honest, seen = npz.rows, []

    def rows(path, name, size):
        seen.append((path.name, name))
        return honest(path, name, size)

    monkeypatch.setattr(npz, "rows", rows)
    assert len(load(batches, limit=6).images) == 6
    assert [path for path, name in seen if name == "data"] == ["train_data_batch_1.npz"]


def test_the_content_is_what_it_would_be_in_memory(batches):
    images = load(batches)
    plain = data.Images("x", np.array(images.images), images.labels, images.class_names, flips=True)
    assert images.known_content == plain.content


def test_images_are_prepared_once_and_anew_when_the_source_changes(batches, photos, cache):
    seen = []
    load(batches, progress=lambda *words: seen.append(words))
    assert seen[-1][:3] == ("prepare imagenet64", 60, 60)
    seen.clear()
    load(batches, progress=lambda *words: seen.append(words))
    assert not seen
    assert len(list(cache.iterdir())) == 1
    np.savez(batches / "train_data_batch_2.npz", data=255 - photos[30:].reshape(30, -1), labels=LABELS)
    assert np.array_equal(load(batches).images[30:], 255 - photos[30:])
    assert len(list(cache.iterdir())) == 2


def test_a_process_killed_while_preparing_leaves_nothing_that_is_taken_for_whole(batches, photos, cache):
    code = f"""
import os, signal
from pathlib import Path
from cfgbench import data
from cfgbench.spec import Dataset
die = lambda task, done, total, note: done and os.kill(os.getpid(), signal.SIGKILL)
data.load(Dataset(name="imagenet64", path=Path({str(batches)!r})), die)
"""
    assert subprocess.run([sys.executable, "-c", code], env=os.environ, check=False).returncode == -9
    left = sorted(path.name.split("-")[0] for path in cache.iterdir())
    assert left == [".imagenet64", ".part"]  # a lock that nobody holds, and what is half done
    assert np.array_equal(load(batches).images, photos)
    (made,) = cache.iterdir()
    assert not made.name.startswith(".")


def test_a_cache_that_was_cut_is_named(batches, cache):
    load(batches)
    (made,) = cache.iterdir()
    (made / "images.npy").write_bytes((made / "images.npy").read_bytes()[:5000])
    with pytest.raises(UserError, match=r"imagenet64-.*: damaged .*delete it"):
        load(batches)


def without_numbers(path, array, shape=None):
    """An array's header alone, or that of another shape."""
    with path.open("wb") as file:
        facts = {"descr": np.lib.format.dtype_to_descr(array.dtype), "fortran_order": False}
        np.lib.format.write_array_header_1_0(file, facts | {"shape": shape or array.shape})


def piped(path):
    path.unlink()
    os.mkfifo(path)


@pytest.mark.parametrize("name", ["index.json", "images.npy", "labels.npy"])
@pytest.mark.parametrize("damage", [piped, lambda path: path.write_bytes(b"")])
def test_a_cache_without_one_of_its_files_is_named(batches, cache, name, damage):
    load(batches)
    (made,) = cache.iterdir()
    damage(made / name)
    with pytest.raises(UserError, match=rf"{made.name}: damaged .*delete it, and it is made again"):
        load(batches)


def test_pixels_that_were_changed_since_are_noticed_and_a_copy_is_looked_at_once(batches, photos, cache, monkeypatch):
    looked_at, honest = [], preparing.content_of
    monkeypatch.setattr(preparing, "content_of", lambda *given: (looked_at.append(1), honest(*given))[1])
    content = load(batches).content
    (made,) = cache.glob("imagenet64-*")
    path, written = made / "images.npy", (made / "images.npy").stat()
    for seconds in (0, 1000, 1000):  # as it was, as copied, and once more
        os.utime(path, (written.st_atime, written.st_mtime + seconds))
        assert load(batches).content == content
    assert len(looked_at) == 2  # when it was made, and when it was copied
    with path.open("r+b") as file:
        file.seek(-1000, os.SEEK_END)
        byte = file.read(1)
        file.seek(-1000, os.SEEK_END)
        file.write(bytes([byte[0] ^ 1]))
    with pytest.raises(UserError, match=r"damaged \(images.npy: other pixels than were written\); delete it"):
        load(batches)
    shutil.rmtree(made)
    assert np.array_equal(load(batches).images, photos)


def test_a_cache_of_an_earlier_version_is_looked_at_once(batches, cache, monkeypatch):
    load(batches)
    (index,) = cache.glob("imagenet64-*/index.json")
    index.write_text(
        json.dumps({key: value for key, value in json.loads(index.read_text()).items() if key != "written"})
    )
    looked_at, honest = [], preparing.content_of
    monkeypatch.setattr(preparing, "content_of", lambda *given: (looked_at.append(1), honest(*given))[1])
    for _ in range(2):
        load(batches)
    assert looked_at == [1]


def test_a_cache_that_lost_its_index_is_made_again(batches, photos, cache):
    before = load(batches)
    (made,) = cache.iterdir()
    (made / "index.json").unlink()
    again = load(batches)
    assert (again.known_content, np.array_equal(again.images, photos)) == (before.known_content, True)
    assert list(cache.iterdir()) == [made]


@pytest.mark.parametrize("index", ["[" * 200_000, "[" * 2000, "[]", "{}", '{"content": null}', '{"content": {"a": 1}}',
                                   '{"content": "x"}', "1" * 4000])  # fmt: skip
def test_a_cache_with_an_index_that_is_none_is_named(batches, cache, index):
    load(batches)
    (made,) = cache.iterdir()
    (made / "index.json").write_text(index)
    with pytest.raises(UserError, match=rf"{made.name}: damaged .*delete it, and it is made again"):
        load(batches)


@pytest.mark.parametrize("name", ["images.npy", "labels.npy"])
@pytest.mark.parametrize(
    "damage",
    [
        lambda path, array: np.save(path, array.astype(np.float64)),
        lambda path, array: np.save(path, array.astype(object)),
        lambda path, array: np.save(path, array[:-1]),
        lambda path, array: np.save(path, array[..., None]),
        lambda path, array: path.write_bytes(path.read_bytes() + b"more"),
        without_numbers,
        lambda path, array: without_numbers(path, array, (10**13, *array.shape[1:])),
        lambda path, array: without_numbers(path, array, (10**15, *array.shape[1:])),
        lambda path, array: without_numbers(path, array, (2**62, 2**62)),
    ],
)
def test_a_cache_with_other_arrays_is_named(batches, cache, name, damage):
    load(batches)
    (made,) = cache.iterdir()
    damage(made / name, np.load(made / name))
    with pytest.raises(UserError, match=rf"{made.name}: damaged .*delete it, and it is made again"):
        load(batches)


def test_a_cache_that_cannot_be_written_says_what_to_set(batches, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("CFGBENCH_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(UserError, match="name another folder in CFGBENCH_CACHE"):
        load(batches)


def test_a_disk_that_is_full_is_said_before_and_while_it_is_written(batches, cache, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=700_000))
    with pytest.raises(UserError, match=r"cache: 0\.0007 GB are free where 0\.000738 GB are needed; .* CFGBENCH_CACHE"):
        load(batches)
    monkeypatch.undo()
    code = f"""
import resource
from pathlib import Path
from cfgbench import data
from cfgbench.errors import UserError
from cfgbench.spec import Dataset
resource.setrlimit(resource.RLIMIT_FSIZE, (500_000, 500_000))
try:
    data.load(Dataset(name="imagenet64", path=Path({str(batches)!r})))
except UserError as error:
    print(error)
"""
    env = os.environ | {"CFGBENCH_CACHE": str(cache)}
    said = subprocess.run([sys.executable, "-c", code], env=env, check=True, capture_output=True, text=True).stdout
    assert f"{cache}: cannot be written" in said
    assert "CFGBENCH_CACHE" in said
    assert [path.suffix for path in cache.iterdir()] == [".lock"]


def test_of_several_processes_one_prepares_and_the_others_wait(batches, photos, cache, monkeypatch):
    monkeypatch.setattr(imagenet, "CHUNK", 10)
    words, made = [], []

    def slow(task, done, total, note):
        words.append(task)
        if done and not made:  # half way: somebody else wants the same
            made.append(pool.submit(load, batches, progress=lambda *said: words.append(said[0])))
            deadline = time.monotonic() + 30
            while "another process prepares imagenet64" not in words and time.monotonic() < deadline:
                time.sleep(0.01)

    with ThreadPoolExecutor() as pool:
        first = load(batches, progress=slow)
    assert words.count("prepare imagenet64") == 7  # six batches and the end, by one of the two
    assert np.array_equal(made[0].result().images, photos)
    assert first.content == made[0].result().content
    assert len(list(cache.iterdir())) == 1


def test_what_a_process_that_was_killed_has_left_is_removed_by_the_one_that_waited(batches, photos, cache):
    load(batches)
    (made,) = cache.iterdir()
    left, lock = cache / f".part-{made.name}-1", cache / f".{made.name}.lock"
    made.rename(left)  # as if it were half done
    waiting = threading.Event()
    with ThreadPoolExecutor() as pool:
        with lock.open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            other = pool.submit(load, batches, progress=lambda task, *_: "another" in task and waiting.set())
            assert waiting.wait(30)
            assert left.exists()
        assert np.array_equal(other.result().images, photos)
    assert list(cache.iterdir()) == [made]


def test_what_others_are_at_work_on_is_not_swept_up(batches, cache):
    cache.mkdir()
    for name in ("dead", "alive"):
        (cache / f".{name}.lock").touch()
        (cache / f".part-{name}-1").mkdir()
    with (cache / ".alive.lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        load(batches)
    assert sorted(path.name for path in cache.glob(".part-*")) == [".part-alive-1"]


def rewritten(path, **members):
    with np.load(path) as file:
        np.savez(path, **{"data": file["data"], "labels": file["labels"]} | members)


@pytest.mark.parametrize(
    ("members", "said"),
    [
        ({"labels": np.arange(30)}, "labels from 0 to 29, where 1 to 1000"),
        ({"labels": np.array([1001] * 30)}, "labels from 1001 to 1001"),
        ({"labels": np.ones((30, 1), int)}, r"labels \(30, 1\) of int64"),
        ({"labels": np.array([1.5] * 30)}, "of float64"),
        ({"labels": np.array([1] * 30, dtype=object)}, "labels cannot be read"),
        ({"labels": np.ones(29, int)}, r"data \(30, 12288\) of uint8, where \(29, 12288\)"),
        ({"data": np.zeros((30, 3072), np.uint8)}, r"data \(30, 3072\)"),
        ({"data": np.zeros((30, 12288), np.float32)}, "of float32"),
        ({"data": np.asfortranarray(np.zeros((30, 12288), np.uint8))}, "columns stand before rows"),
    ],
)
def test_a_batch_that_is_none_is_named(batches, members, said):
    path = batches / "train_data_batch_2.npz"
    rewritten(path, **members)
    with pytest.raises(UserError, match=rf"train_data_batch_2\.npz: .*{said}"):
        load(batches)


@pytest.mark.parametrize("keep", [0, 100, 200_000])
def test_a_batch_that_was_cut_is_named(batches, keep):
    path = batches / "train_data_batch_2.npz"
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(UserError, match=r"train_data_batch_2\.npz: "):
        load(batches)


def test_a_flipped_bit_in_the_pixels_is_found(batches, cache):
    path = batches / "train_data_batch_1.npz"
    content = bytearray(path.read_bytes())
    content[100_000] ^= 1
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"train_data_batch_1\.npz: data cannot be read \(Bad CRC"):
        load(batches)
    assert [path.suffix for path in cache.iterdir()] == [".lock"]


@pytest.fixture
def tree(tmp_path):
    """Class folders of JPEGs of several sizes, as ILSVRC2012 has them."""
    for name, photo in zip(("n02", "n01"), datasets.load_sample_images().images, strict=True):
        folder = tmp_path / "ILSVRC" / "train" / name
        folder.mkdir(parents=True)
        for number, (height, width) in enumerate([(200, 300), (140, 130), (427, 640)]):
            Image.fromarray(photo[:height, :width]).save(folder / f"{name}_{number}.JPEG", quality=95)
    Image.fromarray(photo[:150, :150, 0]).save(folder / "n01_grey.JPEG")
    return tmp_path / "ILSVRC"


@pytest.mark.parametrize("name", ["imagenet64", "imagenet128"])
@pytest.mark.parametrize("preprocess", ["adm", "area", "box", None])
def test_a_tree_is_scaled_as_asked(tree, name, preprocess):
    images = load(tree, name, preprocess=preprocess)
    side = int(name.removeprefix("imagenet"))
    assert images.class_names == ("n01", "n02")
    assert images.images.shape == (7, 3, side, side)
    with Image.open(tree / "train/n01/n01_1.JPEG") as image:
        wanted = imagenet.SCALES[preprocess or "adm"](image, side)
    assert np.array_equal(images.images[1].transpose(1, 2, 0), np.asarray(wanted))
    assert np.array_equal(load(tree / "train", name, preprocess=preprocess).images, images.images)


@pytest.mark.parametrize("split", ["train", "val"])
@pytest.mark.parametrize("place", ["{}", "ILSVRC2012_img_{}", "Data/CLS-LOC/{}"])
def test_the_layouts_of_the_tree_that_are_about(tree, tmp_path, place, split):
    top = tmp_path / "top"
    for name, folders in (("train", ["n01", "n02"]), ("val", ["n02"])):
        for folder in folders:
            target = top / place.format(name) / folder
            target.parent.mkdir(parents=True, exist_ok=True)
            target.symlink_to(tree / "train" / folder)
    images = load(top, split=split)
    assert images.class_names == (("n01", "n02") if split == "train" else ("n02",))
    assert np.array_equal(images.images[-1], load(tree).images[-1])


def test_what_a_tree_has_beside_images_in_class_folders_is_counted(tree):
    train = tree / "train"
    (train / "n03" / "images").mkdir(parents=True)
    for name in ("n01/more.webp", "stray.JPEG", "n03/images/n03_0.JPEG", ".hidden.JPEG"):
        shutil.copy(train / "n01" / "n01_0.JPEG", train / name)
    images = load(tree)
    assert (images.class_names, images.ignored) == (("n01", "n02"), 3)


def test_a_tree_is_prepared_once_wherever_it_is_entered_and_anew_when_a_file_changes(tree, cache):
    before = load(tree)
    assert load(tree / "train").content == before.content
    assert len(list(cache.iterdir())) == 1
    photo_of(90, 90).save(tree / "train/n01/n01_0.JPEG")
    assert load(tree).content != before.content


def test_recipes_and_sides_do_not_share_a_cache(tree, cache):
    sets = [load(tree, name, preprocess=recipe) for name in imagenet.SIDES for recipe in imagenet.SCALES]
    assert len({images.content for images in sets}) == len(sets) == len(list(cache.iterdir()))


def test_folders_above_the_class_folders_are_not_taken_for_classes(tree):
    with pytest.raises(UserError, match="neither npz batches nor class folders with JPEGs directly in them"):
        load(tree.parent)


def test_a_link_that_leads_in_a_circle_is_walked_once(tree):
    (tree / "train" / "n01" / "up").symlink_to(tree)
    assert len(load(tree).images) == 7


def test_val_folders_alone_are_not_taken_for_training_images(tree):
    (tree / "train").rename(tree / "val")
    with pytest.raises(UserError, match=r"has val only; set split: val"):
        load(tree)
    assert len(load(tree, split="val").images) == 7


def test_flat_validation_images_say_what_to_do(tree):
    (tree / "val").mkdir()
    photo_of(90, 90).save(tree / "val" / "ILSVRC2012_val_00000001.JPEG")
    with pytest.raises(UserError, match="must be sorted into such folders"):
        load(tree, split="val")


def photo_of(height, width):
    return Image.fromarray(datasets.load_sample_images().images[0][:height, :width])


def test_area_is_the_mean_over_each_pixels_area_of_the_middle_square():
    image = photo_of(256, 384)
    middle = np.asarray(image, float)[:, 64:320]
    means = middle.reshape(64, 4, 64, 4, 3).mean(axis=(1, 3))
    assert np.abs(np.asarray(area(image, 64)) - means).max() <= 0.5


@pytest.mark.parametrize("size", [375, 200, 100, 70, 64, 40])
def test_area_divides_pixels_that_lie_in_two(size):
    image = photo_of(size, size)
    # every pixel of the photograph as 64 x 64 equal ones: whole ones lie in each pixel of the result
    fine = np.asarray(image, np.float32).repeat(64, axis=0)
    rows = fine.reshape(64, size, size, 3).mean(axis=1)
    means = rows.repeat(64, axis=1).reshape(64, 64, size, 3).mean(axis=2)
    assert np.abs(np.asarray(area(image, 64)) - means).max() <= 0.501


def test_box_squeezes_the_whole_image():
    image = photo_of(128, 384)
    means = np.asarray(image, float).reshape(64, 2, 64, 6, 3).mean(axis=(1, 3))
    assert np.abs(np.asarray(box(image, 64)) - means).max() <= 1  # rounded after each direction


def test_adm_halves_by_box_before_it_scales():
    image = photo_of(256, 320)
    halves = np.asarray(image, float)
    for _ in range(2):  # 256 -> 128 -> 64, rounded each time
        height, width = halves.shape[:2]
        halves = np.floor(halves.reshape(height // 2, 2, width // 2, 2, 3).mean(axis=(1, 3)) + 0.5)
    assert np.abs(np.asarray(adm(image, 64)) - halves[:, 8:72]).max() <= 2  # rounded four times
    smaller = photo_of(100, 90)
    wanted = smaller.resize((64, 71), Image.Resampling.BICUBIC).crop((0, 3, 64, 67))
    assert np.array_equal(np.asarray(adm(smaller, 64)), np.asarray(wanted))


def test_a_zip_of_the_tree_gives_the_same_images(tree, tmp_path):
    path = tmp_path / "tree.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(tree.rglob("*.JPEG")):
            archive.write(file, file.relative_to(tree).as_posix())
    assert load(path).content == load(tree).content


def test_what_is_wrong_is_one_line(tree, batches, tmp_path):
    broken = tree / "train/n02/n02_9.JPEG"
    content = io.BytesIO()
    photo_of(100, 100).save(content, "JPEG")
    broken.write_bytes(content.getvalue()[:400])
    with pytest.raises(UserError, match=r"n02_9\.JPEG: cannot be read as an image"):
        load(tree)
    (tmp_path / "empty").mkdir()
    for path, keys, said in [
        (None, {}, "dataset.path = None: not there"),
        (tmp_path / "absent", {}, "absent: not there; name the folder with train_data_batch_1.npz"),
        (tmp_path / "empty", {}, "empty: neither npz batches nor class folders"),
        (batches, {"preprocess": "adm"}, "dataset.preprocess: the images of .* are scaled already"),
        (batches, {"name": "imagenet128"}, "holds 64x64 images; take imagenet64"),
        (batches, {"split": "test"}, "dataset.split = test: should be train or val"),
        (batches, {"classes": ["2"]}, "dataset.classes = 2: no such class"),
        (batches / "val_data.npz", {}, "a single file; name the folder"),
        (tree, {"split": "val"}, "dataset.split = val: .* has none of the folders val,"),
        (tree / "train", {"split": "val"}, "if its class folders are the val split, remove the key"),
    ]:
        with pytest.raises(UserError, match=said):
            load(path, **keys)


@pytest.mark.skipif(not TINY.exists(), reason="the zip of photographs is not here")
def test_a_batch_of_photographs_is_what_the_folder_loader_sees(tmp_path):
    folder = data.load(Dataset(name="folder", path=TINY, split="train", classes=5, limit=100))
    np.savez(tmp_path / "train_data_batch_1.npz", data=folder.images.reshape(100, -1), labels=folder.labels + 301)
    images = load(tmp_path)
    assert np.array_equal(images.images, folder.images)
    assert np.array_equal(images.labels, folder.labels)
    assert images.class_names == ("301", "302", "303", "304", "305")
