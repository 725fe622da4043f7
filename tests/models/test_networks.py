import pytest
import torch

from cfgbench import data
from cfgbench.data.fashion_mnist import DEBIAN
from cfgbench.errors import UserError
from cfgbench.models import feature_classifier
from cfgbench.models import unet as networks
from cfgbench.models.checkpoint import NETWORKS, load_network
from cfgbench.models.layers import Conv
from cfgbench.models.unet import UNet, level_sides
from cfgbench.spec import Dataset, Model
from cfgbench.tensors import load_tensors, save_tensors
from cfgbench.training.feature_classifier import train_and_test


def unet(channels=1, side=8, **keys):
    network = UNet(Model(**{"channels": 16, **keys}), image_channels=channels, side=side, num_classes=3)
    generator = torch.Generator().manual_seed(0)
    for parameter in network.parameters():  # what begins at zero too, so that every path is seen
        torch.nn.init.normal_(parameter, std=0.1, generator=generator)
    return network.eval()


@pytest.mark.parametrize(
    ("channels", "side", "keys"),
    [
        (1, 8, {}),
        (3, 8, {"attention": [8, 4]}),
        (2, 28, {"multipliers": [1, 2, 2]}),
        (3, 20, {"blocks": 2}),
        (1, 9, {"multipliers": [1]}),
    ],
)
def test_eps_has_the_shape_of_z_and_depends_on_all_that_it_is_told(channels, side, keys):
    network = unet(channels, side, **keys)
    z = torch.randn(2, channels, side, side, generator=torch.Generator().manual_seed(1))
    lam, c = torch.zeros(2), torch.tensor([0, 3])
    with torch.no_grad():
        eps = network(z, lam, c)
        assert eps.shape == z.shape
        for other in (network(z + 1, lam, c), network(z, lam + 1, c), network(z, lam, torch.tensor([1, 2]))):
            assert ((other - eps).abs().amax(dim=(1, 2, 3)) > 1e-4).all()


def test_a_new_network_predicts_zero():
    network = UNet(Model(channels=16), image_channels=1, side=8, num_classes=3)
    assert network(torch.randn(2, 1, 8, 8), torch.zeros(2), torch.zeros(2, dtype=torch.long)).abs().max() == 0


