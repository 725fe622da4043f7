import csv

import numpy as np
import pytest
import torch

from cfgbench.data import Images
from cfgbench.models.checkpoint import load_denoiser, load_tensors
from cfgbench.models.classifier import accuracy
from cfgbench.spec import Model, Training
from cfgbench.training import diffusion
from cfgbench.training.classifier import train_classifier
from cfgbench.training.diffusion import TrainingFailed, train

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


def run(images, path, training, **keys):
    train(images, MODEL, training, path, device=CPU, precision="fp32", **keys)


def test_training_that_was_stopped_ends_in_the_same_weights(images, tmp_path, monkeypatch):
    run(images, tmp_path / "whole.safetensors", spec())
    path = tmp_path / "parts.safetensors"
    inner = diffusion._step
    for stop in (7, 18):  # killed between saves: what is on the disk is older than what is lost

        def step(state, *args, stop=stop, **keys):
            if state.step == stop:
                raise RuntimeError("killed")
            inner(state, *args, **keys)

        monkeypatch.setattr(diffusion, "_step", step)
        monkeypatch.setattr(diffusion, "SECONDS_BETWEEN_SAVES", -1.0)
        with pytest.raises(RuntimeError, match="killed"):
            run(images, path, spec())
        assert not path.exists()
        assert load_tensors(path.with_suffix(".partial"))[1]["step"] == stop
    monkeypatch.setattr(diffusion, "_step", inner)
    run(images, path, spec())
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
    assert load_denoiser(tmp_path / "slow.safetensors", CPU).num_classes == 2


def test_every_epoch_visits_every_image_once_in_another_order():
    epochs = [diffusion._order(0, 10, start, 10).tolist() for start in (0, 10, 20)]
    assert all(sorted(epoch) == list(range(10)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 3
    across = diffusion._order(0, 10, 7, 16).tolist()
    assert across == epochs[0][7:] + epochs[1] + epochs[2][:3]


def test_a_loss_that_is_no_number_stops_training_and_leaves_no_checkpoint(images, tmp_path):
    with pytest.raises(TrainingFailed, match=r"lower training\.learning_rate"):
        run(images, tmp_path / "a.safetensors", spec(learning_rate=1e30, warmup_steps=0))
    assert not (tmp_path / "a.safetensors").exists()


def test_training_leaves_the_global_randomness_alone(images, tmp_path):
    before = torch.get_rng_state()
    run(images, tmp_path / "a.safetensors", spec(steps=2))
    assert torch.equal(torch.get_rng_state(), before)


def test_a_classifier_learns_and_training_it_twice_gives_the_same(images):
    networks = [train_classifier(images, device=CPU, epochs=8) for _ in range(2)]
    assert accuracy(networks[0], torch.from_numpy(images.images), torch.from_numpy(images.labels)) == 1
    assert torch.equal(networks[0].head.weight, networks[1].head.weight)
