"""Damaged and hostile files through the real command line: no traceback, no hang, no exit code but 0, 1 or 2.

python tests/studies/fuzz.py --cases 20000 --seed 0
python tests/studies/fuzz.py --kind all --cases 2000 --seed 0

Every case is made from (seed, kind, number) alone, so `--kind K --seed S --first N --cases 1` repeats one.
"""

import argparse
import contextlib
import functools
import gzip
import io
import os
import random
import re
import resource
import shutil
import signal
import struct
import sys
import tempfile
import time
import traceback
import warnings
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from unittest import mock

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import yaml
from PIL import Image

TOP = Path(__file__).parents[2]
SECONDS = 10
"""A case that takes longer hangs."""
SMALL = """
name: small
dataset: {name: digits, limit: 40}
model: {channels: 8, multipliers: [1]}
training: {steps: 3, batch_size: 4}
sampling: {samples: 10, batch_size: 10}
grid: {w: [0, 1], T: [2]}
"""
NASTY = [
    *("0", "-1", "1", "2", "1e400", "-1e400", ".inf", "-.inf", ".nan", "-0.0", "1e-320", "9" * 30, "-" + "9" * 30),
    *("9" * 5000, "1099511627776", "9223372036854775807", "9223372036854775808", "100000000", "4096", "64", "1:30"),
    *("0x7fffffff", "1_000", "0.5", "1e-4", "true", "no", "null", "~", "''", '"\\0"', '"\\e[31m"', '"\\ud800"'),
    *(
        "/dev/zero",
        "/dev/null",
        "/proc/self/environ",
        "../..",
        "photos.zip",
        "pipe",
        "x" * 300,
        "a/" * 3000,
        "'\u202e'",
    ),
    *("[]", "{}", "[[[[]]]]", "[" * 200 + "]" * 200, "[0, 0]", "[1, 2, 3]", "{a: {b: {c: d}}}", "&a [*a]", "*nothing"),
    *("!!python/object/apply:os.getcwd []", "!!binary x", "!!int x", "<<", "=", "?", "- -", "|", ">", "%", "@", "`"),
    *(
        "digits",
        "fashion-mnist",
        "folder",
        "imagenet64",
        "unet",
        "adm-64",
        "ddim",
        "inception",
        "classifier",
        "\x1b[2J",
    ),
    *(
        "[" + ", ".join(map(str, range(100))) + "]",
        "[" + ", ".join(f"0.{i}" for i in range(1, 400)) + "]",
        "mymodel:make",
    ),
]
KEYS = [
    *(
        "name",
        "dataset",
        "model",
        "training",
        "sampling",
        "evaluation",
        "grid",
        "path",
        "limit",
        "classes",
        "resolution",
    ),
    *(
        "split",
        "flip",
        "channels",
        "multipliers",
        "blocks",
        "attention",
        "heads",
        "head_channels",
        "steps",
        "batch_size",
    ),
    *(
        "learning_rate",
        "seed",
        "p_uncond",
        "w",
        "T",
        "v",
        "samples",
        "clip",
        "sampler",
        "features",
        "metrics",
        "reference",
    ),
    *("checkpoint", "factory", "arguments", "preset", "training.seed", "sampling.w", "preprocess", "inception_weights"),
]


class Hang(BaseException):
    """The alarm rang."""


@dataclass
class Report:
    """What the cases of one kind came to."""

    kind: str
    codes: Counter = field(default_factory=Counter)
    findings: list[str] = field(default_factory=list)
    seconds: float = 0.0
    slowest: float = 0.0

    def line(self) -> str:
        """A row of the table."""
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        codes = " ".join(f"{self.codes[code]:7}" for code in (0, 1, 2))
        times = f"{self.seconds:8.1f} {self.slowest:8.2f}"
        return f"{self.kind:12} {sum(self.codes.values()):7} {codes} {len(self.findings):9} {times} {peak:8.0f}"


HEAD = "kind           cases  exit 0       1       2  findings  seconds  slowest  peak MB"


