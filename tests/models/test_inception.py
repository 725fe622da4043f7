"""The fast Inception network against torch-fidelity's, as it is written there."""

import pytest
import torch
from torch import nn
from torch_fidelity import feature_extractor_inceptionv3 as theirs
from torch_fidelity.interpolate_compat_tensorflow import interpolate_bilinear_2d_like_tensorflow1x

from cfgbench.models import compile_choice
from cfgbench.models.compile_choice import CompileCost
from cfgbench.models.extractors import Inception
from cfgbench.models.inception import Runner, inception_compile_cost_on, prepared, widened

CPU = torch.device("cpu")


def _images(n, height=20, width=24, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (n, 3, height, width), dtype=torch.uint8, generator=generator)


@pytest.fixture(scope="module")
def weights(random_inception, tmp_path_factory):
    """The same with batch norms that do something."""
    path, tensors = tmp_path_factory.mktemp("weights") / "random.pth", torch.load(random_inception, weights_only=True)
    generator = torch.Generator().manual_seed(0)
    for name, value in tensors.items():
        if name.endswith(("bn.weight", "running_var")):
            value.uniform_(0.8, 1.2, generator=generator)
        if name.endswith(("bn.bias", "running_mean")):
            value.uniform_(-0.1, 0.1, generator=generator)
    torch.save(tensors, path)
    return path


@pytest.mark.parametrize("shape", [(8, 8), (64, 48), (299, 299), (320, 77), (1, 3)])
def test_images_are_resized_bit_for_bit_as_published(shape):
    images = _images(2, *shape)
    wanted = interpolate_bilinear_2d_like_tensorflow1x(images.float(), size=(299, 299), align_corners=False)
    assert torch.equal(prepared(widened(images), torch.float32), (wanted - 128) / 128)
    assert torch.equal(prepared(widened(images[:, :1]), torch.float32)[:, 2], (wanted[:, 0] - 128) / 128)


@pytest.mark.parametrize(("layer", "logits"), [(64, False), (2048, True)])
def test_batch_norm_in_the_weights_changes_rounding_only(weights, layer, logits):
    names = [str(layer), *(["logits_unbiased"] if logits else [])]
    oracle = theirs.FeatureExtractorInceptionV3("oracle", names, feature_extractor_weights_path=str(weights))
    images = _images(2)
    features = Inception(layer, weights, CPU, logits=logits)(images)
    for found, wanted in zip((features.pooled, features.logits), oracle(images), strict=False):
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5 * wanted.abs().max().item())
    assert (features.logits is not None) == logits


def test_bfloat16_is_near_and_says_so(weights):
    images = _images(4)
    fast, exact = (Inception(192, weights, CPU, logits=False, fast=fast) for fast in (True, False))
    assert fast.id == f"{exact.id}-bf16"
    assert {p.dtype for p in fast.runner.body.parameters()} == {torch.bfloat16}
    found, wanted = fast(images).pooled, exact(images).pooled
    assert found.dtype == torch.float32
    assert 1e-4 < (found - wanted).norm() / wanted.norm() < 1e-2


class Body(nn.Module):
    """Gives the means of images, and keeps how many came at a time."""

    logits = False

    def __init__(self):
        super().__init__()
        self.seen = []

    def forward(self, x):
        self.seen.append(len(x))
        return x.mean(dim=(2, 3)), None


def _runner(ahead=0, compiled=None, dtype=torch.float32):
    return Runner(Body(), dtype, CPU, ahead=ahead, compiled=compiled)


def test_five_images_a_core_go_through_at_a_time_and_fifty_at_most(monkeypatch):
    for threads, batch in ((1, 5), (2, 10), (64, 50)):
        monkeypatch.setattr(torch, "get_num_threads", lambda threads=threads: threads)
        runner = _runner()
        runner(_images(55))
        assert set(runner.body.seen[:-1]) == {batch}
        assert sum(runner.body.seen) == 55


def test_what_is_compiled_sees_whole_batches_and_the_rest_is_filled_up():
    plain, filled = _runner(), _runner()
    filled.compiled = True
    batch = plain.batch
    images = _images(2 * batch + 3)
    wanted, found = plain(images), filled(images)
    assert (plain.body.seen, filled.body.seen) == ([batch, batch, 3], [batch] * 3)
    torch.testing.assert_close(found[0], wanted[0])


