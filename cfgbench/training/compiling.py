"""Whether the rest of a training goes through torch.compile: told by its own first steps."""

import time

import torch

from cfgbench.models.compile_choice import GPU_OPTIONS, compiled, decision
from cfgbench.training.distributed import ALONE, Group
from cfgbench.training.state import State

WARM, TIMED = 5, 15
"""Steps that are let pass, and steps that are timed after them."""


class Compiling:
    """Times the first steps on a GPU and compiles the network in place if the remaining steps are worth it.

    Compiled or not, the weights are the same to rounding, but that dropout has other masks. `state.compiled` keeps what
    was decided, so that a training that goes on does as before. `asked` is what the user wants; None leaves it to the
    timing, of a group to that of the process that leads.
    """

    def __init__(self, state: State, device: torch.device, *, asked: bool | None, group: Group = ALONE) -> None:
        self.state, self.device, self.group = state, device, group
        self._first, self._began = state.step, 0.0
        self.trying = False
        on_gpu = device.type == "cuda"  # a processor's own kernels are as fast in training (`native_group_norm`)
        if on_gpu and asked is not None:
            state.compiled = asked
        self.pending = on_gpu and state.compiled is None
        if on_gpu and state.compiled:
            self._compile()

    def after(self, left: int) -> str:
        """To be called after each step, with the steps that are left; what was decided, when it is."""
        self.trying = False
        if not self.pending:
            return ""
        steps = self.state.step - self._first
        if steps == WARM:
            torch.cuda.synchronize(self.device)
            self._began = time.monotonic()
        if steps < WARM + TIMED:
            return ""
        torch.cuda.synchronize(self.device)
        choice = decision(left * (time.monotonic() - self._began) / TIMED, f"{left:,} steps", self.device)
        self.state.compiled, self.pending = self.group.as_leader(choice.compiled, self.device), False
        if self.state.compiled:
            self._compile()
        return str(choice)

    def _compile(self) -> None:
        network = self.state.network
        network.forward = compiled(network.forward, GPU_OPTIONS)
        self.trying = True

    def give_up(self) -> None:
        """The network goes on as it was: it does not compile here."""
        self.end()
        self.state.compiled = self.trying = False

    def end(self) -> None:
        """Takes the compiled code from the network, which else holds itself in memory."""
        vars(self.state.network).pop("forward", None)
