"""ADM's released networks: names, shapes and arithmetic, against an independent account of what was published."""

import math

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from cfgbench.diffusion.sampler import ddim, sample
from cfgbench.diffusion.schedule import alpha, sampling_log_snrs, sigma
from cfgbench.errors import UserError
from cfgbench.models import adm
from cfgbench.models.adm import DiscreteTime, cosine_log_snrs, linear_log_snrs, load_adm, released_names, translate
from cfgbench.models.meta_device import shapes_only
from cfgbench.models.unet import Attention, UNet
from cfgbench.spec import Model

RELEASED = {
    "adm-64": {"channels": 192, "multipliers": (1, 2, 3, 4), "blocks": 3, "attention": (2, 4, 8)},
    "adm-128": {"channels": 256, "multipliers": (1, 1, 2, 3, 4), "blocks": 2, "attention": (4, 8, 16)},
}
SIDES = {"adm-64": 64, "adm-128": 128}


def released_shapes(channels, multipliers, blocks, attention, classes=1000):
    """name -> shape of the published network; `attention` are factors of downsampling, as in ADM's own code."""
    found, width = {}, 4 * channels

    def both(name, *shape):
        found[f"{name}.weight"], found[f"{name}.bias"] = shape, shape[:1]

    def block(name, inputs, outputs):
        both(f"{name}.in_layers.0", inputs)
        both(f"{name}.in_layers.2", outputs, inputs, 3, 3)
        both(f"{name}.emb_layers.1", 2 * outputs, width)
        both(f"{name}.out_layers.0", outputs)
        both(f"{name}.out_layers.3", outputs, outputs, 3, 3)
        if inputs != outputs:
            both(f"{name}.skip_connection", outputs, inputs, 1, 1)

    def attend(name, width):
        both(f"{name}.norm", width)
        both(f"{name}.qkv", 3 * width, width, 1)
        both(f"{name}.proj_out", width, width, 1)

    both("time_embed.0", width, channels)
    both("time_embed.2", width, width)
    found["label_emb.weight"] = (classes, width)
    both("input_blocks.0.0", channels, 3, 3, 3)
    here, factor, number, kept = channels, 1, 1, [channels]
    for level, multiplier in enumerate(multipliers):
        for _ in range(blocks):
            block(f"input_blocks.{number}.0", here, multiplier * channels)
            here = multiplier * channels
            if factor in attention:
                attend(f"input_blocks.{number}.1", here)
            kept.append(here)
            number += 1
        if level < len(multipliers) - 1:
            block(f"input_blocks.{number}.0", here, here)
            kept.append(here)
            factor, number = 2 * factor, number + 1
    block("middle_block.0", here, here)
    attend("middle_block.1", here)
    block("middle_block.2", here, here)
    number = 0
    for level in reversed(range(len(multipliers))):
        for position in range(blocks + 1):
            block(f"output_blocks.{number}.0", here + kept.pop(), multipliers[level] * channels)
            here, part = multipliers[level] * channels, 1
            if factor in attention:
                attend(f"output_blocks.{number}.1", here)
                part = 2
            if level and position == blocks:
                block(f"output_blocks.{number}.{part}", here, here)
                factor //= 2
            number += 1
    both("out.0", channels)
    both("out.2", 6, channels, 3, 3)
    return found


