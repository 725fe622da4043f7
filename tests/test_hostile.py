"""What is meant to harm: a line and exit code 2, at once, whatever the file claims about itself."""

import ast
import contextlib
import gzip
import io
import json
import os
import shutil
import struct
import time
import zipfile
from pathlib import Path

import fuzz
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from safetensors.torch import save_file

import cfgbench
from cfgbench import machine
from cfgbench.data import image_batches
from cfgbench.files import identity
from cfgbench.sweep import external, plan  # noqa: F401 (as above)
from cfgbench.sweep.results.row import digest_of
from cfgbench.tensors import load_tensors, save_tensors

SMALL = fuzz.SMALL
TRAIN = ("--p-uncond", "0.123456")
"""Loads and plans all, then refuses."""


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def refused(run):
    """refused("train", ...) is the line that the command ends with; it is one, printable, short, and said at once."""

    def refused(*words):
        began = time.process_time()
        code, out, err = run(*words)
        assert code == 2, (out, err)
        assert time.process_time() - began < 3  # the processor's seconds: others may be at work here
        assert err.count("\n") == 1, err
        assert err.startswith("cfgbench: ")
        assert err[:-1].isprintable(), err
        assert len(err) < 1000
        return err

    return refused


def train(refused, text):
    Path("x.yaml").write_bytes(text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass"))
    return refused("train", "x.yaml", *TRAIN)


def small(old="", new=""):
    assert old in SMALL
    return SMALL.replace(old, new, 1)


BOMB = "a0: &a0 [" + ", ".join("1" * 9) + "]\n"
BOMB += "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 12))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (BOMB, "more than 10,000 keys and values"),
        ("a: &a [*a]", "stands inside of what it repeats"),
        ("a: &a {<<: *a}", "stands inside of what it repeats"),
        ("a: " + "[" * 30_000, "nested deeper than 32"),
        ("\n".join(" " * i + "a:" for i in range(200)), "nested deeper than 32"),
        ("a: [" + "1," * 30_000 + "]", "more than 10,000"),
        ("#" * 70_000, "larger than 65,536 bytes"),
        ("x" * 65_000, "not a sweep file"),
        ("a: !!python/object/apply:os.getcwd []", "the tag"),
        ("a: !!bool x", "the tag"),
        (small("limit: 40", "limit: " + "9" * 5000), "a number of 5000 digits"),
        (small("limit: 40", "limit: " + "9" * 39), "dataset.limit"),
        (small("limit: 40", "limit: 1:30"), "dataset.limit = '1:30'"),
        (small("limit: 40", "limit: 010"), "dataset.limit = '010'"),
        (small("w: [0, 1]", "w: [.inf]"), "grid.w[0] = inf"),
        (small("w: [0, 1]", "w: [1e400]"), "grid.w[0] = inf"),
        (small("name: digits", 'name: "\\e[31m"'), "control character U+001B"),
        (small("name: digits", 'name: "\\ud800"'), "control character U+D800"),
        (small("name: digits", 'name: folder, path: "a\\0b"'), "control character U+0000"),
        (small("name: digits", "name: '\u202e'"), "dataset.name"),
        (small("name: digits", f"name: {'x' * 50_000}"), "dataset.name = 'xxx"),
        (small("{name: digits", f"{{name: digits, {'x' * 900}: 1"), "xxx...: unknown key"),
        (small("w: [0, 1]", f"{'x' * 900}: [0, 1]"), "not a key of training or sampling"),
        (small("w: [0, 1]", f"w: [0, {'9' * 40_000}]"), "40000 digits"),
        (small("name: digits", f"name: folder, path: {'x' * 300}"), "longer than the name of a file can be"),
        (small("name: digits", "name: folder, path: /dev/zero"), "not a regular file"),
        (SMALL + f"evaluation: {{reference: {'a/' * 3000}}}", "longer than the name of a file can be"),
        (SMALL + "evaluation: {reference: /dev/zero}", "not a regular file"),
        (SMALL + "evaluation: {features: inception, inception_weights: /dev/zero}", "not a regular file"),
        (small("steps: 3", f"steps: {10**8 + 1}"), "training.steps"),
        (small("channels: 8, multipliers: [1]", "channels: 4096, multipliers: [64], blocks: 64"), "parameters or more"),
        (small("channels: 8, multipliers: [1]", "channels: 4096, multipliers: [8, 64], blocks: 64"), "GB of memory"),
    ],
)  # fmt: skip
def test_hostile_sweep_files(refused, text, said):
    assert said in train(refused, text)


