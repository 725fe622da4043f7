"""The body of the published Inception network as processors and GPUs like it: batch norm folded into the convolutions,
channels last, images resized row by row; compiled where that pays."""

import time
from collections.abc import Callable
from dataclasses import replace

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d

from cfgbench.errors import reason
from cfgbench.models.compile_choice import OPTIONS, CompileCost, compiled, no_compiler
from cfgbench.models.precision import float32_kept, out_of_memory

SIDE = 299
BATCH = {"cpu": 50, "cuda": 256}
"""Images that are best given at a time."""
IMAGES_A_CORE = 5
"""Images that go through a processor at a time, for each of its cores: what lies between two layers then stays in its
caches, and is memory that malloc need not ask the system for each time."""
STAGES = {
    64: ("Conv2d_1a_3x3", "Conv2d_2a_3x3", "Conv2d_2b_3x3", "MaxPool_1"),
    192: ("Conv2d_3b_1x1", "Conv2d_4a_3x3", "MaxPool_2"),
    768: ("Mixed_5b", "Mixed_5c", "Mixed_5d", "Mixed_6a", "Mixed_6b", "Mixed_6c", "Mixed_6d", "Mixed_6e"),
    2048: ("Mixed_7a", "Mixed_7b", "Mixed_7c"),
}
"""The network's modules up to the layer of so many features, from the layer before."""
INCEPTION_COMPILE_COSTS = {
    ("cpu", torch.float32): CompileCost(80.0, 0.065), ("cpu", torch.bfloat16): CompileCost(50.0, 0.375),
    ("cuda", torch.float32): CompileCost(20.0, 0.286), ("cuda", torch.bfloat16): CompileCost(25.0, 0.75),
}  # fmt: skip
"""Of compiling it on two cores, and beside an H200."""
WITHOUT_AMX = 0.065
"""Saved at most where the processor has no AMX."""


def widened(images: Tensor) -> Tensor:
    """[b, h, 299, ch] in float32: each row of images [b, ch, h, w] stretched, once for all rows that it contributes to.

    Compiled with what follows, it would be done anew for each of those.
    """
    return _between(images.permute(0, 2, 3, 1).float(), 2)


def prepared(rows: Tensor, dtype: torch.dtype) -> Tensor:
    """What the network looks at, of `widened` images: [b, 3, 299, 299], (x - 128) / 128 of pixels x resized bilinearly
    as TensorFlow 1 had it, bit for bit torch-fidelity's."""
    x = _between(rows.flatten(2), 1).unflatten(2, (SIDE, -1)).permute(0, 3, 1, 2)
    return ((x - 128) / 128).expand(-1, 3, -1, -1).to(dtype, memory_format=torch.channels_last)


def _between(x: Tensor, dim: int) -> Tensor:
    """The same with 299 places along `dim`, each between the two that it lies between."""
    size = x.shape[dim]
    position = torch.arange(SIDE, dtype=torch.float32, device=x.device)
    position = position * torch.tensor(size / SIDE, dtype=torch.float32)
    low = position.long()
    first, second = x.index_select(dim, low), x.index_select(dim, (low + 1).clamp_max(size - 1))
    return first + (second - first) * (position - low.float()).view(-1, *[1] * (x.ndim - dim - 1))


class Body(nn.Module):
    """The features of prepared images: the mean over places of the given layer, and the logits without bias.

    `network` is torch-fidelity's; it is changed. Its weights are rounded to `dtype` once, means and logits are float32.
    """

    def __init__(self, network: nn.Module, layer: int, dtype: torch.dtype, *, logits: bool) -> None:
        super().__init__()
        self.layer, self.logits = layer, logits
        self.depths = [depth for depth in STAGES if logits or depth <= layer]
        for depth in self.depths:
            modules = nn.Sequential(*(_folded(getattr(network, name)) for name in STAGES[depth]))
            self.add_module(f"to{depth}", modules.to(dtype, memory_format=torch.channels_last))
        if logits:
            self.register_buffer("classes", network.fc.weight.detach())

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        pooled, last = x, x
        for depth in self.depths:
            x = getattr(self, f"to{depth}")(x)
            if depth in (self.layer, self.depths[-1]):
                last = adaptive_avg_pool2d(x.float(), 1).flatten(1)
            if depth == self.layer:
                pooled = last
        return pooled, last @ self.classes.T if self.logits else None


def _folded(module: nn.Module) -> nn.Module:
    """The same function, with each batch norm in the weights and bias of its convolution."""
    for block in list(module.modules()):
        if hasattr(block, "conv") and isinstance(getattr(block, "bn", None), nn.BatchNorm2d):
            conv, norm = block.conv, block.bn
            scale = norm.weight.double() / (norm.running_var.double() + norm.eps).sqrt()
            weight, bias = conv.weight.double() * scale.view(-1, 1, 1, 1), norm.bias - norm.running_mean * scale
            conv.weight, conv.bias = (nn.Parameter(value.float(), requires_grad=False) for value in (weight, bias))
            block.bn = nn.Identity()
    return module