def test_images_of_a_batch_do_not_see_each_other():
    network = unet(attention=[4])
    z = torch.randn(6, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    lam, c = torch.linspace(-5, 5, 6), torch.arange(6) % 3
    with torch.no_grad():
        alone = torch.cat([network(z[i : i + 1], lam[i : i + 1], c[i : i + 1]) for i in range(6)])
        assert torch.allclose(network(z, lam, c), alone, atol=1e-5)


def test_a_processor_takes_so_many_images_at_a_time_that_they_fit_its_caches(monkeypatch):
    network, seen = unet(attention=[4]), []
    network.first.register_forward_hook(lambda module, inputs, output: seen.append(len(output)))
    z = torch.randn(10, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    lam, c = torch.linspace(-5, 5, 10), torch.arange(10) % 3
    with torch.no_grad():
        whole = network(z, lam, c)
        monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
        monkeypatch.setattr(networks, "BYTES_A_CORE", 2 * 8 * 8 * 16 * 4)  # two images' float32 maps of 16 channels
        parts = network(z, lam, c)
        assert seen == [10, 4, 4, 2]
        assert torch.allclose(parts, whole, atol=1e-5)
        monkeypatch.setattr(networks, "BYTES_A_CORE", 1)
        assert network.at_once(z) == 1
    assert len(network(z, lam, c)) == 10  # where gradients are wanted all go through together
    assert seen[4:] == [10]


def test_the_embedding_tells_log_snrs_apart_over_the_whole_range():
    embedding = unet().embedding
    lam = torch.linspace(-20, 20, 81)
    with torch.no_grad():
        steps = embedding(lam, torch.zeros(81, dtype=torch.long)).diff(dim=0).norm(dim=1)
    assert steps[20:60].min() > 1e-3


def test_levels_that_do_not_fit_say_so():
    with pytest.raises(ValueError, match="3 levels need an image side that 4 divides, not 10"):
        level_sides(Model(multipliers=[1, 2, 2]), 10)
    with pytest.raises(ValueError, match=r"16 is none of the levels' sides \[8, 4\]"):
        level_sides(Model(attention=[16]), 8)


def test_a_checkpoint_gives_the_network_back_and_a_damaged_one_is_named(tmp_path):
    network, path = unet(), tmp_path / "c.safetensors"
    image = {"image_channels": 1, "side": 8, "num_classes": 3}
    save_tensors(path, dict(network.named_parameters()), {"model": Model(channels=16).model_dump(), "image": image})
    again = load_network(path, "denoiser", torch.device("cpu"))
    z = torch.randn(2, 1, 8, 8)
    assert torch.equal(
        again(z, torch.zeros(2), torch.zeros(2, dtype=torch.long)),
        network(z, torch.zeros(2), torch.zeros(2, dtype=torch.long)),
    )
    assert load_tensors(path)[1]["image"] == image
    whole = path.read_bytes()
    flipped = bytes([*whole[:-100], whole[-100] ^ 1, *whole[-99:]])
    for damaged in (whole[:-100], whole[:50], b"", b"text", flipped):
        path.write_bytes(damaged)
        with pytest.raises(UserError, match=r"c\.safetensors: not a whole file of cfgbench"):
            load_network(path, "denoiser", torch.device("cpu"))


@pytest.mark.parametrize(("name", "least"), [("digits", 0.98), ("fashion-mnist", 0.91)])
def test_the_shipped_classifiers_are_as_good_as_they_say(name, least):
    if name == "fashion-mnist" and not DEBIAN.exists():
        pytest.skip("Debian's dataset-fashion-mnist is not installed")
    path = feature_classifier.packaged(name)
    assert path.stat().st_size < 1.5e6
    network = feature_classifier.load(path)
    facts = load_tensors(path, expected=feature_classifier.DIGESTS[name])[1]
    learned, unseen, _ = train_and_test(name)
    right = feature_classifier.accuracy(network, torch.from_numpy(unseen.images), torch.from_numpy(unseen.labels))
    assert right >= least
    assert right == pytest.approx(facts["accuracy"], abs=2e-3)
    assert facts["data"] == learned.content
    with torch.no_grad():
        pooled, logits = network(torch.from_numpy(unseen.images[:300]).float() / 127.5 - 1)
    assert (pooled.std(dim=0) > 1e-4).all()
    assert torch.allclose(logits, network.head(pooled))


def test_a_classifier_survives_the_disk(tmp_path):
    network = feature_classifier.FeatureClassifier(3, 16, 5, 8).eval()
    feature_classifier.save(tmp_path / "c.safetensors", network, accuracy=0.5)
    x = torch.randn(2, 3, 16, 16)
    assert torch.equal(feature_classifier.load(tmp_path / "c.safetensors")(x)[1], network(x)[1])
    (tmp_path / "c.safetensors").write_bytes(b"cut")
    with pytest.raises(UserError, match=r"c\.safetensors"):
        feature_classifier.load(tmp_path / "c.safetensors")


def test_digits_are_held_out():
    learned, unseen, _ = train_and_test("digits")
    assert (len(learned.images), len(unseen.images)) == (1437, 360)
    assert not {image.tobytes() for image in learned.images} & {image.tobytes() for image in unseen.images}
    assert len(data.load(Dataset(name="digits")).images) == 1797


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("kind", ["denoiser", "classifier"])
def test_channels_lie_last_in_training_whatever_their_number(kind, channels):
    """What one channel begins channels first stays so: convolutions keep the order in memory that they find."""
    facts = {"image_channels": channels, "side": 8, "num_classes": 10}
    network = NETWORKS[kind](Model(channels=8, multipliers=[1, 2], attention=[4]), **facts)
    laid_out = []
    for module in network.modules():
        if isinstance(module, Conv):
            module.register_forward_hook(lambda _, given, found: laid_out.append(found.is_contiguous()))
    z, lam, c = torch.randn(4, channels, 8, 8), torch.zeros(4), torch.arange(4)
    network(z, lam, *([c] if kind == "denoiser" else [])).sum().backward()
    assert len(laid_out) > 5
    assert all(laid_out)
