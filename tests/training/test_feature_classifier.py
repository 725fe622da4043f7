"""The classifier that is trained on a folder's images to measure them."""

import os
from dataclasses import replace

import numpy as np
import pytest
import torch

from cfgbench.data import Images
from cfgbench.errors import UserError
from cfgbench.models.feature_classifier import accuracy
from cfgbench.tensors import load_tensors, save_tensors
from cfgbench.training import feature_classifier
from cfgbench.training.feature_classifier import train_classifier

CPU = torch.device("cpu")
STEPS = 9
"""Three epochs of three batches: 128, 128 and 44 images."""


@pytest.fixture(scope="module")
def images():
    """Two classes that differ in brightness."""
    labels = np.arange(300, dtype=np.int64) % 2
    pixels = np.random.default_rng(0).integers(0, 60, (300, 1, 8, 8)) + 190 * labels[:, None, None, None]
    return Images("two", pixels.astype(np.uint8), labels, ("dark", "bright"), flips=False)


@pytest.fixture
def train(images, tmp_path, monkeypatch):
    """train(stop=5) trains in a.partial, saved after each step, until its step 5 is made; `train.made` counts those
    that were made."""
    monkeypatch.setattr(feature_classifier, "_epochs", lambda images: 3)
    monkeypatch.setattr(feature_classifier, "SECONDS_BETWEEN_SAVES", -1.0)
    augmented = feature_classifier._augmented

    def until(stop):
        def counted(*given):
            if train.made == stop:
                raise KeyboardInterrupt
            train.made += 1
            return augmented(*given)

        return counted

    def train(images=images, stop=None, begun_in=tmp_path / "a.partial"):
        train.made = 0
        monkeypatch.setattr(feature_classifier, "_augmented", until(stop))
        return train_classifier(images, device=CPU, begun_in=begun_in)

    return train


def same(one, other):
    return all(map(torch.equal, one.state_dict().values(), other.state_dict().values()))


def test_it_learns_and_trained_twice_it_is_the_same(images, monkeypatch):
    monkeypatch.setattr(feature_classifier, "_epochs", lambda images: 8)
    networks = [train_classifier(images, device=CPU) for _ in range(2)]
    assert accuracy(networks[0], torch.from_numpy(images.images), torch.from_numpy(images.labels)) == 1
    assert same(*networks)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("flips", [False, True])
def test_a_training_that_is_stopped_twice_ends_in_the_same_weights(images, train, flips):
    """Within an epoch, and at the end of one."""
    images = replace(images, flips=flips)
    whole = train(images, begun_in=None)
    assert train.made == STEPS
    for stop in 2, 4:  # of each run's own steps
        with pytest.raises(KeyboardInterrupt):
            train(images, stop)
        assert train.made == stop
    assert same(train(images), whole)
    assert train.made == STEPS - 6


def test_half_of_the_images_are_mirrored_where_that_is_allowed_and_all_are_shifted(images):
    def drawn(**changes):
        return list(feature_classifier._draws(replace(images, **changes), torch.Generator().manual_seed(0)))

    assert {draw.mirrored for draw in drawn()} == {None}
    mirrored = torch.cat([draw.mirrored for draw in drawn(flips=True)]).double().mean()
    assert mirrored == pytest.approx(0.5, abs=0.05)
    assert {(draw.down, draw.right) for draw in drawn()} == {(y, x) for y in (-1, 0, 1) for x in (-1, 0, 1)}
    pixels = torch.zeros(2, 1, 8, 8, dtype=torch.uint8)
    pixels[:, 0, 3, 4] = 255
    x = feature_classifier._augmented(pixels, feature_classifier._Draw(None, 1, 0, torch.tensor([False, True])))
    assert (x > 0).nonzero().tolist() == [[0, 0, 2, 4], [1, 0, 2, 3]]  # a row further down


def test_one_that_was_stopped_when_all_steps_were_made_makes_no_other(images, train):
    whole = train()
    assert same(train(), whole)
    assert train.made == 0


@pytest.mark.parametrize("other", ["images", "flips", "recipe", "precision"])
def test_what_was_begun_of_other_images_is_not_gone_on_from(images, train, monkeypatch, other):
    with pytest.raises(KeyboardInterrupt):
        train(stop=3)
    if other == "recipe":
        monkeypatch.setattr(feature_classifier, "RECIPE", feature_classifier.RECIPE + 1)
    if other == "precision":
        one = feature_classifier.resolve_precision("auto", CPU)
        monkeypatch.setattr(feature_classifier, "resolve_precision", lambda *_: {"fp32": "bf16", "bf16": "fp32"}[one])
    mirrored = Images(images.name, images.images[..., ::-1].copy(), images.labels, images.class_names, flips=False)
    changed = {"images": mirrored, "flips": replace(images, flips=True), "recipe": images, "precision": images}[other]
    whole = train(changed, begun_in=None)
    assert same(train(changed), whole)
    assert train.made == STEPS


def test_what_may_not_be_read_is_left_alone(train, tmp_path, monkeypatch):
    with pytest.raises(KeyboardInterrupt):
        train(stop=3)
    before = (tmp_path / "a.partial").read_bytes()
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(UserError, match=r"a\.partial: cannot be read \(permission denied\); nothing is made"):
        train()
    assert (train.made, (tmp_path / "a.partial").read_bytes()) == (0, before)


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        ("network.", lambda tensor: tensor[:1]),
        ("network.", torch.Tensor.double),
        ("optimizer.exp_avg_sq.", lambda tensor: tensor[:1]),
        ("optimizer.step.", torch.Tensor.long),
        ("step", lambda step: STEPS + 1),
        ("step", lambda step: 0),
        ("step", str),
        ("bytes", lambda content: content[:-10]),
    ],
)
def test_what_does_not_fit_is_begun_again(train, tmp_path, kind, change):
    whole, path = train(begun_in=None), tmp_path / "a.partial"
    with pytest.raises(KeyboardInterrupt):
        train(stop=3)
    tensors, header = load_tensors(path)
    if kind == "bytes":
        path.write_bytes(change(path.read_bytes()))
    elif kind == "step":
        save_tensors(path, tensors, header | {"step": change(header["step"])})
    else:
        name = next(name for name in tensors if name.startswith(kind) and (tensors[name].dim() or "step" in kind))
        save_tensors(path, tensors | {name: change(tensors[name])}, header)
    assert same(train(), whole)
    assert train.made == STEPS
