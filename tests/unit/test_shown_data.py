"""Names in data sets come from anybody: reports and tables of the laboratory show them safely."""

import csv

import pytest
from PIL import Image

from lab import datasets
from lab.datasets.cleaned import Change, read_changes, write_changes
from lab.datasets.reading import Report

EVIL = "x.png: does not open\n5,000 pictures kept\x1b[2J\u202egpj"


def test_a_file_name_forges_no_line_of_a_report():
    report = Report(strict=False)
    report.line(f"{EVIL}: no picture; left out")
    report.note(f"{EVIL}: a class folder without a picture that opens")
    for reason, place in (("broken", EVIL), (EVIL, 1)):
        report.count(reason, place)
    text = report.text("the first line")
    assert len(text.splitlines()) == 5
    assert text.replace("\n", "").isprintable()
    with pytest.raises(ValueError) as caught:
        Report(strict=True).line(EVIL)
    assert str(caught.value).isprintable()


def test_labels_with_commas_and_formulas_come_back_from_a_file_of_cleaned_labels(tmp_path):
    changes = [Change(3, "train", "=1+1", 'happy, "very"', 8, 0.5), Change(4, "train", "a", "b")]
    path = write_changes(tmp_path / "cleaned.csv", changes)
    assert [(c.number, c.label, c.cleaned_label) for c in read_changes(path)] == [
        (c.number, c.label, c.cleaned_label) for c in changes
    ]
    cells = [cell for row in csv.reader(path.open(newline="")) for cell in row]
    assert not [cell for cell in cells if cell.startswith(("=", "+", "-", "@"))]


def test_a_folders_own_name_forges_no_line_either(tmp_path):
    try:
        for label, shade in (("happy", 0), ("sad", 99)):
            (tmp_path / EVIL / "train" / label).mkdir(parents=True)
            for number in range(6):
                image = Image.new("L", (8, 8), shade + number)
                image.save(tmp_path / EVIL / "train" / label / f"{number}.png")
    except OSError:
        pytest.skip("this file system takes no such names")
    splits = datasets.load(tmp_path / EVIL)
    assert datasets.origin(splits).isprintable() and "gpj" in datasets.origin(splits)
    assert not any("5,000 pictures" in line for line in datasets.report(splits))


def test_a_broken_tiff_is_told_in_the_report_alone(tmp_path, capfd):
    # libtiff writes to standard error past Python
    for label, shade in (("happy", 0), ("sad", 99)):
        (tmp_path / "train" / label).mkdir(parents=True)
        for number in range(6):
            image = Image.new("L", (8, 8), shade + number)
            image.save(tmp_path / "train" / label / f"{number}.png")
    broken = tmp_path / "train" / "sad" / "broken.tif"
    Image.radial_gradient("L").save(broken, compression="tiff_deflate")
    content = bytearray(broken.read_bytes())
    content[100:1000] = bytes(900)
    broken.write_bytes(content)
    told = datasets.report(datasets.load(tmp_path))
    assert any("broken.tif" in line for line in told)
    assert "Decode" not in capfd.readouterr().err