def test_the_product_of_a_grid_is_counted_before_it_is_walked(refused):
    values = ", ".join(f"{i / 1000}" for i in range(1, 101))
    axes = ["learning_rate", "weight_decay", "ema_decay", "gradient_clip", "w", "v", "training.p_uncond"]
    grid = ", ".join(f"{axis}: [{values}]" for axis in axes)
    assert "grid: 100,000,000,000,000 cells; at most" in train(refused, small("w: [0, 1], T: [2]", grid))


def test_a_network_larger_than_this_machine_is_not_built(refused, monkeypatch):
    monkeypatch.setattr(machine, "memory", lambda: 20_000)
    said = train(refused, SMALL)
    assert "parameters or more" in said
    assert "take fewer channels" in said


def test_a_checkpoint_that_never_ends(refused):
    Path("x.yaml").write_text(
        "name: x\ndataset: {name: digits}\nmodel: {checkpoint: /dev/zero, format: adm}\ngrid: {w: [0]}"
    )
    assert "model.checkpoint = /dev/zero: not a regular file" in refused("sweep", "x.yaml", "--dry-run")


def test_what_is_no_regular_file_is_not_read(refused):
    os.mkfifo("pipe.yaml")
    os.mkfifo("pipe.npz")
    Path("folder.yaml").mkdir()
    Path("x.yaml").write_text(SMALL)
    for path in ("pipe.yaml", "/dev/zero", "/dev/null"):
        assert "not a regular file" in refused("train", path)
    assert "a folder" in refused("sweep", "folder.yaml")
    assert "not a regular file" in refused("eval", "pipe.npz", "--reference", "digits")
    assert "not a regular file" in refused("eval", "/dev/zero", "--reference", "digits")
    np.savez("samples.npz", np.zeros((20, 8, 8, 1), np.uint8))
    assert "not a regular file" in refused("eval", "samples.npz", "--reference", "pipe.npz", "--features", "digits")
    assert "too long" in refused("eval", "x" * 300, "--reference", "digits")
    assert "too long" in refused("train", "x" * 300)


def test_names_are_printed_escaped(run, refused):
    assert "\\x1b[31m" in refused("train", "\x1b[31m.yaml")
    assert "\\udcff" in refused("train", "\udcff.yaml")
    folder = Path("results/a\x1b[2J\nb")
    folder.mkdir(parents=True)
    (folder / "sweep.yaml").write_text(SMALL)
    code, out, _ = run("ls")
    assert code == 0
    assert out.startswith("a\\x1b[2J\\nb: 0 of 2 cells done")


def test_progress_is_printed_escaped(capsys):
    from cfgbench.progress import Lines

    lines = Lines()
    lines("of \x1b[2J\n", 0, 1, "")
    lines("of \x1b[2J\n", 1, 1, "")
    assert capsys.readouterr().err.startswith("of \\x1b[2J\\n: 1/1")


# images


def picture(**size):
    file = io.BytesIO()
    Image.new("L", (size.get("width", 8), size.get("height", 8)), 7).save(file, "PNG")
    return file.getvalue()


def zipped(entries, how=zipfile.ZIP_DEFLATED):
    with zipfile.ZipFile("x.zip", "w", how) as archive:
        for name, content in entries:
            archive.writestr(name, content)
    return small("name: digits", "name: folder, path: x.zip")


