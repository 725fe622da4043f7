import os
import signal
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from drawn import strength

from cfgbench import processes
from cfgbench.errors import UserError
from cfgbench.report.drawing import figure_files
from cfgbench.report.drawing.figure_files import begin, pdf, png
from cfgbench.report.drawing.plots import steps, tradeoff
from cfgbench.report.rows.slices import slices


def with_processors(monkeypatch, count):
    monkeypatch.setattr(processes, "forkable_processors", lambda: count)


@pytest.mark.parametrize("count", [2, 5])
def test_files_are_the_same_however_many_processes_draw(monkeypatch, table1, table2, count):
    draws = {"one": tradeoff(slices(table1))[0], "two": steps(slices(table2))[0], "three": tradeoff(slices(table2))[0]}
    with_processors(monkeypatch, 1)
    alone = begin(draws)()
    with_processors(monkeypatch, count)
    together = begin(draws)()
    assert list(together) == [f"{stem}.{kind}" for stem in draws for kind in ("png", "svg")]
    assert together == alone


def test_figures_are_drawn_in_other_processes(monkeypatch, table1, tmp_path):
    with_processors(monkeypatch, 2)
    draw = tradeoff(slices(table1))[0]

    def noting(number):
        (tmp_path / f"{number}-{os.getpid()}").touch()
        end = time.monotonic() + 30
        while number == 0 and len(list(tmp_path.iterdir())) < 4:  # the other process takes all that is left
            assert time.monotonic() < end
            time.sleep(0.01)
        return draw()

    begin({str(number): partial(noting, number) for number in range(4)})()
    drawers = {path.name[2:] for path in tmp_path.iterdir()}
    assert len(list(tmp_path.iterdir())) == 4
    assert len(drawers) == 2
    assert str(os.getpid()) not in drawers


def test_what_drawing_raises_is_raised(monkeypatch, table1):
    with_processors(monkeypatch, 2)

    def refuse():
        raise UserError("no ink")

    wait = begin({"good": tradeoff(slices(table1))[0], "bad": refuse})
    with pytest.raises(UserError, match="no ink"):
        wait()


def test_a_process_that_dies_leaves_its_figures_to_this_one(monkeypatch, table1):
    with_processors(monkeypatch, 2)
    here = os.getpid()
    (expected,) = strength(slices(table1))

    def killed():
        if os.getpid() != here:
            os.kill(os.getpid(), signal.SIGKILL)
        return strength(slices(table1))[0]

    files = begin({"good": tradeoff(slices(table1))[0], "killed": killed})()
    assert files["killed.png"] == png(expected)
    assert "good.svg" in files


def test_figures_are_pdf_too_where_that_is_asked_for(monkeypatch, table1):
    draws = {"one": tradeoff(slices(table1))[0], "two": tradeoff(slices(table1))[0]}
    with_processors(monkeypatch, 2)
    files = begin(draws, with_pdf=True)()
    assert list(files) == [f"{stem}.{kind}" for stem in draws for kind in ("png", "svg", "pdf")]
    assert files["one.pdf"] == files["two.pdf"] == pdf(draws["one"]())


@pytest.mark.skipif(sys.platform != "linux", reason="one process draws there")
def test_processes_read_no_font_that_was_open_before_them(monkeypatch, table1, tmp_path):
    """Two that did shared the place in its file: one in six runs of such reports failed by 'invalid outline'."""
    clip = np.where(table1["w"] <= 1, "on", "off")
    (draw,) = tradeoff(slices(table1.assign(protocol="clip " + clip.astype(object), protocol_id=clip), mixed=True))
    here = os.getpid()
    with_processors(monkeypatch, 1)
    before = begin({"one": draw})()

    def with_them_shut():
        if os.getpid() != here:
            shut_fonts()
        return draw()

    with_processors(monkeypatch, 2)
    files = begin({"one": with_them_shut, "two": with_them_shut})()
    assert before.items() <= files.items()


def shut_fonts():
    nothing = os.open(os.devnull, os.O_RDONLY)
    for path in list(Path("/proc/self/fd").iterdir()):
        if path.exists() and path.readlink().suffix == ".ttf":
            os.dup2(nothing, int(path.name))


def test_a_large_svg_is_left_out_and_the_png_is_there(monkeypatch, table1):
    with_processors(monkeypatch, 1)
    draws = {"one": tradeoff(slices(table1))[0]}
    assert list(begin(draws)()) == ["one.png", "one.svg"]
    monkeypatch.setattr(figure_files, "LARGEST_SVG", 10_000)
    assert list(begin(draws)()) == ["one.png"]


def test_where_no_process_can_begin_this_one_draws(monkeypatch, table1):
    with_processors(monkeypatch, 2)
    draws = {"one": tradeoff(slices(table1))[0], "two": tradeoff(slices(table1))[0]}

    def refuse():
        raise BlockingIOError("Resource temporarily unavailable")

    monkeypatch.setattr(os, "fork", refuse)
    files = begin(draws)()
    assert files["one.png"] == files["two.png"]
