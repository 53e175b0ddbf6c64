"""README.md and docs/ quote what was measured, and nothing else."""

import hashlib
import json
from pathlib import Path

from benchmarks import report
from tools import results_table

README = Path(__file__).parents[2] / "README.md"


def test_tables_are_those_that_the_results_give():
    for page, text in results_table.pages().items():
        written = page.read_text(encoding="utf-8")
        assert text == written, f"{page.name}: python -m tools.results_table --write"


def test_the_benchmarks_page_is_the_one_that_their_files_give():
    page = README.parent / "benchmarks" / "README.md"
    assert page.read_text(encoding="utf-8") == report.markdown(), "python -m benchmarks.report"


def test_what_labels_are_worth_is_quoted_from_its_file():
    text = (README.parent / "docs" / "laboratory.md").read_text(encoding="utf-8")
    told = json.loads((README.parent / "results/label_noise-fer2013.json").read_text())
    faces = told["splits"]["validation"]
    for figure in ("most_voted", "best_use"):
        assert f"{100 * faces[figure]['k'] / faces[figure]['n']:.0f} %" in text, figure
    assert f"{sum(told['listed'].values()):,} faces" in text


def test_the_pictures_show_the_network_that_is_served():
    # Screenshots outlive the network they show: their bars are then another network's
    root = README.parent
    told = json.loads((root / "docs/pictures.json").read_text(encoding="utf-8"))
    network = root / "checkpoints" / f"{told['network']}.safetensors"
    digest = hashlib.sha256(network.read_bytes()).hexdigest()
    assert told == {"network": "expression", "sha256": digest}, "python -m tools.screenshots"