@pytest.mark.parametrize(
    ("entries", "said"),
    [
        ([("a/0.png", picture(width=8193, height=8193))], "8193 x 8193 pixels"),
        ([("a/0.png", picture(width=16384, height=1))], "not square"),
        ([("../0.png", picture())], "climbs out"),
        ([("/0.png", picture())], "climbs out"),
        ([("a\\0.png", picture())], "between folders, where zips have /; pack them with another program"),
        ([("a\x1b[31m/0.png", picture())], "class 'a\\\\x1b[31m'"),
        ([("a/0.png", picture()), ("classes.tsv", "a\tx\x1b[2J\n")], "class 'x\\\\x1b[2J'"),
        ([("a/0.png", picture()), ("classes.tsv", "a\t" + "x" * 300 + "\n")], "visible characters"),
        ([("a/0.png", picture()), ("classes.tsv", "a \x1b[2J\n" + "x" * 300)], "names none of the classes"),
    ],
)
def test_hostile_zips_of_images(refused, entries, said):
    assert said.replace("\\\\", "\\") in train(refused, zipped(entries))


def test_an_entry_without_a_name(refused):
    text = zipped([("#/0.png", picture())])
    Path("x.zip").write_bytes(Path("x.zip").read_bytes().replace(b"#/0.png", b"\0/0.png"))
    assert "without a name" in train(refused, text)