def released_forward(tensors, z, t, c, *, blocks, levels, heads, head_by_head):
    """The published network's arithmetic, from its tensors by name."""

    def linear(name, x):
        return F.linear(x, tensors[f"{name}.weight"], tensors[f"{name}.bias"])

    def conv(name, x, padding=1):
        return F.conv2d(x, tensors[f"{name}.weight"], tensors[f"{name}.bias"], padding=padding)

    def norm(name, x):
        return F.group_norm(x, 32, tensors[f"{name}.weight"], tensors[f"{name}.bias"])

    def block(name, x, resize=lambda x: x):
        h = conv(f"{name}.in_layers.2", resize(F.silu(norm(f"{name}.in_layers.0", x))))
        scale, shift = linear(f"{name}.emb_layers.1", F.silu(embedding))[..., None, None].chunk(2, dim=1)
        h = conv(f"{name}.out_layers.3", F.silu(norm(f"{name}.out_layers.0", h) * (1 + scale) + shift))
        skip = f"{name}.skip_connection"
        return h + (conv(skip, resize(x), 0) if f"{skip}.weight" in tensors else resize(x))

    def attend(name, x):
        if f"{name}.qkv.weight" not in tensors:
            return x
        b, width, side, _ = x.shape
        flat = norm(f"{name}.norm", x).flatten(2)
        qkv = F.conv1d(flat, tensors[f"{name}.qkv.weight"], tensors[f"{name}.qkv.bias"])
        if head_by_head:
            q, k, v = qkv.reshape(b * heads, 3 * width // heads, -1).split(width // heads, dim=1)
        else:
            q, k, v = (part.reshape(b * heads, width // heads, -1) for part in qkv.chunk(3, dim=1))
        weight = (q.transpose(1, 2) @ k / math.sqrt(width // heads)).softmax(-1)
        h = (v @ weight.transpose(1, 2)).reshape(b, width, -1)
        h = F.conv1d(h, tensors[f"{name}.proj_out.weight"], tensors[f"{name}.proj_out.bias"])
        return x + h.reshape(b, width, side, side)

    half = tensors["time_embed.0.weight"].shape[1] // 2
    angles = t[:, None] * torch.exp(-math.log(10000) * torch.arange(half) / half)
    embedding = linear("time_embed.2", F.silu(linear("time_embed.0", torch.cat([angles.cos(), angles.sin()], dim=1))))
    embedding = embedding + tensors["label_emb.weight"][c]
    h = conv("input_blocks.0.0", z)
    kept = [h]
    for number in range(1, levels * (blocks + 1)):
        down = number % (blocks + 1) == 0
        h = block(f"input_blocks.{number}.0", h, (lambda x: F.avg_pool2d(x, 2)) if down else (lambda x: x))
        h = attend(f"input_blocks.{number}.1", h)
        kept.append(h)
    h = block("middle_block.2", attend("middle_block.1", block("middle_block.0", h)))
    for number in range(levels * (blocks + 1)):
        h = block(f"output_blocks.{number}.0", torch.cat([h, kept.pop()], dim=1))
        h = attend(f"output_blocks.{number}.1", h)
        for part in (1, 2):
            if f"output_blocks.{number}.{part}.in_layers.0.weight" in tensors:
                h = block(f"output_blocks.{number}.{part}", h, lambda x: F.interpolate(x, scale_factor=2))
    return conv("out.2", F.silu(norm("out.0", h)))


def on_meta(preset, **keys):
    with torch.device("meta"):
        return UNet(Model(preset=preset), image_channels=3, side=SIDES[preset], num_classes=1000, **keys)


@pytest.mark.parametrize(("preset", "millions"), [("adm-64", 296), ("adm-128", 422)])
def test_the_presets_have_the_published_number_of_parameters(preset, millions):
    network = on_meta(preset)
    assert sum(parameter.numel() for parameter in network.parameters()) == pytest.approx(millions * 1e6, rel=0.01)
    assert network.last.out_channels == 3
    assert network.embedding.classes.num_embeddings == 1001


@pytest.mark.parametrize("preset", RELEASED)
def test_every_layer_has_a_released_tensor_of_its_shape(preset):
    network = on_meta(preset, outputs=6, null_class=False)
    names, ours = released_names(network), network.state_dict()
    published = released_shapes(**RELEASED[preset])
    assert set(names.values()) == set(published)
    for mine, theirs in names.items():
        squeezed = [size for size in ours[mine].shape if size > 1], [size for size in published[theirs] if size > 1]
        assert squeezed[0] == squeezed[1], mine


@pytest.fixture(params=[False, True], ids=["new-attention-order", "legacy-attention-order"])
def small(request):
    """A small network of ADM's kind with random tensors, as ADM would have saved them."""
    shape = {"channels": 128, "multipliers": (1, 2), "blocks": 2, "attention": (2,)}
    generator = torch.Generator().manual_seed(0)
    tensors = {
        name: torch.randn(size, generator=generator) * (0.3 if len(size) < 2 else math.prod(size[1:]) ** -0.5)
        for name, size in released_shapes(**shape, classes=7).items()
    }
    model = Model(channels=128, multipliers=[1, 2], blocks=2, attention=[4], heads=4)
    network = UNet(model, image_channels=3, side=8, num_classes=7, outputs=6, null_class=False).eval()
    network.load_state_dict(translate(tensors, network, head_by_head=request.param))
    return network, tensors, request.param


def test_the_network_computes_what_the_published_one_does(small):
    network, tensors, head_by_head = small
    z, t, c = torch.randn(3, 3, 8, 8), torch.tensor([0.0, 437.5, 999.0]), torch.tensor([0, 3, 6])
    wanted = released_forward(tensors, z, t, c, blocks=2, levels=2, heads=4, head_by_head=head_by_head)
    torch.testing.assert_close(network.at(z, t, c), wanted, rtol=1e-4, atol=1e-4)
    other = released_forward(tensors, z, t, c, blocks=2, levels=2, heads=4, head_by_head=not head_by_head)
    assert (network.at(z, t, c) - other).abs().max() > 0.01, "the order of heads does not show: the test is blind"


def test_the_schedules_are_the_published_ones():
    beta = torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)
    remaining = math.prod((1 - b) for b in beta[:500].tolist())
    assert linear_log_snrs()[499].item() == pytest.approx(math.log(remaining / (1 - remaining)), rel=1e-12)

    def level(t):
        return math.cos((t + 0.008) / 1.008 * math.pi / 2) ** 2

    # the product telescopes as long as no beta is cut
    remaining = level(0.5) / level(0)
    assert cosine_log_snrs()[499].item() == pytest.approx(math.log(remaining / (1 - remaining)), rel=1e-10)
    assert (cosine_log_snrs().diff() < 0).all()
    assert cosine_log_snrs()[-1] > math.log(1e-3 * (level(0.999) / level(0))) - 1e-6


class Oracle:
    """A network that knows the only image there is: its eps at step t is exact."""

    num_classes = 1

    def __init__(self, x, log_snrs):
        self.x, self.log_snrs, self.asked = x, log_snrs, []

    def at(self, z, t, c):
        self.asked.append(t)
        lam = torch.from_numpy(np.interp(t.double(), range(1000), self.log_snrs)).reshape(-1, 1, 1, 1)
        return torch.cat([(z - alpha(lam) * self.x) / sigma(lam), z], dim=1).float()


@pytest.mark.parametrize("schedule", [cosine_log_snrs, linear_log_snrs])
def test_a_discrete_network_is_sampled_in_log_snr_beyond_its_own_ends_too(schedule):
    x = torch.rand(1, 3, 4, 4, generator=torch.Generator().manual_seed(1)) * 2 - 1
    oracle = Oracle(x, schedule())
    denoiser = DiscreteTime(oracle, schedule())
    c = torch.zeros(1, dtype=torch.long)
    lams, start = sampling_log_snrs(16), torch.randn(1, 3, 4, 4, generator=torch.Generator().manual_seed(2))
    found = sample(lambda z, lam: denoiser(z, lam, c), lams, ddim, lambda t: start, clip=False)
    torch.testing.assert_close(found, x, atol=2e-3, rtol=0)
    asked = torch.cat(oracle.asked)
    assert asked.max() <= 999
    assert asked.min() >= 0
    assert asked[0] == 999
    assert asked[-1] == 0


def test_what_is_known_of_the_released_networks():
    """The flags in the README of guided-diffusion: `--noise_schedule cosine --use_new_attention_order True` at 64x64,
    `--noise_schedule linear` at 128x128, whose order of attention is the old one."""
    found = adm.RELEASED
    assert found == {
        192: ("adm-64", 64, cosine_log_snrs, False),
        256: ("adm-128", 128, linear_log_snrs, True),
    }


@pytest.mark.parametrize(
    ("preset", "wanted"), [("adm-64", {384: 6, 576: 9, 768: 12}), ("adm-128", {512: 4, 768: 4, 1024: 4})]
)
def test_heads_of_64_channels_each_or_four(preset, wanted):
    """`--num_head_channels 64` and `--num_heads 4`; weights of other heads have the same shapes."""
    with shapes_only():
        network = UNet(Model(preset=preset), image_channels=3, side=SIDES[preset], num_classes=1000)
    found = {one.qkv.in_channels: one.heads for one in network.modules() if isinstance(one, Attention)}
    assert found == wanted


def test_steps_are_found_between_the_schedules_log_snrs():
    denoiser = DiscreteTime(Oracle(None, None), linear_log_snrs())
    table = linear_log_snrs()
    torch.testing.assert_close(denoiser.step_of(table), torch.arange(1000.0, dtype=torch.float64))
    middle = (table[10] + table[11]) / 2
    assert denoiser.step_of(middle[None]).item() == pytest.approx(10.5)


def test_a_released_file_is_read_without_unpickling_and_anything_else_is_named(tmp_path, small, monkeypatch):
    network, tensors, head_by_head = small
    model = Model(channels=128, multipliers=[1, 2], blocks=2, attention=[4], heads=4)
    monkeypatch.setitem(adm.RELEASED, 128, ("adm-64", 8, linear_log_snrs, head_by_head))
    monkeypatch.setattr(adm, "CLASSES", 7)
    monkeypatch.setattr(adm, "Model", lambda preset: model)
    path = tmp_path / "64x64_diffusion.pt"
    torch.save(tensors, path)
    denoiser = load_adm(path, torch.device("cpu"))
    assert denoiser.num_classes == 7
    z, c = torch.randn(2, 3, 8, 8), torch.tensor([0, 6])
    lam = linear_log_snrs()[[100, 700]].float()
    wanted = network.at(z, torch.tensor([100.0, 700.0]), c)[:, :3]
    torch.testing.assert_close(denoiser(z, lam, c), wanted, rtol=1e-3, atol=1e-3)

    torch.save({"weights": network}, tmp_path / "module.pt")
    torch.save({name: value for name, value in tensors.items() if name != "out.2.bias"}, tmp_path / "lacking.pt")
    torch.save(tensors | {"more": torch.zeros(1)}, tmp_path / "more.pt")
    (tmp_path / "cut.pt").write_bytes(path.read_bytes()[:1000])
    for name, said in [("module", ""), ("lacking", "out.2.bias"), ("more", "more"), ("cut", ""), ("none", "")]:
        with pytest.raises(UserError, match=rf"{name}\.pt: not ADM's .*{said}"):
            load_adm(tmp_path / f"{name}.pt", torch.device("cpu"))
    monkeypatch.setattr(torch, "load", lambda *_, **__: (_ for _ in ()).throw(MemoryError))
    with pytest.raises(MemoryError):  # whose way out is not another file
        load_adm(path, torch.device("cpu"))
