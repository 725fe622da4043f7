import csv
import math
import signal
from contextlib import nullcontext

import numpy as np
import pytest
import torch

from cfgbench.data import Images
from cfgbench.errors import UserError
from cfgbench.models.checkpoint import load_network
from cfgbench.models.precision import Compute, resolve_precision
from cfgbench.models.unet import UNet
from cfgbench.spec import Model, Network, Training
from cfgbench.tensors import load_tensors, save_tensors
from cfgbench.training import diffusion
from cfgbench.training import feed as feeds
from cfgbench.training import state as states
from cfgbench.training.diffusion import train
from cfgbench.training.distributed import Group
from cfgbench.training.facts import image_of
from cfgbench.training.feed import Feed, order
from cfgbench.training.state import TrainingFailed, begin, load
from cfgbench.training.step import Step

CPU = torch.device("cpu")
MODEL = Model(channels=8, multipliers=[1], dropout=0.1)


@pytest.fixture(scope="module")
def images():
    """Two classes that differ in brightness."""
    rng = np.random.default_rng(0)
    labels = np.arange(60, dtype=np.int64) % 2
    pixels = rng.integers(0, 60, (60, 1, 8, 8)) + 190 * labels[:, None, None, None]
    return Images("two", pixels.astype(np.uint8), labels, ("dark", "bright"), flips=False)


def spec(**keys):
    return Training(
        **{"steps": 30, "batch_size": 16, "learning_rate": 3e-3, "warmup_steps": 5, "ema_decay": 0.9, **keys}
    )


def weights(path):
    return load_tensors(path)[0]


def run(images, path, training, kind="denoiser", model=MODEL, precision="fp32", name="", **keys):
    train(images, Network(kind, name, model, training), path, Compute(CPU, precision), **keys)


@pytest.mark.parametrize(("kind", "precision"), [("denoiser", "fp32"), ("classifier", "fp32"), ("denoiser", "fp16")])
def test_training_that_was_stopped_ends_in_the_same_weights(images, tmp_path, monkeypatch, kind, precision):
    settings = {"kind": kind, "precision": precision}
    run(images, tmp_path / "whole.safetensors", spec(p_uncond=0.0), **settings)
    path = tmp_path / "parts.safetensors"
    for stop in (7, 18):  # killed between saves: what is on the disk is older than what is lost

        class Stopped(Step):
            def __call__(self, stop=stop):
                if self.state.step == stop:
                    raise RuntimeError("killed")
                super().__call__()

        monkeypatch.setattr(diffusion, "Step", Stopped)
        monkeypatch.setattr(diffusion, "SECONDS_BETWEEN_SAVES", -1.0)
        monkeypatch.setattr(diffusion, "SHARE_OF_SAVING", float("inf"))
        with pytest.raises(RuntimeError, match="killed"):
            run(images, path, spec(p_uncond=0.0), **settings)
        assert not path.exists()
        header = load_tensors(path.with_suffix(".partial"))[1]
        assert header["step"] == stop
        assert header["scaler"].get("_growth_tracker", stop) == stop  # of fp16: steps since its scale changed last
    monkeypatch.setattr(diffusion, "Step", Step)
    run(images, path, spec(p_uncond=0.0), **settings)
    whole, parts = weights(tmp_path / "whole.safetensors"), weights(path)
    assert all(torch.equal(whole[name], parts[name]) for name in whole)
    assert path.with_suffix(".losses.csv").read_text() == (tmp_path / "whole.losses.csv").read_text()
    assert not path.with_suffix(".partial").exists()


def test_ctrl_c_saves_where_it_was(images, tmp_path):
    def stop(task, done, total, note):
        if done == 20:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(images, tmp_path / "a.safetensors", spec(), progress=stop)
    assert load_tensors(tmp_path / "a.partial")[1]["step"] == 20


def test_what_a_stopped_training_saves_is_not_stopped_too(images, tmp_path, monkeypatch):
    """Torchrun sends SIGTERM after the Ctrl-C that its processes have from the terminal; and people press it twice."""
    honest = states.save_tensors

    def stop(task, done, total, note):
        if done:
            raise KeyboardInterrupt

    def twice(*given):
        signal.raise_signal(signal.SIGINT)
        honest(*given)

    monkeypatch.setattr(states, "save_tensors", twice)
    with pytest.raises(KeyboardInterrupt):
        run(images, tmp_path / "a.safetensors", spec(), progress=stop)
    assert load_tensors(tmp_path / "a.partial")[1]["step"] == 20


