"""Expression_evidence.ipynb: committed from one whole run, and still running from results/."""

import base64
import io
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from PIL import Image

import demo

pytestmark = pytest.mark.slow
ROOT = Path(demo.__file__).parent
NOTEBOOK = ROOT / "Expression_evidence.ipynb"
SECTIONS = 12


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> nbformat.NotebookNode:
    """A run in a copy of the tree where no data set is at hand."""
    tree = tmp_path_factory.mktemp("tree")
    for path in [*ROOT.glob("*.py"), NOTEBOOK]:
        shutil.copy(path, tree)
    for folder in ("benchmarks", "checkpoints", "expression", "lab", "results", "tools"):
        ignored = shutil.ignore_patterns("__pycache__", "*.png")
        shutil.copytree(ROOT / folder, tree / folder, ignore=ignored)
    data = ("EXPRESSION_DATA", "FER2013_DATA", "FERPLUS_VOTES")
    env = {key: value for key, value in os.environ.items() if key not in data} | {"SMOKE": "1"}
    before = {path: path.stat().st_mtime_ns for path in (tree / "results").rglob("*.json")}
    done = subprocess.run(
        [sys.executable, "tools/run_notebook.py", NOTEBOOK.name],
        cwd=tree, env=env, capture_output=True, text=True, timeout=600,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    after = {path: path.stat().st_mtime_ns for path in (tree / "results").rglob("*.json")}
    assert before == after, "reading must not write, least of all an opening of a test split"
    return nbformat.read(tree / "out" / NOTEBOOK.name, 4)


def code_of(notebook: nbformat.NotebookNode) -> list[nbformat.NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def text_of(notebook: nbformat.NotebookNode) -> str:
    """What is printed, and the tables."""
    outputs = [output for cell in code_of(notebook) for output in cell.outputs]
    return "\n".join(o.get("text") or o.get("data", {}).get("text/markdown", "") for o in outputs)


def figures_of(notebook: nbformat.NotebookNode) -> list[bytes]:
    outputs = [output for cell in code_of(notebook) for output in cell.outputs]
    found = [output.get("data", {}).get("image/png") for output in outputs]
    return [base64.b64decode(png) for png in found if png]


def test_it_runs_without_any_data_set_and_says_what_is_missing(
    story: nbformat.NotebookNode,
) -> None:
    code = code_of(story)
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    assert len(figures_of(story)) >= SECTIONS
    text = text_of(story)
    assert "FER2013" in text and "not here" in text and "synthetic faces" in text


def test_stored_figures_are_those_of_the_committed_run(story: nbformat.NotebookNode) -> None:
    # The committed run had all pictures. Whatever it shows from results/ must not depend on them.
    lines = set(text_of(nbformat.read(NOTEBOOK, 4)).splitlines())
    shown = [line for line in text_of(story).splitlines() if re.search(r"\d+/\d{4}", line)]
    assert len(shown) > 15 and not [line for line in shown if line not in lines]


def test_committed_outputs_come_from_one_whole_run_on_real_faces() -> None:
    notebook = nbformat.read(NOTEBOOK, 4)
    code = code_of(notebook)
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    outputs = [output for cell in code for output in cell.outputs]
    assert not [output for output in outputs if output.output_type == "error"]
    text = text_of(notebook)
    assert "SMOKE False" in text and "measured again" in text, "from a run without the pictures"
    assert "does not hold" not in text
    everything = NOTEBOOK.read_text(encoding="utf-8")
    machine = (str(Path.home()), "/home/", "/tmp/", "Traceback", "Warning")
    assert not [word for word in machine if word in everything and len(word) > 1]
    assert NOTEBOOK.stat().st_size < 1_500_000


def test_each_section_asserts_claims_and_ends_in_a_rule() -> None:
    cells = nbformat.read(NOTEBOOK, 4).cells
    starts = [n for n, c in enumerate(cells) if re.search(r"^## \d+\.", c.source, re.M)]
    assert len(starts) == SECTIONS
    end = next(n for n, cell in enumerate(cells) if "## The rules together" in cell.source)
    for first, after in zip(starts, [*starts[1:], end], strict=True):
        part = cells[first:after]
        title = part[0].source.splitlines()[1]
        assert "**Question.**" in part[0].source, title
        assert any("claim(" in c.source for c in part if c.cell_type == "code"), title
        assert "**Rule.**" in part[-1].source, title
    assert len(re.findall(r"(?m)^\d+\. \*\*", cells[end].source)) == SECTIONS


def test_contents_lead_to_every_section() -> None:
    text = "\n".join(c.source for c in nbformat.read(NOTEBOOK, 4).cells if c.cell_type != "code")
    linked = set(re.findall(r"\]\(#([a-z]+)\)", text))
    assert linked == set(re.findall(r'<a id="([a-z]+)"></a>', text)) and len(linked) > SECTIONS


def test_figures_can_be_opened_and_fit_a_page() -> None:
    for png in figures_of(nbformat.read(NOTEBOOK, 4)):
        image = Image.open(io.BytesIO(png))
        image.load()
        assert image.width <= 960, "wider than a page shows: its words get too small"