def test_packings_that_inflate_without_bound_are_not_inflated(refused):
    assert "neither stored nor deflated" in train(refused, zipped([("a/0.png", picture())], zipfile.ZIP_BZIP2))
    samples = io.BytesIO()
    np.save(samples, np.zeros((20, 8, 8, 1), np.uint8))
    with zipfile.ZipFile("s.npz", "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr("arr_0.npy", samples.getvalue())
    assert "neither stored nor deflated" in refused("eval", "s.npz", "--reference", "digits")


def test_an_entry_that_announces_little_is_not_inflated_to_much(refused):
    import tracemalloc

    content = picture()
    text = zipped([("a/0.png", content + bytes(200 << 20))])
    data = bytearray(Path("x.zip").read_bytes())
    for signature, place in ((b"PK\x03\x04", 22), (b"PK\x01\x02", 24)):
        at = data.index(signature) + place
        data[at : at + 4] = struct.pack("<I", len(content))
    Path("x.zip").write_bytes(data)
    tracemalloc.start()
    try:
        assert "cannot be read as an image (Bad CRC" in train(refused, text)
        assert tracemalloc.get_traced_memory()[1] < 50 << 20
    finally:
        tracemalloc.stop()


def test_an_encrypted_zip_is_refused(refused):
    text = zipped([("a/0.png", picture())])
    data = bytearray(Path("x.zip").read_bytes())
    for signature, place in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        data[data.index(signature) + place] |= 1
    Path("x.zip").write_bytes(data)
    assert "encrypted" in train(refused, text)


def test_links_that_lead_in_circles_or_to_devices(refused):
    text = small("name: digits", "name: folder, path: photos")
    for name in "abcdefghij":
        Path("photos", name).mkdir(parents=True)
    for name in "abcdefghij":
        for other in "abcdefghij":
            Path("photos", name, f"to_{other}").symlink_to(Path("photos", other).absolute())
    assert "links on the way" in train(refused, text)
    text = small("name: digits", "name: folder, path: more")
    Path("more/a").mkdir(parents=True)
    Path("more/a/0.png").symlink_to("/dev/zero")
    assert "class a has no images" in train(refused, text)
    with Path("more/a/1.png").open("wb") as file:
        file.truncate(1 << 40)  # a hole of a terabyte
    assert "larger than 268,435,456 bytes" in train(refused, text)


def test_undecodable_names_of_images(refused):
    text = small("name: digits", "name: folder, path: photos")
    Path("photos/a").mkdir(parents=True)
    Path("photos/a/\udcff.png").write_bytes(b"no image")
    assert "\\udcff.png: cannot be read" in train(refused, text)
    assert "\\udcff.png: cannot be read" in refused("eval", "photos", "--reference", "digits")


def test_images_of_more_than_memory(refused, monkeypatch):
    monkeypatch.setattr(machine, "memory", lambda: 100_000)
    text = zipped([(f"a/{i}.png", picture(width=64, height=64)) for i in range(10)])
    assert "set a smaller dataset.resolution, or dataset.limit" in train(refused, text)


# arrays


def npz(**entries):
    with zipfile.ZipFile("x.npz", "w") as archive:
        for name, content in entries.items():
            archive.writestr(f"{name}.npy", content)


def npy(header, content=b"", version=b"\x01\x00"):
    text = header.encode() + b"\n"
    return b"\x93NUMPY" + version + struct.pack("<H", len(text)) + text + content


def announced(shape, kind="|u1", content=b""):
    return npy(str({"descr": kind, "fortran_order": False, "shape": shape}), content)


@pytest.mark.parametrize(
    "content",
    [
        announced((10**15, 8, 8)),
        announced((10**6, 8, 8), content=bytes(640)),
        announced((-1, 8, 8)),
        announced((2**62, 2**62, 3)),
        announced((4, 5000, 5000), content=bytes(4 * 5000 * 5000)),
        announced((10, 0, 8)),
        announced((10, 8, 8), "|O", bytes(640 * 8)),
        announced((10, 8, 8), "|V0"),
        npy("(" * 9000),
        npy("{'descr'" + "\0" * 20),
        npy("{'descr': '|u1', 'shape': ("),
        b"",
        b"\x93NUMPY\x09\x09",
    ],
)
def test_arrays_are_not_believed(refused, content):
    npz(arr_0=content)
    refused("eval", "x.npz", "--reference", "digits")
    np.savez("samples.npz", np.zeros((20, 8, 8, 1), np.uint8))
    npz(mu=content, sigma=content)
    refused("eval", "samples.npz", "--reference", "x.npz", "--features", "digits")


def test_statistics_of_absurd_dimensions_are_not_read(refused):
    np.savez("samples.npz", np.zeros((20, 8, 8, 1), np.uint8))
    npz(mu=announced((8,), "<f8", bytes(64)), sigma=announced((10**6, 10**6), "<f8"))
    assert "sigma cannot be read (an array (1000000, 1000000) of float64 in" in refused(
        "eval", "samples.npz", "--reference", "x.npz", "--features", "digits"
    )


def test_batches_are_bounded_in_bytes_and_number_their_images_all_the_same(run, monkeypatch):
    np.savez("x.npz", np.random.default_rng(0).integers(0, 256, (25, 8, 8, 1), dtype=np.uint8))
    whole = run("eval", "x.npz", "--reference", "digits", "--quiet")
    monkeypatch.setattr(image_batches, "LARGEST_BATCH", 450)
    assert [len(batch) for batch in image_batches.open_images(Path("x.npz")).batches(500)] == [7, 7, 7, 4]
    assert run("eval", "x.npz", "--reference", "digits", "--quiet") == whole
    assert whole[0] == 0


@pytest.mark.parametrize("text", [struct.pack("<I", 0x7FFFFFFF) * 4, bytes(4 << 20), "\x1b[2J\n".encode("utf-32-le")])
def test_text_in_statistics_that_is_none(refused, text):
    np.savez("samples.npz", np.zeros((20, 8, 8, 1), np.uint8))
    parts = {"mu": np.zeros(4), "sigma": np.eye(4)}
    files = {name: announced(part.shape, "<f8", part.tobytes()) for name, part in parts.items()}
    npz(**files, features_id=announced((), f"<U{len(text) // 4}", text), n=announced((), "<i8", struct.pack("<q", 9)))
    refused("eval", "samples.npz", "--reference", "x.npz", "--features", "digits")


@pytest.mark.parametrize("shape", [(1 << 29, 28, 28), (20, 1 << 15, 1 << 15), (0, 28, 28), (-1, 28, 28)])
def test_an_idx_file_is_not_inflated_to_what_it_announces(refused, shape):
    with gzip.open("train-images-idx3-ubyte.gz", "wb", 1) as file:
        file.write(struct.pack(">4i", 0x803, *shape) + bytes(10 << 20))
    assert "not a whole IDX file (header" in train(refused, small("name: digits", "name: fashion-mnist, path: ."))


# what a results folder holds


@pytest.fixture(scope="module")
def swept(tmp_path_factory, run_first):
    folder = tmp_path_factory.mktemp("swept")
    (folder / "small.yaml").write_text(SMALL)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert run_first("sweep", "small.yaml", "--quiet") == 0
    return folder


@pytest.fixture
def done(swept):
    shutil.copytree(swept, ".", dirs_exist_ok=True)
    return Path("results/small")


def test_hostile_checkpoints(done, refused):
    (path,) = (done / "checkpoints").glob("*.safetensors")
    whole = path.read_bytes()
    for cell in (done / "cells").iterdir():
        cell.unlink()
    weights, _ = load_tensors(path)
    (length,) = struct.unpack("<Q", whole[:8])
    header = json.loads(whole[8 : 8 + length])
    made = json.loads(header["__metadata__"]["cfgbench"])
    made.pop("digest")
    huge = made | {"model": made["model"] | {"channels": 4096, "multipliers": [64], "blocks": 64}}
    for header in (huge, {}, {"model": 1, "image": 2}):
        save_tensors(path, {"x": torch.zeros(1)}, header)
        assert f"{path}: not a checkpoint of a denoiser" in refused("sweep", "small.yaml")
    for digests in ({"ema": 5, "raw": None}, {"ema": None}, {"raw": 5, "ema": "0"}):
        save_tensors(path, weights, made | digests)
        assert f"{path}: not a checkpoint of a denoiser (its digests are no text)" in refused("sweep", "small.yaml")
    for metadata in ("[" * 100_000, "[1]", "null", "{}"):
        save_file({"x": torch.zeros(1)}, path, metadata={"cfgbench": metadata})
        assert str(path) in refused("sweep", "small.yaml")
    for content in (whole[: len(whole) // 2], struct.pack("<Q", 2**63) + whole[8:], b"", b"[" * 100_000):
        path.write_bytes(content)
        assert "not a whole file of cfgbench" in refused("sweep", "small.yaml")


def test_hostile_trainings_in_progress(done, refused):
    (path,) = (done / "checkpoints").glob("*.safetensors")
    path.unlink()
    partial = path.with_suffix(".partial")
    for metadata in ("[1]", "{}", '{"step": "x"}', "null"):
        save_file({"x": torch.zeros(1)}, partial, metadata={"cfgbench": metadata})
        assert f"{partial}: not a whole file of cfgbench" in refused("train", "small.yaml")
    for header in ({}, {"step": "x"}, {"step": 1}, {"step": 1, "precision": ["fp32"]}):
        save_tensors(partial, {"x": torch.zeros(1)}, header)
        assert f"{partial}: not a training in progress" in refused("train", "small.yaml")


def test_a_checkpoint_that_is_a_pipe(done, refused):
    (path,) = (done / "checkpoints").glob("*.safetensors")
    path.unlink()
    os.mkfifo(path)
    for cell in (done / "cells").iterdir():
        cell.unlink()
    assert "not a regular file" in refused("sweep", "small.yaml")


NOTED = {"cell_id": "x", "checkpoint_id": "c", "p_uncond": 0.1, "w": 0, "T": 2, "guidance": "cfg", "settings": {}}


@pytest.mark.parametrize(
    "cells",
    [[1, 2], [{}], {"a": 1}, "abc", "", {}, None, 5, [[]], [{"cell_id": None, "p_uncond": 0.1}],
     [{"cell_id": "x", "p_uncond": "z", "w": 0, "T": 2, "guidance": "cfg"}],
     *([NOTED | odd] for odd in (
         {"settings": 3}, {"cell_id": "\ud800"}, {"guidance": "\x1b[2J"}, {"settings": {"\ud800": 1}},
         {"settings": {"a": "\ud800"}}, {"settings": {"a": ["\ud800"]}}, {"checkpoint_id": None}, {"settings": None},
         {"w": 10**400}, {"temperature": -(10**400)}, {"settings": {"a": 10**400}}))],
)  # fmt: skip
def test_notes_of_cells_that_are_none_are_as_if_there_were_none(done, run, cells):
    (done / "asked.json").unlink()
    without = [run(*words)[:2] for words in (["ls"], ["ls", "small"], ["report", "small", "--table", "md"])]
    (done / "asked.json").write_text(json.dumps({"digest": identity(cells), "cells": cells}))
    noted = [run(*words)[:2] for words in (["ls"], ["ls", "small"], ["report", "small", "--table", "md"])]
    assert noted == without
    (done / "asked.json").write_text(json.dumps({"digest": identity([NOTED]), "cells": [NOTED]}))
    assert run("ls", "small")[:2] != without[1]  # what is as it should be is believed
    assert noted[0][0] == 0


def test_a_folder_whose_name_is_no_text_is_refused_at_once(refused):
    Path("x.yaml").write_text(SMALL)
    for command in ("sweep", "train"):
        said = refused(command, "x.yaml", "--results", os.fsdecode(b"r\xe9"))
        assert "small: no name in UTF-8" in said


def test_results_that_are_pipes_or_devices(done, run, refused):
    for path in (done / "influence").iterdir():
        path.unlink()
        os.mkfifo(path)
    code, _, err = run("report", "small", "--claims")
    assert (code, "2 cells without readable influences" in err) == (0, True)
    for make in (os.mkfifo, lambda path: path.symlink_to("/dev/zero")):
        (done / "sweep.yaml").unlink()
        make(done / "sweep.yaml")
        assert refused("sweep", "small.yaml") == f"cfgbench: {done}/sweep.yaml: not a regular file\n"


@pytest.mark.parametrize("note", ["[" * 100_000, '{"labels": [[0]], "height": 8, "width": 8}', "1" * 5000])
def test_hostile_sheets_of_samples(done, refused, note):
    text = PngInfo()
    text.add_text("cfgbench", note)
    for path in (done / "samples").glob("*.png"):
        Image.new("L", (8, 8)).save(path, pnginfo=text)
    assert "not a grid of sample images" in refused("report", "small", "--plot", "samples")
    for path in (done / "samples").glob("*.png"):
        Image.new("1", (9000, 9000)).save(path)
    assert "9000 x 9000 pixels" in refused("report", "small", "--plot", "samples")


def row_of(path):
    (row,) = pq.read_table(path, partitioning=None).to_pylist()
    return row


@pytest.mark.parametrize(
    "change",
    [
        {"cell_id": "../../../etc/passwd"},
        {"status": "\x1b[2J"},
        {"w": float("nan")},
        {"fid": float("inf")},
        {"p_uncond": None},
        {"T": "32"},
        {"created": 5},
        *({"created": time} for time in (
            "9999-12-31T23:59:59.999+00:00", "2026-01-01", "2026-01-01T00:00:00.000", "2026-01-01T00:00:00+00:00",
            "2026-01-01T00:00:00.000+01:00", "2026-W01-1T00:00:00.000+00:00", "0001-01-01T00:00:00.000+01:00")),
        {"more": [1, 2]},
        {"more": {"a": {"b": 1}}},
        {"more": b"\0"},
    ],
)  # fmt: skip
def test_rows_are_not_believed(done, refused, run, change):
    path = sorted((done / "cells").glob("*.parquet"))[0]
    schema = pq.read_schema(path)
    row = row_of(path) | change
    with contextlib.suppress(TypeError, ValueError):
        row["digest"] = digest_of(row)
    kinds = [(key, pa.array([value]).type if key in change else schema.field(key).type) for key, value in row.items()]
    pq.write_table(pa.Table.from_pylist([row], schema=pa.schema(kinds)), path)
    for words in (["ls"], ["ls", "small"]):
        assert "1 of 2 cells done, 1 damaged" in run(*words)[1]
    said = refused("report", "small")
    assert f"{path}: not a row of results" in said
    assert "do not fit its digest" not in said
    assert "1/1 p_uncond" in run("sweep", "small.yaml")[1]
    assert "2 of 2 cells done" in run("ls")[1]


def test_rows_that_are_too_many_or_too_large(done, refused):
    path = sorted((done / "cells").glob("*.parquet"))[0]
    table = pq.read_table(path, partitioning=None)
    pq.write_table(pa.concat_tables([table] * 2), path)
    assert "2 rows" in refused("report", "small")
    pq.write_table(pa.table({"cell_id": pa.array(["x"]).dictionary_encode().take(pa.array([0] * 10_000_000))}), path)
    assert "10000000 rows" in refused("report", "small")
    path.write_bytes(bytes(10_000_001))
    assert "larger than 10,000,000 bytes" in refused("report", "small")


def test_text_in_rows_is_printed_escaped(done, run):
    path = sorted((done / "cells").glob("*.parquet"))[0]
    schema, row = pq.read_schema(path), row_of(path)
    row |= {"status": "failed", "reason": "\x1b[2J$\\frac$", "protocol": "\x1b]0;x\x07", "dataset": "$x_{$"}
    row["digest"] = digest_of(row)
    pq.write_table(pa.Table.from_pylist([row], schema=schema), path)
    for words in (["ls", "small"], ["report", "small"]):
        code, out, err = run(*words)
        assert code == 0, err
        assert "\x1b" not in out + err
    assert all(b"\x1b" not in path.read_bytes() for path in Path("reports/small").glob("table.*"))


def test_a_training_that_diverges_is_a_line(run):
    Path("x.yaml").write_text(small("steps: 3", "steps: 20, learning_rate: 1e30, gradient_clip: 0"))
    code, _, err = run("train", "x.yaml")
    assert code == 1
    assert "lower training.learning_rate" in err
    assert err.count("\n") == 1


# the source itself

SAFE = {
    ("np", "load"): "allow_pickle",
    ("numpy", "load"): "allow_pickle",
    ("format", "read_array"): "allow_pickle",
    ("torch", "load"): "weights_only",
}
NEVER = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal", "jsonpickle"}
FORBIDDEN = {"read_pickle", "unsafe_load", "full_load", "UnsafeLoader", "FullLoader", "load_all", "eval", "exec"}


@pytest.mark.parametrize("path", sorted(Path(cfgbench.__file__).parent.rglob("*.py")), ids=lambda path: path.name)
def test_nothing_is_unpickled(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = {alias.name.split(".")[0] for alias in node.names} | {
                (getattr(node, "module", "") or "").split(".")[0]
            }
            assert not names & NEVER
        if isinstance(node, ast.Attribute) and not (isinstance(node.value, ast.Name) and node.value.id == "torch"):
            assert node.attr not in FORBIDDEN - {"eval"}
        if isinstance(node, ast.Call):
            check_call(node)


def check_call(node):
    function = node.func
    if isinstance(function, ast.Name):
        assert function.id not in FORBIDDEN
        return
    if not isinstance(function, ast.Attribute):
        return
    owner = function.value.attr if isinstance(function.value, ast.Attribute) else getattr(function.value, "id", "")
    if word := SAFE.get((owner, function.attr)):
        given = {keyword.arg: keyword.value for keyword in node.keywords}
        assert isinstance(given.get(word), ast.Constant)
        assert given[word].value is (word == "weights_only")
    assert (owner, function.attr) != ("yaml", "load")


# everything at random


@pytest.mark.parametrize(
    ("kind", "cases"),
    [
        ("sweep", 400),
        ("npz", 100),
        ("statistics", 12),
        ("zip", 100),
        ("idx", 100),
        ("safetensors", 60),
        ("parquet", 60),
    ],
)
def test_damaged_files_at_random(kind, cases):
    with fuzz.workplace():
        report = fuzz.fuzz(kind, cases, seed=3)
    assert not report.findings
    assert sum(report.codes.values()) == cases


def test_the_fuzzer_finds_what_goes_wrong(monkeypatch):
    def breaks(*_):
        raise KeyError("a bug")

    with fuzz.workplace():
        monkeypatch.setattr(plan, "load_sweep", breaks)
        assert len(fuzz.fuzz("sweep", 2, seed=3, say=lambda _: None).findings) == 2