def test_a_training_in_progress_is_gone_on_from_in_its_precision_or_not_at_all(images, tmp_path):
    def stop(task, done, total, note):
        if done == 20:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(images, tmp_path / "a.safetensors", spec(), progress=stop, precision="bf16")
    before = (tmp_path / "a.partial").read_bytes()
    said = r"a\.partial: begun in bf16; take --precision bf16, or delete it to train from the beginning"
    with pytest.raises(UserError, match=said):
        run(images, tmp_path / "a.safetensors", spec())
    assert (tmp_path / "a.partial").read_bytes() == before
    run(images, tmp_path / "a.safetensors", spec(), precision="bf16")


def test_a_training_in_progress_is_gone_on_from_by_its_own_network_alone(images, tmp_path, monkeypatch):
    """Other data gives another name to settings that are the same; earlier versions lacked keys that there are now."""

    def stop(task, done, total, note):
        if done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(images, tmp_path / "a.safetensors", spec(), name="a", progress=stop)
    said = (
        r"a\.partial: a training in progress of another network \(trained on other data\); delete it, and it is trained"
    )
    with pytest.raises(UserError, match=said):
        run(images, tmp_path / "a.safetensors", spec(), name="b")
    said = r"a\.partial: .* of another network \(training\.batch_size = 16, not 8\)"
    with pytest.raises(UserError, match=said):
        run(images, tmp_path / "a.safetensors", spec(batch_size=8), name="a")
    tensors, header = load_tensors(tmp_path / "a.partial")
    del header["training"]["gradient_clip"], header["id"]
    states.save_tensors(tmp_path / "a.partial", tensors, header)
    seen = []

    class Seen(Step):
        def __call__(self):
            seen.append(self.state.step)
            super().__call__()

    monkeypatch.setattr(diffusion, "Step", Seen)
    run(images, tmp_path / "a.safetensors", spec(), name="a")
    assert seen[0] == 20


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        ("network.", lambda tensor: tensor[:1]),
        ("network.", torch.Tensor.half),
        ("ema.", lambda tensor: tensor[:1]),
        ("losses", lambda tensor: tensor[:1]),
        ("losses", torch.Tensor.double),
        ("optimizer.exp_avg.", lambda tensor: tensor[:1]),
        ("optimizer.exp_avg.", torch.Tensor.long),
        ("optimizer.exp_avg_sq.", lambda tensor: tensor.flatten()[:1]),
        ("optimizer.step.", lambda tensor: tensor.expand(3).clone()),
        ("optimizer.step.", torch.Tensor.long),
    ],
)
def test_a_training_in_progress_whose_tensors_do_not_fit_is_refused_before_anything_is_copied(
    images, tmp_path, kind, change
):
    def stop(task, done, total, note):
        if done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(images, tmp_path / "a.safetensors", spec(), progress=stop)
    tensors, header = load_tensors(tmp_path / "a.partial")
    name = next(name for name in tensors if name.startswith(kind) and (tensors[name].dim() != 1 or kind == "losses"))
    save_tensors(tmp_path / "a.partial", tensors | {name: change(tensors[name])}, header)
    state = begin(UNet(MODEL, **image_of(images)), spec(), CPU, "fp32")
    before = [parameter.clone() for parameter in state.network.parameters()]
    facts = {key: header[key] for key in header.keys() - {"step", "scaler", "compiled"}}
    with pytest.raises(UserError, match=rf"a\.partial: not a whole training in progress \({kind}.*; delete it to"):
        load(tmp_path / "a.partial", state, facts)
    assert (state.step, len(state.optimizer.state)) == (0, 0)
    assert all(map(torch.equal, before, state.network.parameters()))


@pytest.mark.parametrize(("number", "at"), [(signal.SIGINT, 7), (signal.SIGTERM, 0)])
def test_ctrl_c_within_an_update_waits_for_its_end(images, tmp_path, monkeypatch, number, at):
    run(images, tmp_path / "whole.safetensors", spec())
    average, calls = torch._foreach_lerp_, iter(range(1000))

    def interrupted(*given):
        if next(calls) == at:
            signal.raise_signal(number)  # AdamW has moved the weights, their average has not
        average(*given)

    monkeypatch.setattr(torch, "_foreach_lerp_", interrupted)
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            run(images, tmp_path / "a.safetensors", spec())
    finally:
        signal.signal(signal.SIGTERM, before)
    assert load_tensors(tmp_path / "a.partial")[1]["step"] == at + 1
    run(images, tmp_path / "a.safetensors", spec())
    whole, parts = weights(tmp_path / "whole.safetensors"), weights(tmp_path / "a.safetensors")
    assert all(torch.equal(whole[name], parts[name]) for name in whole)


