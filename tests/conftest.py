"""Shapes of public tensor functions are checked while the tests run."""

from jaxtyping import install_import_hook

install_import_hook(["cfgbench.diffusion", "cfgbench.evaluation"], "beartype.beartype")