def command(*words: object) -> tuple[int | None, str]:
    """(exit code, or None for what must never be; what was printed, or what went wrong) of a command."""
    from cfgbench import cli

    out, err = io.StringIO(), io.StringIO()
    signal.signal(signal.SIGALRM, _ring)
    signal.alarm(SECONDS)
    try:
        with (
            mock.patch.object(sys, "argv", ["cfgbench", *map(str, words)]),
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
            warnings.catch_warnings(),
        ):
            warnings.simplefilter("ignore")
            cli.main()
    except SystemExit as stop:
        code = stop.code
    except BaseException:
        return None, traceback.format_exc()
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
    said = out.getvalue() + err.getvalue()
    raw = next((c for c in said if not (c.isprintable() or c == "\n")), None)
    if code not in (0, 1, 2) or "Traceback" in said or raw is not None:
        return None, f"exit code {code}, raw character {raw!r}: {said}"
    if code == 2 and (len(err.getvalue()) > 1200 or not re.fullmatch(r"(.*\n)*cfgbench: .*\n", err.getvalue())):
        return None, f"no line of its own: {err.getvalue()}"
    return code, said


def _ring(*_: object) -> None:
    raise Hang(f"more than {SECONDS} seconds")


# how files are damaged


def mutated_bytes(content: bytes, rng: random.Random) -> bytes:
    """One to eight flips, cuts, repetitions, or numbers at their extremes."""
    data = bytearray(content)
    for _ in range(rng.choice((1, 1, 1, 2, 4, 8))):
        at = rng.randrange(len(data) + 1)
        kind = rng.randrange(6)
        if kind == 0 and at < len(data):
            data[at] ^= 1 << rng.randrange(8)
        elif kind == 1:
            data[at : at + rng.choice((1, 2, 4, 8))] = rng.choice((b"\xff", b"\0", b"\x7f")) * rng.choice((1, 2, 4, 8))
        elif kind == 2:
            del data[at : at + rng.choice((1, 4, 64, 10**6))]
        elif kind == 3:
            data[at:at] = data[at : at + rng.choice((1, 16, 256))]
        elif kind == 4:
            data[at : at + 4] = struct.pack(rng.choice("<>") + "I", rng.choice((0, 1, 2**31 - 1, 2**31, 2**32 - 1)))
        else:
            data[at : at + 1] = bytes([rng.randrange(256)])
    return bytes(data)


def mutated_npz(path: Path, rng: random.Random) -> bytes:
    """A file of arrays with its bytes changed, or those of one array below the archive's checksums."""
    if rng.random() >= 0.5:
        return mutated_bytes(path.read_bytes(), rng)
    file = io.BytesIO()
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(file, "w", rng.choice((0, 8, 12, 14))) as new:
        hit = rng.choice(old.namelist())
        for name in old.namelist():
            inner = old.read(name)
            head = inner[:140] if rng.random() < 0.7 else inner
            new.writestr(name, mutated_bytes(head, rng) + inner[len(head) :] if name == hit else inner)
    return file.getvalue()


def mutated_yaml(text: str, rng: random.Random) -> bytes:
    """A sweep file with lines, words, keys or bytes changed."""
    for _ in range(rng.choice((1, 1, 2, 3, 5))):
        lines = text.split("\n")
        at, kind = rng.randrange(len(lines)), rng.randrange(9)
        words = list(re.finditer(r"[^\s,:{}\[\]#]+", text))
        word = rng.choice(words) if words else None
        if kind == 0:
            del lines[at]
        elif kind == 1:
            lines.insert(at, rng.choice(lines))
        elif kind == 2:
            other = rng.randrange(len(lines))
            lines[at], lines[other] = lines[other], lines[at]
        elif kind == 3:
            lines[at] = " " * rng.randrange(9) + lines[at]
        elif kind in (4, 5, 6) and word:
            new = rng.choice(KEYS if kind == 6 else NASTY)
            text = text[: word.start()] + new + text[word.end() :]
            continue
        elif kind == 7:
            lines.insert(at, f"{rng.choice(KEYS)}: {rng.choice(NASTY)}")
        else:
            return mutated_bytes(text.encode("utf-8", "surrogatepass"), rng)
        text = "\n".join(lines)
    return text.encode("utf-8", "surrogatepass")


def mutated_values(text: str, rng: random.Random) -> bytes:
    """A sweep file that is YAML still, or nearly: some of its values or keys are others."""
    content = yaml.safe_load(text)
    new = []
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        place: dict | list = content
        while True:
            key = rng.choice([*place] if isinstance(place, dict) else range(len(place)))
            if not isinstance(place[key], dict | list) or not place[key] or rng.random() < 0.1:
                break
            place = place[key]
        if isinstance(place, dict) and rng.random() < 0.3:
            place[key if rng.random() < 0.3 else rng.choice(KEYS)] = f"@{len(new)}@"
        else:
            place[key] = f"@{len(new)}@"
        new.append(rng.choice(NASTY))
    text = yaml.safe_dump(content, sort_keys=False, default_flow_style=rng.choice((None, True)))
    for number, value in enumerate(new):
        text = text.replace(f"'@{number}@'", value)
    return text.encode("utf-8", "surrogatepass")