@pytest.mark.parametrize("compiled", [False, True])
def test_where_memory_runs_out_half_as_many_go_through_from_there(monkeypatch, compiled):
    again = []
    monkeypatch.setattr(Runner, "_compile", lambda self, because: again.append(because))
    monkeypatch.setattr(torch, "get_num_threads", lambda: 4)
    plain, runner = _runner(), _runner()
    runner.compiled, honest = compiled, runner.body.forward

    def forward(x):
        found = honest(x)
        if len(x) > 5:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return found

    runner.body.forward = forward
    images = _images(23)
    torch.testing.assert_close(runner(images)[0], plain(images)[0])
    assert runner.body.seen == [20, 10, 5, 5, 5, 5, 5 if compiled else 3]
    assert runner.note == "out of memory, batches of 5 from here"
    assert again == ["out of memory, batches of 10 from here", runner.note] * compiled
    runner.body.forward = lambda x: (_ for _ in ()).throw(torch.OutOfMemoryError("CUDA out of memory"))
    with pytest.raises(torch.OutOfMemoryError):
        runner(images)


def test_where_what_was_compiled_does_not_compile_again_the_plain_network_looks(monkeypatch):
    """For smaller batches, when memory ran out."""
    monkeypatch.setattr(torch, "get_num_threads", lambda: 4)
    plain, runner = _runner(), _runner()

    def full(x):
        raise torch.OutOfMemoryError("CUDA out of memory")

    runner.compiled, runner.look, runner.prepare = True, full, prepared
    monkeypatch.setattr(torch, "compile", lambda *_, **__: (_ for _ in ()).throw(RuntimeError("no")))
    images = _images(23)
    torch.testing.assert_close(runner(images)[0], plain(images)[0])
    assert (runner.compiled, runner.batch, runner.note) == (False, 10, "not compiled: no")
    assert runner.body.seen == [10, 10, 3]


def test_compiling_pays_where_the_time_that_it_saves_is_longer():
    half = CompileCost(100.0, 0.5)
    assert half.pays(201.0)
    assert not half.pays(199.0)
    assert (half.expected(201.0), half.expected(199.0)) == (200.5, 199.0)


@pytest.mark.parametrize(
    ("dtype", "matrices", "saved"),
    [(torch.bfloat16, True, 0.375), (torch.bfloat16, False, 0.065), (torch.float32, True, 0.065)],
)
def test_without_matrix_units_less_is_expected_of_compiling(monkeypatch, dtype, matrices, saved):
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: matrices)
    assert inception_compile_cost_on(CPU, dtype).saved == saved
    assert inception_compile_cost_on(torch.device("cuda"), torch.bfloat16).saved == 0.75


@pytest.mark.parametrize(("ahead", "said"), [(25, "not compiled: 0 s ahead"), (10**9, "asked")])
def test_whether_to_compile_is_decided_by_a_measured_batch(monkeypatch, ahead, said):
    monkeypatch.setattr(Runner, "_compile", lambda self, _: setattr(self, "note", "asked"))
    monkeypatch.setattr(compile_choice.shutil, "which", lambda _: "/usr/bin/g++")
    runner = _runner(ahead)
    runner(_images(runner.batch))
    assert runner.note == ""  # the first batch warms up
    runner(_images(runner.batch))
    assert runner.note == said
    assert runner.ahead == ahead - 2 * runner.batch


def test_without_a_compiler_nothing_is_compiled(monkeypatch):
    monkeypatch.setattr(compile_choice.shutil, "which", lambda _: None)
    runner = _runner(10**9)
    runner(_images(2 * runner.batch))
    assert (runner.compiled, runner.note) == (False, "not compiled: no C++ compiler")


def test_what_does_not_compile_runs_as_it_is(monkeypatch):
    def broken(*_, **__):
        raise RuntimeError("no such\nluck")

    monkeypatch.setattr(torch, "compile", broken)
    runner = _runner(compiled=True)
    assert (runner.compiled, runner.note) == (False, "not compiled: no such luck")
    assert runner(_images(3))[0].shape == (3, 3)
