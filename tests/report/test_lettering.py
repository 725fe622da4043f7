"""How wide letters are, against what matplotlib draws; headings and names that stay on the page."""

import io
import string
import warnings

import numpy as np
import pytest
from drawn import samples, strength, tradeoff
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image
from test_samples import save

from cfgbench.report.drawing import lettering
from cfgbench.report.drawing.canvas import canvas
from cfgbench.report.drawing.figure_files import png, svg
from cfgbench.report.drawing.lettering import DPI, balanced, filled, width, written
from cfgbench.report.request import ImageChoice
from cfgbench.report.rows.slices import slices

TEXTS = ["W" * 40, "il1 " * 20, "AVAToWaYe", string.ascii_letters, string.digits + ".,·±()[]=+-τ", "Ж" * 40, "Größe"]
CUT_OFF = "digits, score scaling: the same noise under growing guidance (p_uncond 0.1)"
TITLES = ["W" * 300, "WWW " * 80, "il " * 200, CUT_OFF]


def drawn_width(text, size, bold):
    weight = "bold" if bold else "normal"
    drawn = Text(0, 0, text, figure=Figure(dpi=DPI), fontsize=size, fontweight=weight, parse_math=False)
    return drawn.get_window_extent().width


@pytest.mark.parametrize("bold", [False, True])
@pytest.mark.parametrize("size", [6.5, 8, 8.5, 12])
def test_letters_are_as_wide_as_they_are_drawn(size, bold):
    for text in TEXTS:
        drawn = drawn_width(text, size, bold)
        assert drawn <= width(text, size, bold=bold) + 2
        assert width(text, size, bold=bold) <= 1.1 * drawn + 2


@pytest.mark.parametrize("bold", [False, True])
def test_letters_that_the_font_lacks_become_question_marks(bold):
    assert written("Größe, Ж, τ ± · \u00a0", bold=bold) == "Größe, Ж, τ ± · \u00a0"
    assert written("a日本b\U0001f98a\ud800", bold=bold) == "a??b??"


@pytest.mark.parametrize("choice", [ImageChoice(), ImageChoice(ws=(0.0, 1.0))])
def test_names_in_other_scripts_draw_no_boxes(tmp_path, table1, choice):
    for cell in table1["cell_id"]:
        save(tmp_path / "samples" / f"{cell}.png", 100, names=["日本", "chat", "\U0001f98a"])
    rows = table1.assign(dataset="日本 photos")
    rows = rows.assign(protocol=["clip off; 漢", "clip on; 字"] * 21, features_id="日", protocol_id=["1", "2"] * 21)
    (part,) = slices(rows, mixed=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        (images,) = samples(tmp_path, [part], choice)
        for figure in (images, *tradeoff([part]), *strength([part])):
            assert png(figure)
            assert svg(figure)
            assert figure.texts[0].get_text().startswith("?? photos")
    if choice.ws:
        assert "left to right: class 0, chat, class 2" in " ".join(images.texts[1].get_text().split())
    else:
        assert [text.get_text() for text in images.axes[0].texts[-3:]] == ["class 0", "chat", "class 2"]


def test_lines_hold_all_words_and_no_more_than_fits():
    words = "guidance " * 30
    for lines in (filled(words, 500, 12), balanced(words, 500, 12)):
        assert " ".join(lines) == words.strip()
        assert all(width(line, 12) <= 500 for line in lines)
    assert filled("W" * 100, 500, 12)[0] == "W" * int(500 / width("W", 12))
    assert "".join(filled("W" * 100, 500, 12)) == "W" * 100


def test_balanced_lines_are_as_few_and_about_as_long():
    words = "one two three four five six seven eight nine ten " * 3
    greedy, even = filled(words, 900, 8.5), balanced(words, 900, 8.5)
    assert len(even) == len(greedy)
    assert min(width(line, 8.5) for line in even) > 0.8 * max(width(line, 8.5) for line in even)
    assert balanced("", 900, 8.5) == filled("", 900, 8.5) == []


def test_a_letter_is_measured_once(monkeypatch):
    width(string.ascii_letters, 8.5)
    monkeypatch.setattr(lettering, "_font", None)
    width(string.ascii_letters, 8.5)


def edges(figure):
    """The ink in the outermost columns of the page, left and right: 0 is none."""
    pixels = np.asarray(Image.open(io.BytesIO(png(figure))).convert("L"))
    return 255 - pixels[:, [0, -1]].min()


@pytest.mark.parametrize("title", TITLES)
def test_no_heading_leaves_the_page(title):
    figure, _ = canvas(8, 12, title, title.replace(" ", " · "))
    assert edges(figure) == 0


def test_no_line_of_a_title_ends_between_a_name_and_its_number():
    for wide in range(2, 12):
        figure, _ = canvas(wide, 12, "digits: the same noise under guidance at w 0, 0.5 and 1 (p_uncond 0.1, T 32)", "")
        lines = figure.texts[0].get_text().split("\n")
        assert not any(line.endswith((" w", "p_uncond", "T", "and")) for line in lines)
        assert len(lines) > 1 or wide > 6


@pytest.mark.parametrize("name", ["W" * 40, "W" * 14, "i"])
def test_sheets_have_room_for_their_headings_and_the_names_of_their_classes(tmp_path, table1, name):
    rows = table1[table1["p_uncond"] == 0.1].iloc[:6].assign(dataset="digits, score scaling")
    for cell in rows["cell_id"]:
        save(tmp_path / "samples" / f"{cell}.png", 100, names=[name, "b", "c"])
    (figure,) = samples(tmp_path, slices(rows))
    assert edges(figure) == 0