# what is damaged, and how users meet it: each gives the words of the command


def sweep_case(rng: random.Random) -> list[object]:
    """A damaged sweep file, read for training or for its costs."""
    mutate = rng.choice((mutated_yaml, mutated_values, mutated_values))
    Path("case.yaml").write_bytes(mutate(rng.choice(_sweeps()), rng))
    if rng.random() < 0.1:
        return ["sweep", "case.yaml", "--dry-run", "--results", "none"]
    return ["train", "case.yaml", "--p-uncond", "0.123456", "--results", "none"]


@functools.cache
def _sweeps() -> list[str]:
    blocks = re.findall(r"```yaml\n(.*?)```", (TOP / "README.md").read_text(), re.S)
    return [SMALL, *blocks, *(path.read_text() for path in sorted((TOP / "sweeps").glob("*.yaml")))]


def npz_case(rng: random.Random) -> list[object]:
    """Damaged samples, or damaged statistics, through `eval`."""
    base = rng.choice(["samples.npz", "packed.npz", "stats.npz", "moments.npz"])
    content = mutated_npz(Path(base), rng)
    Path("case.npz").write_bytes(content)
    if base.startswith(("samples", "packed")):
        return ["eval", "case.npz", "--reference", "stats.npz", "--features", "digits"]
    return ["eval", "samples.npz", "--reference", "case.npz", "--features", "digits"]


def statistics_case(rng: random.Random) -> list[object]:
    """Damaged statistics of the data set, which a results folder keeps."""
    _fresh_results()
    shutil.rmtree("results/small/cells")
    path = next(Path("results/small/references").glob("*.npz"))
    path.write_bytes(mutated_npz(path, rng))
    return ["sweep", "small.yaml"]


def zip_case(rng: random.Random) -> list[object]:
    """A damaged zip of images, as a data set or through `eval`."""
    content = Path("photos.zip").read_bytes()
    if rng.random() < 0.7:
        file = io.BytesIO()
        with zipfile.ZipFile("photos.zip") as old, zipfile.ZipFile(file, "w", rng.choice((0, 8, 8, 12))) as new:
            hit = rng.choice(old.namelist())
            for name in old.namelist():
                inner = old.read(name)
                called = rng.choice(_NAMES) if name == hit and rng.random() < 0.3 else name
                new.writestr(called, mutated_bytes(inner, rng) if name == hit else inner)
        content = file.getvalue()
    if rng.random() < 0.5:
        content = mutated_bytes(content, rng)
    Path("case.zip").write_bytes(content)
    if rng.random() < 0.3:
        return ["eval", "case.zip", "--reference", "stats.npz", "--features", "digits"]
    size = rng.choice(("", ", resolution: 8"))
    Path("case.yaml").write_text(SMALL.replace("{name: digits, limit: 40}", f"{{name: folder, path: case.zip{size}}}"))
    return ["train", "case.yaml", "--p-uncond", "0.123456"]


_NAMES = ["../x.png", "/x.png", "a/\x1b[31m.png", "\x07/0.png", "a\\b.png", "a/" * 300 + "0.png", "a/.png", "é/0.png",
          "\u202e/0.png", "a//0.png", "./a/0.png", "a/0.png/", "classes.tsv", "a/\n.png", "C:/0.png"]  # fmt: skip


def idx_case(rng: random.Random) -> list[object]:
    """A damaged IDX file, inside or outside of its packing."""
    folder = Path("idx")
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree("fashion", folder)
    path = rng.choice(sorted(folder.glob("train*")))
    content = path.read_bytes()
    inside = rng.random() < 0.5
    path.write_bytes(
        gzip.compress(mutated_bytes(gzip.decompress(content), rng), 1) if inside else mutated_bytes(content, rng)
    )
    Path("case.yaml").write_text(SMALL.replace("{name: digits, limit: 40}", "{name: fashion-mnist, path: idx}"))
    return ["train", "case.yaml", "--p-uncond", "0.123456"]


