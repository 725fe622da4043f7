"""What is shown of tasks side by side."""

import sys

import pytest

from cfgbench import exits, progress


@pytest.fixture
def shown(monkeypatch, capsys):
    """shown(terminal) gives (the progress of two workers, a function that lets seconds pass, what was printed)."""
    clock = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: clock[0])

    def go(terminal, kind="xterm"):
        monkeypatch.setenv("TERM", kind)
        monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal, raising=False)
        monkeypatch.setattr(progress, "_width", lambda: 80)
        lines = progress.Lines()

        def later(seconds):
            clock[0] += seconds

        return [progress.of_worker(lines, number) for number in range(2)], later, lambda: capsys.readouterr().err

    return go


def test_tasks_side_by_side_do_not_restart_each_others_time_left(shown):
    (one, other), later, said = shown(terminal=True)
    for done in range(0, 60, 10):
        one("train a", done, 100, "loss 0.1")
        other("train b", done // 2, 100, "loss 0.1")
        later(1.0)
    last = said().split("\r\x1b[K")[-1]
    assert last == "train a: 50/100, 5 s left | train b: 20/100, 16 s left"
    other("train b", 100, 100, "loss 0.1")
    assert said() == "\r\x1b[Ktrain b: 100/100, loss 0.1, 6 s\n"
    one("train a", 60, 100, "loss 0.1")
    assert said() == "\r\x1b[Ktrain a: 60/100, loss 0.1, 4 s left"
    later(1.0)
    one("a task of a name that is longer than all of what the terminal shows in one of its lines", 1, 9, "")
    one("a task of a name that is longer than all of what the terminal shows in one of its lines", 2, 9, "")
    assert len(said().removeprefix("\r\x1b[K")) == 79
    one.func.__self__.clear()
    assert said() == "\r\x1b[K"


def test_what_is_said_meanwhile_has_a_line_of_its_own(shown):
    (one, _), later, said = shown(terminal=True)
    for done in range(3):
        one("train a", done, 100, "")
        later(1.0)
    exits.say("a: cannot be written", 2)
    assert said().split("\r\x1b[K")[-1] == "cfgbench: a: cannot be written\n"
    (one, _), later, said = shown(terminal=True, kind="dumb")
    for done in range(30):
        one("train a", done, 100, "")
        later(1.0)
    exits.say("a: cannot be written", 2)
    assert "\r" not in said()


def test_lines_of_tasks_side_by_side_come_no_more_often_than_those_of_one(shown):
    (one, other), later, said = shown(terminal=False)
    for done in range(600):
        one("train a", done, 1000, "")
        other("train b", done, 1000, "")
        later(0.1)
    assert 5 <= said().count("\n") <= 8
    other("waiting for another process", 0, 9, "")
    later(100.0)
    other("waiting for another process", 0, 9, "")
    assert said() == ""
    progress.end_worker(one.func.__self__, 0)
    later(100.0)
    other("waiting for another process", 0, 9, "")
    assert said() == "waiting for another process: 0/9\n"
