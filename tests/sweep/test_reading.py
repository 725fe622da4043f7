import os
import signal
import subprocess
import sys
import time

import pyarrow.parquet as pq
import pytest
from programs import foreground

from cfgbench.errors import UserError
from cfgbench.sweep.results import row
from cfgbench.sweep.results.store import Store

ROW = {"sweep": "many", "status": "ok", "dataset": "digits", "p_uncond": 0.1, "T": 8, "v": 0.3, "sampler": "ancestral",
       "guidance": "cfg", "seed": 0, "samples": 10, "protocol": "p", "features_id": "digits", "reference_id": "r",
       "checkpoint_id": "c", "created": "2026-01-01T00:00:00.000+00:00"}  # fmt: skip
COUNT = 3 * row.WORTH_A_PROCESS + 1


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    filled = Store(tmp_path_factory.mktemp("results") / "many")
    (filled.folder / "cells").mkdir(parents=True)
    for number in range(COUNT):
        name = f"{number:012x}"
        pq.write_table(row.as_table(ROW | {"cell_id": name, "w": float(number)}), filled.row(name))
    return filled


@pytest.fixture
def readers(monkeypatch, tmp_path):
    """The processes that have read, when it is called."""
    inner, seen = row._read, tmp_path / "seen"
    seen.mkdir()

    def noting(paths):
        (seen / str(os.getpid())).touch()
        return inner(paths)

    monkeypatch.setattr(row, "_read", noting)
    return lambda: {int(path.name) for path in seen.iterdir()}


@pytest.mark.parametrize("count", [1, 2, 3, 8])
def test_many_rows_are_read_by_other_processes_in_their_order(monkeypatch, many, readers, count):
    monkeypatch.setattr(row, "forkable_processors", lambda: count)
    rows = many.rows()
    assert rows["w"].tolist() == list(range(COUNT))
    assert len(readers()) == min(count, 3)
    assert (os.getpid() in readers()) == (count == 1)


def test_few_rows_and_none_are_read_by_this_process(tmp_path, many, readers):
    few = Store(tmp_path / "few")
    (few.folder / "cells").mkdir(parents=True)
    assert few.rows().empty
    for number in range(5):
        name = f"{number:012x}"
        few.row(name).write_bytes(many.row(name).read_bytes())
    assert few.rows()["w"].tolist() == list(range(5))
    assert readers() == {os.getpid()}


def test_a_damaged_file_among_many_is_named(monkeypatch, many):
    monkeypatch.setattr(row, "forkable_processors", lambda: 2)
    path = many.row(f"{COUNT - 1:012x}")
    content = path.read_bytes()
    path.write_bytes(content[:-100])
    try:
        with pytest.raises(UserError, match=f"{path.name}: not a row"):
            many.rows()
        assert len(many.read()[0]) == COUNT - 1
    finally:
        path.write_bytes(content)


def test_stopping_a_report_is_one_line_whatever_its_processes_are_at(tmp_path, many):
    (many.folder / "sweep.yaml").write_text("name: many\n")
    waits = tmp_path / "waits"
    code = f"""
import pathlib, time
from cfgbench import cli
from cfgbench.sweep.results import row, store
row._read, row.forkable_processors, begin = lambda paths: time.sleep(60), lambda: 2, row.begin_reading
def begin_reading(paths):
    wait = begin(paths)
    def noting():
        pathlib.Path({str(waits)!r}).touch()
        return wait()
    return noting
store.begin_reading = begin_reading
cli.main()
"""
    command = [sys.executable, "-c", code, "report", "many", "--results", many.folder.parent, "--out", tmp_path / "out"]
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "start_new_session": True}
    with subprocess.Popen(command, preexec_fn=foreground, **options) as process:
        while process.poll() is None and not waits.exists():
            time.sleep(0.05)
        time.sleep(0.5)
        os.killpg(process.pid, signal.SIGINT)
        out, said = process.communicate(timeout=30)
    assert (process.returncode, out) == (130, "")
    assert said.startswith("cfgbench: stopped")
    assert said.count("\n") == 1