def safetensors_case(rng: random.Random) -> list[object]:
    """A damaged checkpoint, or a damaged training in progress, in a results folder."""
    _fresh_results()
    whole = next(Path("results/small/checkpoints").glob("*.safetensors"))
    base = rng.choice(["done", "partial"])
    content = whole.read_bytes() if base == "done" else Path("partial").read_bytes()
    if rng.random() < 0.5:  # damage in the header alone, whose length stays true
        length = struct.unpack("<Q", content[:8])[0]
        header = mutated_header(content[8 : 8 + length], rng)
        content = struct.pack("<Q", len(header)) + header + content[8 + length :]
    else:
        content = mutated_bytes(content, rng)
    if base == "done":
        whole.write_bytes(content)
        shutil.rmtree("results/small/cells")
        return ["sweep", "small.yaml"]
    whole.unlink()
    whole.with_suffix(".partial").write_bytes(content)
    return ["train", "small.yaml"]


def mutated_header(content: bytes, rng: random.Random) -> bytes:
    """A header of safetensors with bytes, or one number or word of its JSON, changed."""
    if rng.random() < 0.3:
        return mutated_bytes(content, rng)
    text = content.decode()
    words = list(re.finditer(r"-?\d+\.?\d*|[A-Za-z_]\w*|\[[^\[\]]*\]", text))
    new = ["0", "-1", "9" * 25, "1e999", "4096", "[]", "{}", "null", "[" * 5000 + "]" * 5000, "F64", "NaN", "\\u0000"]
    word = rng.choice(words)
    return (text[: word.start()] + rng.choice(new) + text[word.end() :]).encode()


def parquet_case(rng: random.Random) -> list[object]:
    """A damaged row through the commands that read rows."""
    _fresh_results()
    path = sorted(Path("results/small/cells").glob("*.parquet"))[0]
    if rng.random() < 0.5:
        path.write_bytes(mutated_bytes(path.read_bytes(), rng))
    else:
        (row,) = pq.read_table(path, partitioning=None).to_pylist()
        for _ in range(rng.choice((1, 1, 2))):
            row[rng.choice([*row, *KEYS])] = rng.choice(_VALUES)
        for _ in range(rng.choice((0, 0, 1))):
            del row[rng.choice(list(row))]
        rows = [row] * rng.choice((1, 1, 1, 1, 0, 2))
        with contextlib.suppress(pa.ArrowException):
            schema = _schema(row, pq.read_schema(path)) if rng.random() < 0.7 else None
            pq.write_table(pa.Table.from_pylist(rows, schema=schema), path)
    tables = ["report", "small", "--table", "md", "--table", "csv", "--table", "tex", "--out", "out"]
    figures = ["report", "small", "--plot", "strength", "--out", "out"]
    return rng.choice(
        [["ls"], ["ls", "small"], tables, tables, ["sweep", "small.yaml"], figures if rng.random() < 0.2 else ["ls"]]
    )


_VALUES = [None, "", "ok", "failed", "\x1b[31m", "../../x", "$\\frac$", "x" * 5000, 0, -1, 2**62, 1.5,
           float("nan"), float("inf"), -1e308, 1e-320, True, b"\0", [1], {"a": 1}, "NaT", "2020", "|<b>\n"]  # fmt: skip


def _schema(row: dict, known: pa.Schema) -> pa.Schema:
    """The row's own types where there are such columns, so that only values are hostile."""
    return pa.schema([(key, known.field(key).type if key in known.names else pa.array([row[key]]).type) for key in row])


def _fresh_results() -> None:
    shutil.rmtree("results", ignore_errors=True)
    shutil.copytree("whole", "results")


CASES: dict[str, Callable[[random.Random], list[object]]] = {
    "sweep": sweep_case,
    "npz": npz_case,
    "statistics": statistics_case,
    "zip": zip_case,
    "idx": idx_case,
    "safetensors": safetensors_case,
    "parquet": parquet_case,
}


# the place where the cases happen


