"""What a container, a service or a job may take of a machine, as Linux writes it down."""

import os

import pytest

from cfgbench import cli, machine

SEEN = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


@pytest.fixture
def groups(tmp_path, monkeypatch):
    """Makes control groups of {file: text}, of which this process is in those that `own` names."""

    def make(files, own):
        monkeypatch.setattr(machine, "GROUPS", tmp_path / "cgroup")
        monkeypatch.setattr(machine, "OWN_GROUPS", tmp_path / "own")
        (tmp_path / "own").write_text(own)
        for name, text in files.items():
            (tmp_path / "cgroup" / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / "cgroup" / name).write_text(text)

    return make


def seen(monkeypatch, count):
    monkeypatch.setattr(machine, "_processors_seen", lambda: count)


@pytest.mark.parametrize(
    ("files", "own", "expected"),
    [
        ({}, "0::/\n", 64),
        ({"cpu.max": "max 100000\n"}, "0::/\n", 64),
        ({"cpu.max": "800000 100000\n"}, "0::/\n", 8),
        ({"cpu.max": "150000 100000\n"}, "0::/\n", 2),
        ({"cpu.max": "20000 100000\n"}, "0::/\n", 1),
        ({"cpu.max": "9900000 100000\n"}, "0::/\n", 64),
        ({"a.slice/b/cpu.max": "max 100000", "a.slice/cpu.max": "300000 100000"}, "0::/a.slice/b\n", 3),
        ({"cpu.max": "300000 100000"}, "0::/not/to/be/seen\n", 3),
        ({"b/cpu.max": "300000 100000"}, "0::/a\n", 64),
        ({"a/cpu.max": "max 100000", "../cpu.max": "300000 100000"}, "0::/a\n", 64),
        ({"cpu/a/cpu.cfs_quota_us": "250000\n", "cpu/a/cpu.cfs_period_us": "100000\n"}, "4:cpuacct,cpu:/a\n0::/\n", 3),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, "1:name=x:/\n4:cpu:/a\n", 64),
    ],
)
def test_processors_are_what_a_container_has_time_for(groups, monkeypatch, files, own, expected):
    groups(files, own)
    seen(monkeypatch, 64)
    assert machine.processors() == expected


@pytest.mark.parametrize(
    ("files", "own", "expected"),
    [
        ({"memory.max": "1048576\n"}, "0::/\n", 1 << 20),
        ({"a/memory.max": "max\n", "memory.max": "2097152\n"}, "0::/a\n", 1 << 21),
        ({"memory/a/memory.limit_in_bytes": "4096\n"}, "5:memory:/a\n", 4096),
    ],
)
def test_memory_is_what_a_container_may_take(groups, files, own, expected):
    groups(files, own)
    assert machine.memory() == expected


def test_a_machine_without_containers(groups, tmp_path):
    groups({"memory/memory.limit_in_bytes": "9223372036854771712\n"}, "5:memory:/\n")
    whole = machine.memory()
    (tmp_path / "own").unlink()
    assert machine.memory() == whole > 1 << 28
    assert machine.processors() == SEEN


@pytest.mark.parametrize(("asked", "expected"), [(None, "8"), ("3", "3")])
def test_the_program_begins_no_more_threads(groups, monkeypatch, capsys, asked, expected):
    groups({"cpu.max": "800000 100000"}, "0::/\n")
    seen(monkeypatch, 64)
    monkeypatch.delenv("OMP_NUM_THREADS")
    if asked:
        monkeypatch.setenv("OMP_NUM_THREADS", asked)
    monkeypatch.setattr("sys.argv", ["cfgbench", "--help"])
    with pytest.raises(SystemExit):
        cli.main()
    assert os.environ["OMP_NUM_THREADS"] == expected


def test_threads_are_left_alone_where_nothing_is_limited(groups, monkeypatch):
    groups({}, "0::/\n")
    monkeypatch.delenv("OMP_NUM_THREADS")
    machine.keep_to_processors()
    assert "OMP_NUM_THREADS" not in os.environ
