"""A gradient step of Algorithm 1 (Ho & Salimans 2022), then the average of the weights."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import torch
from torch import Tensor, nn
from torch.nn import Dropout
from torch.nn.parallel import DistributedDataParallel

from cfgbench.models.cuda_graphs import Graphed
from cfgbench.models.precision import autocast, float32_kept, out_of_memory
from cfgbench.signals import held_back
from cfgbench.training.distributed import ALONE, Group
from cfgbench.training.feed import Batch, Feed, seed_of
from cfgbench.training.objectives import OBJECTIVES, Objective
from cfgbench.training.state import State


class Step:
    """One gradient step of `state` each time it is called, on the next images of `feed`.

    On a GPU the gradients of a whole batch are recorded as a CUDA graph and replayed: a small network's are thousands
    of kernels, which take ten times as long to be launched as to be computed. Parts of a batch are not, nor networks
    with dropout, whose masks come from torch's global state, nor those that keep no activations (`recompute`), nor the
    first step: after it the optimizer takes its own memory, and what runs out later is not halved.
    """

    def __init__(
        self,
        state: State,
        feed: Feed,
        precision: str,
        group: Group = ALONE,
        objective: Objective = OBJECTIVES["denoiser"],
        *,
        record: bool = True,
    ) -> None:
        self.state, self.feed, self.precision, self.objective = state, feed, precision, objective
        self.group = group
        network, alone = state.network, self.group.world == 1
        self._wrapped = network if alone else _in_group(network)
        self._drops = any(module.p for module in network.modules() if isinstance(module, Dropout))
        self._records = record and feed.device.type == "cuda" and alone and not self._drops and not network.recompute
        self._recorded: Graphed | None = None
        self._recorded_of: object = None

    def __call__(self) -> None:
        """Where memory runs out, half as many images go through at a time from then on; not in a group, whose members
        would wait for each other's gradients."""
        state, batch = self.state, self.feed.batch(self.state.step)
        size = state.part or self.feed.training.micro_batch_size or len(batch.labels)
        while True:
            try:
                loss = self._attempt(batch, size)
                break
            except (MemoryError, RuntimeError) as error:
                if not out_of_memory(error) or self.group.world > 1 or (size == 1 and not self._records):
                    raise
            if self._records:  # what is recorded keeps its memory to itself
                self._records, self._recorded = False, None
            else:
                state.part = size = size // 2
        total = self.group.total(loss)
        with held_back():  # what is saved when a training is stopped is whole steps
            state.losses[state.step] = total
            self._update()

    def close(self) -> None:
        """Stops fetching images ahead, and gives back the memory of what a GPU has recorded."""
        self.feed.close()
        self._recorded = None

    def _attempt(self, batch: Batch, size: int) -> Tensor:
        if not self._records or size < len(batch.labels) or not self.state.optimizer.state:
            return self._gradients(batch.parts(size))
        forward = vars(self.state.network).get("forward")  # what it was compiled to; None before
        if self._recorded is None or self._recorded_of is not forward:
            self._recorded = Graphed(lambda *given: self._gradients([Batch(*given)]), learns=True)
            self._recorded_of = forward
        return self._recorded(*(tensor.to(self.feed.device, non_blocking=True) for tensor in batch))

    def _gradients(self, parts: list[Batch]) -> Tensor:
        """The batch's loss, its gradients left in the parameters; the parts go through one after the other."""
        self.state.optimizer.zero_grad(set_to_none=True)
        total = torch.zeros((), device=self.feed.device)
        for number_of_part, part in enumerate(parts, start=1):
            alone = self.group.world > 1 and number_of_part < len(parts)  # gradients are exchanged once, with the last
            with self._wrapped.no_sync() if alone else nullcontext():
                loss = self._loss(part)
                with float32_kept():
                    # the group averages its members' gradients, where the batch wants their sum
                    self.state.scaler.scale(loss * self.group.world).backward()
            total += loss.detach()
        return total

    def _loss(self, part: Batch) -> Tensor:
        """These images' share of the batch's loss."""
        drawn = self.feed.draw(*part)
        with self._dropout(part.places), autocast(self.precision, self.feed.device):
            errors, count = self.objective(self._wrapped, *drawn)
        return errors / (self.feed.training.batch_size * count)

    @contextmanager
    def _dropout(self, places: Tensor) -> Iterator[None]:
        """Dropout takes no generator: the global state is set for these images and put back afterwards."""
        if not self._drops:
            yield
            return
        device = self.feed.device
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            torch.manual_seed(seed_of(self.feed.training.seed, "dropout", int(places[0])))
            yield

    def _update(self) -> None:
        state, training = self.state, self.feed.training
        for settings in state.optimizer.param_groups:
            settings["lr"] = training.learning_rate * min(1.0, (state.step + 1) / max(1, training.warmup_steps))
        if training.gradient_clip:
            state.scaler.unscale_(state.optimizer)
            torch.nn.utils.clip_grad_norm_(state.network.parameters(), training.gradient_clip)
        state.scaler.step(state.optimizer)
        state.scaler.update()
        # the first average is short: with the full decay from the start the random initial weights would linger in it
        decay = min(training.ema_decay, (1 + state.step) / (10 + state.step))
        with torch.no_grad():
            torch._foreach_lerp_(list(state.ema.values()), list(state.network.parameters()), 1 - decay)
        state.step += 1


def _in_group(network: nn.Module) -> DistributedDataParallel:
    """The network as one of a group: gradients lie where they are exchanged from."""
    # buffers are constants, which need not be sent; the argument for that has another name in each version of torch
    constants = [name for name, _ in network.named_buffers()]
    DistributedDataParallel._set_params_and_buffers_to_ignore_for_model(network, constants)
    # of convolutions of 1x1, where other strides are the same places
    warnings.filterwarnings("ignore", "Grad strides do not match bucket view strides")
    return DistributedDataParallel(network, gradient_as_bucket_view=True)