@contextlib.contextmanager
def workplace() -> Iterator[None]:
    """A folder with one of everything, undamaged; and a machine so small that no case can fill it or work for long."""
    from cfgbench import machine
    from cfgbench.data import fashion_mnist
    from cfgbench.models import pace

    before = Path.cwd()
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        os.chdir(folder)
        stack.enter_context(warnings.catch_warnings())
        warnings.simplefilter("ignore")  # zipfile's, about names that stand there twice
        stack.callback(os.chdir, before)
        _images()
        for patch in (
            mock.patch.object(machine, "memory", return_value=1 << 28),
            mock.patch.object(pace, "SECONDS_TO_MEASURE", 0.02),
            mock.patch.object(fashion_mnist, "DEBIAN", Path(folder) / "fashion"),
            mock.patch.dict(os.environ, {"CFGBENCH_CACHE": f"{folder}/cache"}),
        ):
            stack.enter_context(patch)
        _results()
        yield


def _images() -> None:
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (20, 8, 8, 1), dtype=np.uint8)
    np.savez("samples.npz", pixels)
    np.savez_compressed("packed.npz", pixels)
    with zipfile.ZipFile("photos.zip", "w") as archive:
        archive.writestr("classes.tsv", "a\tanemone\nb\tbadger, the\n")
        for number in range(8):
            file = io.BytesIO()
            picture = Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8))
            picture.save(file, ("PNG", "JPEG")[number % 2])
            archive.writestr(f"{'ab'[number // 4]}/{number}.{('png', 'jpg')[number % 2]}", file.getvalue())
    Path("fashion").mkdir()
    for name, array in (
        ("images-idx3", rng.integers(0, 256, (20, 28, 28), dtype=np.uint8)),
        ("labels-idx1", np.arange(20, dtype=np.uint8) % 10),
    ):
        head = struct.pack(f">{1 + array.ndim}i", 0x800 + array.ndim, *array.shape)
        Path(f"fashion/train-{name}-ubyte.gz").write_bytes(gzip.compress(head + array.tobytes(), 1))
    os.mkfifo("pipe")
    block = re.search(r"```python\n(# mymodel.*?)```", (TOP / "README.md").read_text(), re.S)
    Path("mymodel.py").write_text(block[1])
    Path("small.yaml").write_text(SMALL)


def _results() -> None:
    """A sweep that is done (in whole/), a training that was stopped (partial), statistics that name their extractor,
    and such that do not."""
    from cfgbench.training.step import Step

    honest = Step.__call__

    def stopped(step: Step) -> None:
        if step.state.step == 2:
            raise KeyboardInterrupt
        honest(step)

    with mock.patch.object(Step, "__call__", stopped):
        command("train", "small.yaml")
    shutil.copy(next(Path("results/small/checkpoints").glob("*.partial")), "partial")
    for words in (
        ["sweep", "small.yaml"],
        ["eval", "samples.npz", "--reference", "digits", "--save-stats", "stats.npz"],
    ):
        code, said = command(*words)
        assert code == 0, said
    shutil.copytree("results", "whole")
    with np.load("stats.npz", allow_pickle=False) as stats:
        np.savez("moments.npz", mu=stats["mu"], sigma=stats["sigma"])


def fuzz(kind: str, cases: int, seed: int, *, first: int = 0, say: Callable[[str], None] = print) -> Report:
    """Runs so many cases of a kind, and says each finding with what repeats it."""
    report = Report(kind)
    for number in range(first, first + cases):
        words = CASES[kind](random.Random(f"{seed}/{kind}/{number}"))
        began = time.monotonic()
        code, said = command(*words)
        took = time.monotonic() - began
        report.codes[code] += 1
        report.seconds += took
        report.slowest = max(report.slowest, took)
        if code is None:
            content = next((repr(Path(str(w)).read_bytes()[:1000]) for w in words if str(w) == "case.yaml"), "")
            report.findings.append(
                f"--kind {kind} --seed {seed} --first {number} --cases 1: {words}\n{content}\n{said}"
            )
            say(report.findings[-1])
    return report


def main() -> None:
    """Prints a table of what the cases came to; exit code 1 where something was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=20_000, help="of each kind")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0, help="number of the first case")
    parser.add_argument("--kind", choices=[*CASES, "all"], default="sweep")
    options = parser.parse_args()
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + (16 << 30), resource.RLIM_INFINITY))
    kinds = list(CASES) if options.kind == "all" else [options.kind]
    with workplace():
        reports = [fuzz(kind, options.cases, options.seed, first=options.first) for kind in kinds]
    print("\n".join([HEAD, *(report.line() for report in reports)]))
    sys.exit(any(report.findings for report in reports))


if __name__ == "__main__":
    main()