def test_ctrl_c_in_the_first_step_is_no_damage(images, tmp_path, monkeypatch):
    run(images, tmp_path / "whole.safetensors", spec())
    with monkeypatch.context() as patched:
        patched.setattr(Step, "_loss", lambda *_: signal.raise_signal(signal.SIGINT))
        with pytest.raises(KeyboardInterrupt):
            run(images, tmp_path / "a.safetensors", spec())
    run(images, tmp_path / "a.safetensors", spec())
    whole, parts = weights(tmp_path / "whole.safetensors"), weights(tmp_path / "a.safetensors")
    assert all(torch.equal(whole[name], parts[name]) for name in whole)


def test_the_loss_falls_and_its_history_is_kept(images, tmp_path):
    run(images, tmp_path / "a.safetensors", spec(steps=150))
    rows = list(csv.DictReader((tmp_path / "a.losses.csv").open()))
    losses = [float(row["loss"]) for row in rows]
    assert [int(row["step"]) for row in rows] == list(range(1, 151))
    assert losses[0] == pytest.approx(1, abs=0.15)  # a network that predicts 0 of noise with variance 1
    assert np.mean(losses[-30:]) < 0.6 * losses[0]


@pytest.mark.parametrize("p_uncond", [0.0, 1.0])
def test_the_class_is_dropped_with_probability_p_uncond(images, tmp_path, p_uncond):
    path = tmp_path / "a.safetensors"
    run(images, path, spec(p_uncond=p_uncond, weight_decay=0.0))
    start = tmp_path / "b.safetensors"
    run(images, start, spec(p_uncond=p_uncond, steps=1, learning_rate=1e-12))
    moved = (weights(path)["embedding.classes.weight"] - weights(start)["embedding.classes.weight"]).abs().amax(dim=1)
    assert (moved > 1e-6).tolist() == ([True, True, False] if p_uncond == 0 else [False, False, True])


def test_the_ema_is_what_is_sampled(images, tmp_path):
    run(images, tmp_path / "slow.safetensors", spec(ema_decay=0.99))
    run(images, tmp_path / "none.safetensors", spec(ema_decay=0.0))
    slow, none = weights(tmp_path / "slow.safetensors"), weights(tmp_path / "none.safetensors")
    assert any(not torch.equal(slow[name], none[name]) for name in slow)
    assert load_network(tmp_path / "slow.safetensors", "denoiser", CPU).num_classes == 2


