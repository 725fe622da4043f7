"""YAML as people mean it: `1e-4` is a number, `no` is a word, a key stands once.

And YAML as nobody means it is refused before it is built: aliases that multiply, nesting without end, tags, control
characters, numbers of a thousand digits.
"""

import re
from pathlib import Path
from typing import Any

import yaml

from cfgbench.errors import UserError, brief, reason
from cfgbench.files import read_at_most

LARGEST_FILE = 1 << 16
"""Bytes; a sweep file is a page of text."""
MOST_NODES = 10_000
"""Keys and values, those that aliases repeat counted each time."""
DEEPEST = 32
MOST_DIGITS = 40
_MERGE = "tag:yaml.org,2002:merge"
_UNPRINTABLE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\u2028\u2029\ufffe\uffff]")


class _Loader(yaml.SafeLoader):
    """SafeLoader with YAML 1.2's numbers and booleans, no silent repetition of keys, and an end to everything."""

    yaml_implicit_resolvers = {  # noqa: RUF012 (the table is PyYAML's own)
        first: [(tag, pattern) for tag, pattern in rules if tag.rpartition(":")[2] in ("null", "merge")]
        for first, rules in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.depth = self.nodes = 0
        self.sizes: dict[str, int] = {}
        """Anchor -> nodes below it; not there while the anchor's own content is still being read."""

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        event = self.peek_event()
        if getattr(event, "tag", None):
            raise _problem(f"the tag {brief(event.tag)}: sweep files have none; write the plain value", event)
        if isinstance(event, yaml.AliasEvent):
            if event.anchor in self.anchors and event.anchor not in self.sizes:
                raise _problem(f"the alias *{brief(event.anchor)} stands inside of what it repeats", event)
            self._count(self.sizes.get(event.anchor, 1), event)
            return super().compose_node(parent, index)
        before, self.depth = self.nodes, self.depth + 1
        if self.depth > DEEPEST:
            raise _problem(f"nested deeper than {DEEPEST} levels", event)
        self._count(1, event)
        node = super().compose_node(parent, index)
        self.depth -= 1
        if isinstance(node, yaml.MappingNode):
            self._check_keys(node)
        if event.anchor is not None:
            self.sizes[event.anchor] = self.nodes - before
        return node

    def _count(self, more: int, event: yaml.Event) -> None:
        self.nodes += more
        if self.nodes > MOST_NODES:
            raise _problem(f"more than {MOST_NODES:,} keys and values, with what aliases repeat", event)

    def construct_scalar(self, node: yaml.ScalarNode) -> str:
        if isinstance(node, yaml.ScalarNode) and (found := _UNPRINTABLE.search(node.value)):
            raise _problem(f"the control character U+{ord(found[0]):04X} in a value; remove it", node)
        return super().construct_scalar(node)

    def construct_integer(self, node: yaml.ScalarNode) -> int:
        """Decimal. Python would refuse to read, or later to print, what has thousands of digits."""
        digits = self.construct_scalar(node).replace("_", "")
        if len(digits) > MOST_DIGITS:
            raise _problem(f"a number of {len(digits)} digits", node)
        return int(digits)

    def _check_keys(self, node: yaml.MappingNode) -> None:
        """As the mapping is written, before what it merges is put in: that may have the same keys."""
        seen: set[str] = set()
        for key_node, _ in node.value:
            key = "<<" if key_node.tag == _MERGE else self.construct_object(key_node, deep=True)
            if not isinstance(key, str):
                raise _problem(f"key {brief(key)}: keys are words", key_node)
            if key in seen:
                raise _problem(f"key {brief(key)} stands there twice; remove one", key_node)
            seen.add(key)

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        """Puts in what the mapping merges: of several mappings the first that has a key, and over that its own.

        PyYAML tells keys apart by where their text lies in memory, and there one of several may stand or another.
        """
        own: dict[str, tuple[yaml.Node, yaml.Node]] = {}
        merged: dict[str, tuple[yaml.Node, yaml.Node]] = {}
        for key, value in node.value:
            if key.tag != _MERGE:
                own[key.value] = key, value
                continue
            for part in value.value if isinstance(value, yaml.SequenceNode) else [value]:
                if not isinstance(part, yaml.MappingNode):
                    raise _problem("<<: takes a mapping, or a list of mappings", part)
                self.flatten_mapping(part)
                merged |= {pair[0].value: pair for pair in part.value if pair[0].value not in merged}
        node.value = list((merged | own).values())


def _problem(text: str, place: yaml.Node | yaml.Event) -> yaml.MarkedYAMLError:
    return yaml.constructor.ConstructorError(None, None, text, place.start_mark)


_INT, _FLOAT = "tag:yaml.org,2002:int", "tag:yaml.org,2002:float"
_Loader.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"), "tTfF")
# neither 010, which is 8 for some and 10 for others, nor 1:30, which YAML 1.1 takes for 90
_Loader.add_implicit_resolver(_INT, re.compile(r"^[-+]?(?:0|[1-9][0-9_]*)$", re.ASCII), "-+0123456789")
_Loader.add_implicit_resolver(
    _FLOAT,
    re.compile(
        r"^[-+]?(?:(?:\d+\.\d*|\.\d+)(?:[eE][-+]?\d+)?|\d+[eE][-+]?\d+|\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$", re.ASCII
    ),
    "-+.0123456789",
)
_Loader.add_constructor(_INT, _Loader.construct_integer)


class _Dumper(yaml.SafeDumper):
    """Quotes what either kind of YAML would take for something else than text, `1e4` among it."""

    yaml_implicit_resolvers = {  # noqa: RUF012 (the table is PyYAML's own)
        first: [
            *yaml.SafeDumper.yaml_implicit_resolvers.get(first, ()),
            *_Loader.yaml_implicit_resolvers.get(first, ()),
        ]
        for first in {*yaml.SafeDumper.yaml_implicit_resolvers, *_Loader.yaml_implicit_resolvers}
    }


def dump_yaml(content: dict[str, Any]) -> str:
    """Plain content as text that `load_yaml` reads back to the same. Raises ValueError where it would be too large."""
    text = yaml.dump(content, Dumper=_Dumper, sort_keys=False, default_flow_style=None, width=120, allow_unicode=True)
    if len(text.encode()) > LARGEST_FILE or _count(content) > MOST_NODES:
        raise ValueError(f"with its defaults filled in it is larger than the {LARGEST_FILE:,} bytes of a sweep file")
    return text


def _count(content: Any) -> int:
    """The YAML nodes of plain content."""
    parts = [*content.keys(), *content.values()] if isinstance(content, dict) else content
    return 1 + sum(map(_count, parts)) if isinstance(content, dict | list) else 1


def load_yaml(path: Path) -> Any:
    """The content of a YAML file. Anything but a readable mapping is a UserError that names file and line.

    What is no regular file is refused without being read.
    """
    text = _text(path)
    loader = None
    try:
        loader = _Loader(text)
        content = loader.get_single_data()
    except yaml.MarkedYAMLError as error:
        line = f"line {error.problem_mark.line + 1}: " if error.problem_mark else ""
        raise UserError(f"{path}: {line}{brief(error.problem or 'not a YAML file', quoted=False)}") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise UserError(f"{path}: not a YAML file: {brief(str(error), quoted=False)}") from None
    finally:
        if loader is not None:
            loader.dispose()
    if not isinstance(content, dict):
        raise UserError(f"{path}: not a sweep file: expected keys such as name, dataset and grid")
    return content


def _text(path: Path) -> str:
    try:
        content = read_at_most(path, LARGEST_FILE)
        return content.decode("utf-8")
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; a sweep file is needed, such as sweeps/digits.yaml") from None
    except UnicodeDecodeError:
        raise UserError(f"{path}: not a YAML file: it is not UTF-8 text") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read ({reason(error)}); a sweep file is a page of YAML") from None
