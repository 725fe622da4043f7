"""What is not needed is not loaded: torch's compiler takes a second, before each command."""

import subprocess
import sys

import torch

from cfgbench.models.fast import device_of
from cfgbench.models.meta_device import shapes_only
from cfgbench.models.unet import UNet
from cfgbench.spec import Model

PROGRAM = """
import sys
import cfgbench.sweep.run
from cfgbench.models.meta_device import shapes_only
from cfgbench.models.unet import UNet
from cfgbench.spec import Model
with shapes_only():
    UNet(Model(), image_channels=1, side=8, num_classes=10)
print("torch._dynamo" in sys.modules)
"""


def test_shapes_are_those_of_the_network_and_hold_nothing():
    what = {"image_channels": 1, "side": 8, "num_classes": 10}
    network = UNet(Model(), **what)
    with shapes_only():
        shapes = UNet(Model(), **what)
    assert all(value.is_meta for value in shapes.state_dict().values())
    assert [(name, value.shape, value.dtype) for name, value in shapes.state_dict().items()] == [
        (name, value.shape, value.dtype) for name, value in network.state_dict().items()
    ]
    assert not torch.nn.Linear(2, 2).weight.is_meta


def test_neither_the_program_nor_shapes_load_the_compiler():
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_a_network_is_where_its_constants_are_if_it_has_no_weights():
    network = torch.nn.Module()
    assert device_of(network).type == "cpu"
    network.register_buffer("means", torch.zeros(2, device="meta"))
    assert device_of(network).type == "meta"