def inception_compile_cost_on(device: torch.device, dtype: torch.dtype) -> CompileCost:
    """What compiling the network takes and saves there."""
    cost = INCEPTION_COMPILE_COSTS.get((device.type, dtype), INCEPTION_COMPILE_COSTS["cpu", dtype])
    matrices = device.type != "cpu" or torch.cpu._is_amx_tile_supported()
    return cost if matrices else replace(cost, saved=min(cost.saved, WITHOUT_AMX))


class Runner:
    """Puts images through a body, `batch` at a time; compiles it for that batch where the images ahead are worth it.

    `compiled` decides that; None measures a batch and compares. `note` says what was decided, and why.
    """

    def __init__(
        self, body: nn.Module, dtype: torch.dtype, device: torch.device, *, ahead: int, compiled: bool | None
    ) -> None:
        self.body, self.dtype, self.device = body.to(device).eval(), dtype, device
        self.at_once = BATCH.get(device.type, BATCH["cpu"])
        on_cpu = device.type == "cpu"
        self.batch = min(self.at_once, IMAGES_A_CORE * torch.get_num_threads()) if on_cpu else self.at_once
        self.ahead, self.compiled, self.note = ahead, compiled, ""
        self.warm: set[int] = set()
        self.prepare: Callable[[Tensor, torch.dtype], Tensor] = prepared
        self.look: Callable[[Tensor], tuple[Tensor, Tensor | None]] = self.body
        if compiled:
            self._compile("as asked")

    def __call__(self, images: UInt8[Tensor, "b ch h w"]) -> tuple[Float[Tensor, "b d"], Float[Tensor, "b k"] | None]:
        # a GPU's float32 gains by a search for the fastest kernels, bf16 does not
        search = self.device.type == "cuda" and self.dtype == torch.float32
        found: list[tuple[Tensor, Tensor | None]] = []
        with float32_kept(search=search):
            while len(images):
                try:
                    found.append(self._batch(images[: self.batch]))
                    images = images[self.batch :]
                    continue
                except (MemoryError, RuntimeError) as error:
                    if not out_of_memory(error) or self.batch == 1:
                        raise
                self._halve()  # what the failed batch took is free when the handler has ended
        logits = torch.cat([one[1] for one in found]) if self.body.logits else None
        return torch.cat([one[0] for one in found]), logits

    def _batch(self, images: Tensor) -> tuple[Tensor, Tensor | None]:
        began, count = time.monotonic(), len(images)
        on_gpu = self.device.type == "cuda"
        if on_gpu and 3 * count < self.batch:  # filling it up would take longer than what compiling saves
            pooled, logits = self.body(prepared(widened(images.to(self.device)), self.dtype))
        else:
            if self.compiled:
                images = torch.cat([images, images[:1].expand(self.batch - count, -1, -1, -1)])
            pooled, logits = self.look(self.prepare(widened(images.to(self.device)), self.dtype))
        pooled = pooled[:count]
        self.ahead -= count
        if self.compiled is None and (3 * count >= self.batch if on_gpu else count == self.batch):
            pooled.sum().item()  # a GPU has done its work only when a number is asked for
            if count in self.warm:
                self._decide((time.monotonic() - began) / count)
            self.warm.add(count)  # the first of its size warms up: a GPU's kernels are searched for then
        return pooled, None if logits is None else logits[:count]

    def _halve(self) -> None:
        """Memory has run out: half as many images go through at a time from here."""
        self.batch //= 2
        self.note = f"out of memory, batches of {self.batch} from here"
        if self.compiled:
            self._compile(self.note)

    def _decide(self, seconds: float) -> None:
        """`seconds`: what an image takes."""
        left = self.ahead * seconds
        if not inception_compile_cost_on(self.device, self.dtype).pays(left):
            self.compiled, self.note = False, f"not compiled: {left:.0f} s ahead"
        elif no_compiler(self.device):
            self.compiled, self.note = False, "not compiled: no C++ compiler"
        else:
            self._compile(f"{left:.0f} s ahead without")

    def _compile(self, because: str) -> None:
        """Takes the compiled functions, and the plain ones again if they do not compile here."""
        with torch.inference_mode(), float32_kept():  # what is compiled holds for these settings
            zeros = torch.zeros(self.batch, 1, 8, 8, dtype=torch.uint8, device=self.device)
            x = prepared(widened(zeros), self.dtype)
            began = time.monotonic()
            try:
                look = compiled(self.body, OPTIONS)
                with torch._inductor.config.patch(freezing=True):  # weights are constants, packed once
                    look(x)
            except Exception as error:  # compilers fail in many ways; the network works without
                self.compiled, self.note = False, f"not compiled: {reason(error, 80)}"
                self.prepare, self.look = prepared, self.body
                return
        self.compiled, self.note = True, f"compiled in {time.monotonic() - began:.0f} s ({because})"
        self.prepare, self.look = compiled(prepared), look
