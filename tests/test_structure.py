"""The house keeps its order: a room imports only from rooms above it, and the mathematics from no room at all."""

import ast
from pathlib import Path

import pytest

import cfgbench

PACKAGE = Path(cfgbench.__file__).parent
ORDER = ["errors", "wording", "signals", "machine", "processes", "files", "npz", "tensors", "progress", "spec", "data",
         "diffusion", "evaluation", "models", "training", "sweep", "report", "exits", "commands", "cli",
         "__main__"]  # fmt: skip
PURE = {"diffusion", "evaluation"}
REPORT = ["words", "request", "output", "rows", "tables", "drawing", "figures", "page", "reference", "claims",
          "figure2", "summary", "published", "measured", "terminal", "__init__"]  # fmt: skip

SWEEP = ["results", "fits", "plan", "extractor", "notes", "probes", "reference", "bench", "kept", "batches", "fill",
         "networks", "cell", "run", "forecast", "workers", "image_scores", "outputs", "external"]  # fmt: skip


def imports(path, package="cfgbench"):
    """The rooms of the package from which the file imports."""
    within = len(package.split("."))
    for node in ast.walk(ast.parse(path.read_text())):
        names = []
        assert not getattr(node, "level", 0), f"{path}: relative imports are not seen here"
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module] if node.module != package else [f"{package}.{a.name}" for a in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        yield from (name.split(".")[within] for name in names if name.startswith(f"{package}."))


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_room_imports_only_from_those_above_it(path):
    room = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    for other in set(imports(path)) - {room, "__version__"}:
        assert ORDER.index(other) < ORDER.index(room), f"{path.name} imports {other}"
        assert room not in PURE, f"{path.name} imports {other}"


@pytest.mark.parametrize(("floor", "order"), [("report", REPORT), ("sweep", ["__init__", *SWEEP])])
def test_within_a_floor_too(floor, order):
    for path in sorted((PACKAGE / floor).rglob("*.py")):
        room = path.relative_to(PACKAGE / floor).parts[0].removesuffix(".py")
        for other in set(imports(path, f"cfgbench.{floor}")) - {room}:
            assert order.index(other) < order.index(room), f"{path.name} imports {other}"


def test_only_the_specification_knows_pydantic():
    users = {
        path.relative_to(PACKAGE).parts[0]
        for path in PACKAGE.rglob("*.py")
        if {"pydantic"} & {name.split(".")[0] for name in modules(path)}
    }
    assert users == {"spec"}


def modules(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
