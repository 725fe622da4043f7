"""Which cells share batches, and that the images do not notice."""

import gc
import time
import weakref
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from cfgbench.diffusion.guidance import Networks
from cfgbench.models.fast import Compiled
from cfgbench.models.precision import Compute
from cfgbench.models.unet import UNet
from cfgbench.progress import silent
from cfgbench.spec import Sampling
from cfgbench.sweep import fill as filling
from cfgbench.sweep import networks
from cfgbench.sweep import run as running
from cfgbench.sweep.batches import CELLS, LARGEST, Ready
from cfgbench.sweep.bench import Bench
from cfgbench.sweep.plan import make_plan, prepare_folder
from cfgbench.sweep.results.shards import Shards
from cfgbench.training import diffusion
from cfgbench.training.state import TrainingFailed


@pytest.fixture
def plan(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def make(sampling="{samples: 60, batch_size: 20}", grid="{w: [0, 0.5, 1, 2], T: [4, 8]}"):
        (tmp_path / "small.yaml").write_text(
            "name: small\ndataset: {name: digits}\n"
            "model: {name: unet, channels: 8, multipliers: [1], attention: []}\ntraining: {steps: 2, batch_size: 8}\n"
            f"sampling: {sampling}\ngrid: {grid}\n"
        )
        return make_plan(tmp_path / "small.yaml", tmp_path / "results")

    return make


def grouped(rows, found):
    return [[(cell.sampling.w, cell.sampling.T) for cell in batch] for batch in Ready(None, rows).batches(found)]


def test_a_training_that_failed_gives_its_memory_back(plan, monkeypatch):
    held, feed = [], diffusion.Feed
    monkeypatch.setattr(diffusion, "Feed", lambda *all: held.append(weakref.ref(made := feed(*all))) or made)
    monkeypatch.setattr(diffusion, "checked_loss", lambda _: (_ for _ in ()).throw(TrainingFailed("the loss is nan")))
    found = plan()
    prepare_folder(found)
    bench = SimpleNamespace(broken={}, plan=found, compute=Compute(torch.device("cpu"), "fp32"), progress=silent)
    for _ in range(2):
        with pytest.raises(TrainingFailed, match="the loss is nan"):
            networks.train_networks(bench, found.cells[0])
    gc.collect()
    assert [one() for one in held] == [None]


def test_no_batch_has_more_images_than_attention_takes():
    sampling = Sampling(samples=200_000, batch_size=100_000, w=1.0)
    assert Ready(None, rows=1000).images(sampling) * len(sampling.calls) == LARGEST


def test_a_processor_takes_the_cells_one_by_one_and_in_order(plan):
    found = plan().cells
    assert grouped(None, found) == [[(cell.sampling.w, cell.sampling.T)] for cell in found]


def test_on_a_gpu_cells_that_differ_in_w_alone_fill_it_together(plan):
    found = plan().cells
    assert grouped(1, found) == [[(0, 4)], [(0, 8)], [(0.5, 4)], [(1, 4)], [(2, 4)], [(0.5, 8)], [(1, 8)], [(2, 8)]]
    # two cells of 20 images, each a row for both of its branches; w = 0 needs one branch and goes by itself
    assert grouped(80, found) == [[(0, 4)], [(0, 8)], [(0.5, 4), (1, 4)], [(2, 4)], [(0.5, 8), (1, 8)], [(2, 8)]]
    assert grouped(1000, found)[2:] == [[(0.5, 4), (1, 4), (2, 4)], [(0.5, 8), (1, 8), (2, 8)]]
    ready = Ready(None, 1000)
    assert ready.most(found) == 3 * 20 * 2
    assert Ready(None, None).most(found) == 20


def test_no_more_cells_share_a_batch_than_may_be_claimed_at_a_time(plan):
    strengths = ", ".join(str(number) for number in range(1, 101))
    found = plan("{samples: 60, T: 4}", f"{{w: [{strengths}]}}").cells
    assert [len(batch) for batch in Ready(None, 1 << 20).batches(found)] == [CELLS, CELLS, CELLS, 100 - 3 * CELLS]


@pytest.mark.parametrize(("rows", "guided", "alone"), [(None, 256, 256), (100, 50, 100), (1, 1, 1)])
def test_an_open_batch_is_what_fills_the_device(rows, guided, alone):
    ready = Ready(None, rows)
    assert ready.images(Sampling(w=1.0)) == guided
    assert ready.images(Sampling(w=0.0)) == alone
    assert ready.images(Sampling(w=1.0, samples=10)) == min(guided, 10)
    assert ready.images(Sampling(w=1.0, batch_size=7)) == 7


def test_memory_that_ran_out_is_remembered_for_the_cells_that_follow(plan):
    found = plan().cells
    network = UNet(found[0].model, image_channels=1, side=8, num_classes=10)
    ready, guided = Ready(Networks(Compiled(network, 120)), 1000), found[-1].sampling
    batches = ready.batches(found)
    assert [len(next(batches)) for _ in range(3)] == [1, 1, 3]
    ready.halve(3 * 20, guided)
    assert [len(batch) for batch in batches] == [1, 1, 1]
    assert (ready.images(guided), ready.most(found), ready.networks.denoiser.batch) == (20, 40, 60)
    ready.halve(20, guided)
    assert [ready.images(Sampling(w=w, batch_size="auto")) for w in (0.0, 1.0)] == [20, 10]
    ready.halve(1, Sampling(w=0.0))
    assert ready.images(Sampling(w=1.0)) == 1


@pytest.fixture
def sweep(plan, run, monkeypatch):
    """Runs the sweep into a folder; with `rows`, as on a GPU that so many fill. Gives rows by w and T, and batches."""
    made, honest = networks.made_fast, filling.generate

    def go(folder, rows=None, generate=honest, code=0):
        plan()
        seen = []

        def watched(networks, sampling, indices, shape, precision, w=None):
            seen.append((len(indices), {sampling.w} if w is None else set(w.tolist())))
            return generate(networks, sampling, indices, shape, precision, w)

        monkeypatch.setattr(filling, "generate", watched)
        monkeypatch.setattr(networks, "made_fast", lambda *given: Ready(made(*given).networks, rows))
        assert run("sweep", "small.yaml", "--precision", "fp32", "--quiet", "--results", folder)[0] == code
        files = Path(folder, "small/cells").glob("*.parquet")
        found = [pd.read_parquet(file).iloc[0].to_dict() for file in files]
        return {(row["w"], row["T"]): row for row in found}, seen

    return go


NUMBERS = ["fid", "is_mean", "is_std", "is_se"]


def test_cells_that_share_batches_have_the_rows_and_sheets_of_cells_that_do_not(sweep):
    honest = filling.generate

    def tinted(networks, sampling, indices, shape, precision, w=None):
        """Each strength has images of its own, which two steps of training do not give it."""
        tint = torch.full((len(indices),), sampling.w) if w is None else w
        return honest(networks, sampling, indices, shape, precision, w) + (20 * tint).byte()[:, None, None, None]

    alone, one_by_one = sweep("alone", generate=tinted)
    shared, together = sweep("together", rows=400, generate=tinted)
    assert {count for count, _ in one_by_one} == {20}
    assert len(one_by_one) == 8 * 3
    assert together == [(20, {0.0})] * 6 + [(60, {0.5, 1.0, 2.0})] * 6
    assert set(alone) == set(shared)
    for key, row in alone.items():
        assert [shared[key][name] for name in NUMBERS] == pytest.approx([row[name] for name in NUMBERS], rel=1e-5)
        sheets = [
            np.asarray(Image.open(f"{folder}/small/samples/{row['cell_id']}.png")) for folder in ("alone", "together")
        ]
        assert (np.abs(np.subtract(*map(np.int64, sheets))) > 1).mean() < 1e-3
    one, *others = (shared[w, 4]["seconds"] for w in (0.5, 1.0, 2.0))
    assert others == pytest.approx([one, one])  # each its share of the time, which is then not counted three times


@pytest.mark.parametrize("rows", [None, 400])
def test_the_seconds_of_all_cells_are_those_that_their_batches_took(sweep, monkeypatch, rows):
    spent = {"images": 0.0, "batches": 0.0}

    def timed(name, function):
        def inner(*given):
            began = time.monotonic()
            found = function(*given)
            spent[name] += time.monotonic() - began
            return found

        return inner

    monkeypatch.setattr(filling, "_make", timed("batches", filling._make))
    found, _ = sweep("results", rows=rows, generate=timed("images", filling.generate))
    assert spent["images"] <= sum(row["seconds"] for row in found.values()) <= spent["batches"]


@pytest.mark.parametrize("error", [ValueError("the sampler gave values that are not finite"), SystemExit(3)])
def test_what_goes_wrong_in_one_cell_of_a_batch_fails_that_cell_alone(sweep, error):
    honest = filling.generate

    def broken(networks, sampling, indices, shape, precision, w=None):
        if (2.0 in (sampling.w, *(() if w is None else w.tolist()))) and sampling.T == 4:
            raise error
        return honest(networks, sampling, indices, shape, precision, w)

    rows, _ = sweep("results", rows=400, generate=broken, code=1)
    assert {key for key, row in rows.items() if row["status"] != "ok"} == {(2.0, 4)}


def test_for_cells_that_others_are_at_no_network_is_loaded_and_measured(plan, monkeypatch):
    made, loaded = plan(), []
    bench = Bench(made, extractor=None, features=None, reference=None, compute=None)
    prepare_folder(made)
    monkeypatch.setattr(running, "ready_for", lambda *_: loaded.append(1))
    with ExitStack() as others:
        assert all(others.enter_context(made.store.claim(cell.id)) for cell in made.cells)
        assert list(running._run_group(bench, made.cells)) == []
        assert loaded == []
    assert list(running._run_group(bench, made.cells)) == []
    assert loaded == [1]


def test_what_another_process_has_no_memory_for_is_done_all_the_same(plan, run, monkeypatch):
    """That process marks all cells as failed, also those that this one has yet to come to."""
    mine, compute = plan(grid="{w: [0, 1], T: [4]}"), Compute(torch.device("cpu"), "fp32")
    honest = running.ready_for
    for error, left in ((ValueError("broken"), 0), (torch.OutOfMemoryError("CUDA out of memory"), 2)):
        monkeypatch.setattr(running, "out_of_memory", lambda _: True)  # else a broken network of ours ends the sweep
        monkeypatch.setattr(running, "ready_for", lambda *_, error=error: (_ for _ in ()).throw(error))
        assert run("sweep", "small.yaml", "--quiet", "--precision", "fp32")[0] == 1
        monkeypatch.setattr(running, "ready_for", honest)
        assert [row["status"] for row in running.run(mine, compute, progress=silent)] == ["ok"] * left


def test_cells_without_networks_that_others_are_at_are_left_to_them(plan, monkeypatch):
    made = plan(grid="{w: [0, 1, 2], T: [4]}")
    prepare_folder(made)
    monkeypatch.setattr(running, "_failed", lambda bench, cell, error: cell.id)
    monkeypatch.setattr(running, "_put", lambda bench, row: row)
    bench = Bench(made, extractor=None, features=None, reference=None, compute=None)
    left = []

    def failing():
        left.extend((yield from running._without_networks(bench, made.cells, torch.OutOfMemoryError("no memory"))))

    with made.store.claim(made.cells[1].id):
        assert list(failing()) == [made.cells[0].id, made.cells[2].id]
    assert left == [made.cells[1]]


def test_out_of_memory_a_shared_batch_is_halved_and_the_images_are_the_same(sweep):
    honest = filling.generate

    def small(networks, sampling, indices, *rest):
        if len(indices) > 31:
            raise torch.OutOfMemoryError("not enough memory")
        return honest(networks, sampling, indices, *rest)

    alone, _ = sweep("alone")
    shared, seen = sweep("together", rows=400, generate=small)
    assert [count for count, strengths in seen if len(strengths) > 1][:3] == [60, 30, 30]
    assert [count for count, _ in seen if count > 31] == [60]  # it runs out once, not with each batch of cells
    for key, row in alone.items():
        assert shared[key]["fid"] == pytest.approx(row["fid"], rel=1e-5)


@pytest.mark.parametrize(("rows", "where", "at"), [(None, "_write", 1), (400, "_space", 4), (400, "_write", 4)])
def test_out_of_memory_as_a_batch_is_kept_no_image_is_kept_twice(sweep, monkeypatch, rows, where, at):
    alone, _ = sweep("alone")
    honest, calls, clear, there = getattr(Shards, where), [], Shards.clear, []

    def once(*given):
        calls.append(given)
        if len(calls) == at:
            raise MemoryError
        return honest(*given)

    def seen(shards, **how):
        there.append([image for images in sorted(shards.files, key=lambda one: one.start) for image in images])
        clear(shards, **how)

    monkeypatch.setattr(Shards, where, once)
    monkeypatch.setattr(Shards, "clear", seen)
    shared, _ = sweep("together", rows=rows)
    assert len(calls) > at
    assert there == [list(range(60))] * 8
    for key, row in alone.items():
        assert [shared[key][name] for name in NUMBERS] == pytest.approx([row[name] for name in NUMBERS], rel=1e-5)


def test_stopped_in_a_shared_batch_what_is_made_stays_made(sweep):
    honest, calls = filling.generate, []

    def stopped(*given):
        calls.append(given)
        if len(calls) == 9:  # the second of the second shared batch's three
            raise KeyboardInterrupt
        return honest(*given)

    alone, _ = sweep("alone")
    sweep("together", rows=400, generate=stopped, code=130)
    shared, seen = sweep("together", rows=400)
    assert [count for count, _ in seen] == [60] * 4
    for key, row in alone.items():
        assert shared[key]["fid"] == pytest.approx(row["fid"], rel=1e-5)