def test_every_epoch_visits_every_image_once_in_another_order():
    epochs = [order(0, 10, range(start, start + 10)).tolist() for start in (0, 10, 20)]
    assert all(sorted(epoch) == list(range(10)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 3
    across = order(0, 10, range(7, 23)).tolist()
    assert across == epochs[0][7:] + epochs[1] + epochs[2][:3]


PLAIN = MODEL.model_copy(update={"dropout": 0.0, "multipliers": [1, 2]})


@pytest.fixture(scope="module")
def undivided(images, tmp_path_factory):
    path = tmp_path_factory.mktemp("undivided") / "whole.safetensors"
    run(images, path, spec(), model=PLAIN)
    return weights(path)


@pytest.mark.parametrize("keys", [{"micro_batch_size": 5}, {"recompute": True}, {"micro_batch_size": 1}])
def test_how_the_batch_is_divided_changes_the_weights_by_rounding_only(images, undivided, tmp_path, keys):
    run(images, tmp_path / "parts.safetensors", spec(**keys), model=PLAIN)
    whole, parts = undivided, weights(tmp_path / "parts.safetensors")
    assert max((whole[name] - parts[name]).abs().max().item() for name in whole) < 1e-5


def test_a_group_shares_each_batch_and_each_place_is_drawn_alike(images):
    whole = Feed(images, spec(), range(16), CPU)
    wanted = whole.draw(*whole.batch(3))
    shares = [Feed(images, spec(), Group(rank, 3).share(16), CPU) for rank in range(3)]
    assert [len(feed.share) for feed in shares] == [5, 5, 6]
    drawn = zip(*(feed.draw(*feed.batch(3)) for feed in shares), strict=True)
    assert all(torch.equal(torch.cat(parts), whole) for parts, whole in zip(drawn, wanted, strict=True))


def test_what_is_drawn_has_the_laws_of_algorithm_1(images):
    feed = Feed(images, spec(batch_size=4000, p_uncond=0.3), range(4000), CPU)
    x, c, lam, eps = feed.draw(*feed.batch(0))
    assert x.abs().max() <= 1
    assert (c == 2).float().mean().item() == pytest.approx(0.3, abs=0.03)
    assert eps.std().item() == pytest.approx(1, abs=0.01)
    # u = atan(e^(-lambda/2)) 2 / pi is uniform
    u = torch.atan(torch.exp(-lam / 2)) * 2 / np.pi
    assert np.allclose(np.quantile(u, [0.1, 0.5, 0.9]), [0.1, 0.5, 0.9], atol=0.03)
    again = feed.draw(*feed.batch(1))
    assert not torch.equal(eps, again[3])


def test_images_that_are_fetched_batch_by_batch_are_the_same(images, monkeypatch):
    held = Feed(images, spec(), range(4, 9), CPU)
    monkeypatch.setattr(feeds, "HELD_ON_DEVICE", 0)
    fetched = Feed(images, spec(), range(4, 9), CPU)
    for step in (0, 1, 5, 2):
        assert all(torch.equal(a, b) for a, b in zip(held.batch(step), fetched.batch(step), strict=True))
    fetched.close()


def test_half_precision_trains(images, tmp_path):
    run(images, tmp_path / "a.safetensors", spec(steps=60), precision="fp16")
    losses = [float(row["loss"]) for row in csv.DictReader((tmp_path / "a.losses.csv").open())]
    assert np.mean(losses[-10:]) < 0.9 * losses[0]


@pytest.mark.parametrize(
    ("precision", "broken", "stops"), [("fp16", 1, None), ("fp32", 1, 40), ("fp16", 30, None), ("fp16", 35, 60)]
)
def test_steps_that_fp16_skips_end_no_training_but_where_none_is_taken(
    images, tmp_path, monkeypatch, precision, broken, stops
):
    honest = Step._loss
    monkeypatch.setattr(
        Step,
        "_loss",
        lambda self, part: honest(self, part) * (1 if self.state.step - 25 not in range(broken) else math.nan),
    )
    with pytest.raises(TrainingFailed, match=f"the loss is nan at step {stops}") if stops else nullcontext():
        run(images, tmp_path / "a.safetensors", spec(steps=60), precision=precision)
    assert (tmp_path / "a.safetensors").exists() == (stops is None)


def test_a_training_in_fp16_that_took_no_step_is_no_checkpoint(images, tmp_path, monkeypatch):
    honest = Step._loss

    def broken(self, part):
        loss = honest(self, part)
        loss.register_hook(lambda gradient: gradient * math.inf)
        return loss

    monkeypatch.setattr(Step, "_loss", broken)
    with pytest.raises(TrainingFailed, match=r"the gradients were finite, in fp16, in no step so far: .* at step 10;"):
        run(images, tmp_path / "a.safetensors", spec(steps=10), precision="fp16")
    assert not (tmp_path / "a.safetensors").exists()


@pytest.mark.parametrize("stopped", [False, True])
def test_what_failed_does_not_take_the_place_of_what_was_saved_before(images, tmp_path, monkeypatch, stopped):
    """A step that broke the weights, as a faulty memory does once: the same command goes on from before it."""

    class Broken(Step):
        def __call__(self):
            super().__call__()
            if self.state.step == 25:
                self.state.network.last.bias.data[0] = math.nan
            if self.state.step == 27 and stopped:
                raise KeyboardInterrupt

    run(images, tmp_path / "whole.safetensors", spec())
    with monkeypatch.context() as patch:
        patch.setattr(diffusion, "Step", Broken)
        patch.setattr(diffusion, "SECONDS_BETWEEN_SAVES", -1.0)
        patch.setattr(diffusion, "SHARE_OF_SAVING", math.inf)
        with pytest.raises(KeyboardInterrupt if stopped else TrainingFailed):
            run(images, tmp_path / "a.safetensors", spec())
    assert load_tensors(tmp_path / "a.partial")[1]["step"] == 24
    run(images, tmp_path / "a.safetensors", spec())
    whole, found = weights(tmp_path / "whole.safetensors"), weights(tmp_path / "a.safetensors")
    assert all(torch.equal(whole[name], found[name]) for name in whole)


def test_how_far_a_training_is_is_told_from_its_beginning_and_of_slow_steps_each(images, tmp_path, monkeypatch):
    told = []
    monkeypatch.setattr(diffusion, "SECONDS_BETWEEN_LINES", 0.0)
    run(
        images,
        tmp_path / "a.safetensors",
        spec(steps=5),
        progress=lambda _, done, total, note: told.append((done, note)),
    )
    assert [done for done, _ in told] == [0, 1, 2, 3, 4, 5]
    assert all(note.startswith("loss ") for _, note in told[1:])


def test_slow_steps_are_told_of_and_no_sooner_judged(images, tmp_path, monkeypatch):
    """Of fp16 the first is often skipped."""
    honest, told = Step._loss, []
    monkeypatch.setattr(diffusion, "SECONDS_BETWEEN_LINES", 0.0)
    monkeypatch.setattr(
        Step, "_loss", lambda self, part: honest(self, part) * (math.inf if self.state.step == 0 else 1)
    )
    run(
        images, tmp_path / "a.safetensors", spec(steps=5), precision="fp16", progress=lambda *said: told.append(said[3])
    )
    assert [note.partition(",")[0] for note in told[:2]] == ["", "loss inf"]
    assert "inf" not in told[-1]


def test_ctrl_c_as_the_network_is_written_waits_for_it(images, tmp_path, monkeypatch):
    honest = states.save_tensors

    def stopped(*given):
        signal.raise_signal(signal.SIGINT)
        honest(*given)

    monkeypatch.setattr(states, "save_tensors", stopped)
    with pytest.raises(KeyboardInterrupt):
        run(images, tmp_path / "a.safetensors", spec(steps=2))
    assert load_tensors(tmp_path / "a.safetensors")[1]["kind"] == "denoiser"
    assert not (tmp_path / "a.partial").exists()


def test_weights_that_the_last_step_broke_are_no_checkpoint(images, tmp_path, monkeypatch):
    honest = Step._loss

    def broken(self, part):
        loss = honest(self, part)
        if self.state.step == 9:
            loss.register_hook(lambda gradient: gradient * math.inf)
        return loss

    monkeypatch.setattr(Step, "_loss", broken)
    with pytest.raises(TrainingFailed, match=r"the weights are not finite at step 10; lower training\.learning_rate"):
        run(images, tmp_path / "a.safetensors", spec(steps=10))
    assert not (tmp_path / "a.safetensors").exists()


def test_the_papers_network_takes_a_step_on_a_processor(tmp_path):
    """adm-64 at batch 1: a forward pass and a gradient step, at 296 M parameters."""
    pixels = np.random.default_rng(0).integers(0, 256, (4, 3, 64, 64), dtype=np.uint8)
    images = Images("photos", pixels, np.array([0, 1, 0, 1]), ("a", "b"), flips=True)
    training = Training(preset="adm-64", batch_size=1, steps=1, recompute=True)
    network = UNet(Model(preset="adm-64"), **image_of(images))
    state = begin(network, training, CPU, "fp32")
    before = network.last.weight.detach().clone()
    Step(state, Feed(images, training, range(1), CPU), resolve_precision("auto", CPU))()
    assert state.losses[0].item() == pytest.approx(1, abs=0.1)  # ends that begin at zero: eps is predicted as 0
    assert (network.last.weight - before).abs().max().item() == pytest.approx(3e-4, rel=0.01)  # Adam's first step


def test_a_loss_that_is_no_number_stops_training_and_leaves_no_checkpoint(images, tmp_path):
    with pytest.raises(TrainingFailed, match=r"the loss is .*; lower training\.learning_rate"):
        run(images, tmp_path / "a.safetensors", spec(learning_rate=1e30, warmup_steps=0))
    with pytest.raises(TrainingFailed, match=r"the classifier's loss is .*; lower classifier\.training\.learning_rate"):
        run(
            images,
            tmp_path / "b.safetensors",
            spec(learning_rate=1e30, warmup_steps=0, p_uncond=0.0),
            kind="classifier",
        )
    assert not (tmp_path / "a.safetensors").exists()


def test_training_leaves_the_global_randomness_alone(images, tmp_path):
    before = torch.get_rng_state()
    run(images, tmp_path / "a.safetensors", spec(steps=2))
    assert torch.equal(torch.get_rng_state(), before)
