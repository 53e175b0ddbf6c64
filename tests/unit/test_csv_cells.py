"""No cell of a table is run by a spreadsheet, and reading it back gives the text again."""

import ast
import csv
import io
from pathlib import Path

import pytest

from expression.csv_cells import cell_of, text_of
from expression.face_prediction import FacePrediction
from expression.tables import FaceTable
from expression.timeline import Timeline, read_timeline

ROOT = Path(__file__).resolve().parents[2]
SIGNS = "=+-@\t\r＝＋－＠"
EVIL = ["=1+1", "@SUM(1)", "+1", "-1", "=HYPERLINK(0)", "=A1&\"a,b\".jpg", " =1", "\t=1",
        "＝1", "'=1", "''-1"]  # fmt: skip
PLAIN = ["photo.jpg", "a=b.jpg", "", "'quoted'.jpg", "'", "1-2.png", "./-1.png", "漢字.png"]
FACE = FacePrediction((-3, 4, 10, 12), {"=1+1": 0.75, "happy, or not": 0.25}, track=1)


@pytest.mark.parametrize("text", EVIL + PLAIN)
def test_a_text_is_no_formula_and_comes_back(text):
    cell = cell_of(text)
    assert not cell.lstrip(" ").startswith(tuple(SIGNS))
    assert text_of(cell) == text
    assert text in EVIL or cell == text  # nothing else is changed


def test_no_two_texts_share_a_cell():
    texts = [first + second + third for first in ["", *SIGNS, "'", " ", "x"]
             for second in ["", *SIGNS, "'", " "] for third in ["", "'", "=", "1"]]  # fmt: skip
    assert [text_of(cell_of(text)) for text in texts] == texts


@pytest.mark.parametrize("name", EVIL)
def test_the_table_of_pictures_holds_names_as_text_and_numbers_as_numbers(name):
    file = io.StringIO(newline="")
    table = FaceTable(file, list(FACE.probs))
    table.add(name, [FACE])
    table.add_empty(name)
    file.seek(0)
    rows = list(csv.DictReader(file))
    cells = [*rows[0], *(row["source"] for row in rows), rows[0]["expression"]]
    assert [cell for cell in cells if cell.startswith(tuple(SIGNS))] == []
    assert text_of(rows[0]["source"]).replace("\\t", "\t") == name
    assert rows[0]["x"] == "-3" and rows[0]["'=1+1"] == "0.7500"


def test_the_table_of_a_video_holds_classes_as_text_and_is_read_again(tmp_path):
    path = tmp_path / "clip.csv"
    with Timeline(path, list(FACE.probs)) as table:
        table.add(0.5, 1, FACE)
    with path.open(newline="", encoding="utf-8") as file:
        (row,) = csv.DictReader(file)
    assert row["expression"] == "'=1+1" and row["x"] == "-3"
    assert read_timeline(path) == (tuple(FACE.probs), [(0.5, 1, FACE.probs)])


def test_every_table_that_is_written_knows_the_rule():
    # Found by their writer: a new one is held to it too.
    writers = {
        path.relative_to(ROOT).as_posix()
        for folder in ("expression", "lab", "tools")
        for path in (ROOT / folder).rglob("*.py")
        if path.parent.name != "torture"  # writes what is to be refused
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call)
        and ast.unparse(node.func) in ("csv.writer", "csv.DictWriter", "writer", "DictWriter")
    }
    assert {"expression/tables.py", "expression/timeline.py", "lab/datasets/cleaned.py"} <= writers
    for name in writers:
        assert "cell_of" in (ROOT / name).read_text(encoding="utf-8"), name
