"""The notebook: committed from one whole run, and still running from top to bottom."""

import json
import math
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
from expression.checkpoint import list_checkpoints
from lab import datasets

pytestmark = pytest.mark.slow
ROOT = Path(demo.__file__).parent
NOTEBOOK = ROOT / "Expression_detect.ipynb"


@pytest.fixture(scope="module")
def story(tmp_path_factory):
    """(executed notebook, folder of what it wrote, its data) of a small run in a copy."""
    tree = tmp_path_factory.mktemp("tree")
    for path in [*ROOT.glob("*.py"), NOTEBOOK]:
        shutil.copy(path, tree)
    for folder in ("checkpoints", "expression", "lab", "tools"):
        shutil.copytree(ROOT / folder, tree / folder)
    before = {p.name: p.stat().st_mtime_ns for p in (tree / "checkpoints").iterdir()}
    data = os.environ.get("EXPRESSION_DATA")
    env = (
        os.environ
        | {"SMOKE": "1"}
        | ({"EXPRESSION_DATA": str(Path(data).resolve())} if data else {})
    )
    done = subprocess.run(
        [sys.executable, "tools/run_notebook.py", NOTEBOOK.name],
        cwd=tree,
        env=env,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    assert before == {p.name: p.stat().st_mtime_ns for p in (tree / "checkpoints").iterdir()}, (
        "a small run must not touch the real checkpoints"
    )
    return nbformat.read(tree / "out" / NOTEBOOK.name, 4), tree / "out"


def test_it_runs_top_to_bottom_and_draws(story):
    code = [c for c in story[0].cells if c.cell_type == "code"]
    assert [c.execution_count for c in code] == list(range(1, len(code) + 1))
    figures = [o for c in code for o in c.outputs if "image/png" in o.get("data", {})]
    assert len(figures) >= 20


def test_notebook_predict_and_demo_agree_on_one_picture(story, tmp_path, open_predictor):
    # Three programs with a preprocessing each is how "always sad" comes about
    record = json.loads(next((story[1] / "results").glob("notebook-*.json")).read_text())
    path = story[1] / "checkpoints" / record["chosen"]["checkpoint"]
    picture = datasets.load(say=lambda _: None)["validation"][0]["image"]
    assert open_predictor(path).predict(picture) == pytest.approx(record["answer"], abs=1e-6)
    picture.save(tmp_path / "face.png")
    handlers = demo.make_handlers(path.parent)
    faces = handlers.photo(str(tmp_path / "face.png"), path.stem, True, False)[3]
    assert faces[0]["probabilities"] == pytest.approx(record["answer"], abs=1e-6)
    assert path.stem in list_checkpoints(path.parent)


def test_the_first_cell_fetches_the_helpers_when_they_are_not_beside_it(tmp_path):
    # As in Colab: only the notebook is there. A local clone stands in for the published one
    home, alone = tmp_path / "home", tmp_path / "alone"
    alone.mkdir()
    home.mkdir()
    for path in ROOT.glob("*.py"):
        shutil.copy(path, home)
    (home / "requirements.txt").write_text("")
    for arguments in (
        ["init", "-q"],
        ["add", "-A"],
        ["-c", "user.name=t", "-c", "user.email=t@t", "commit", "-qm", "x"],
    ):
        subprocess.run(["git", *arguments], cwd=home, check=True)
    cell = next(c for c in nbformat.read(NOTEBOOK, 4).cells if c.cell_type == "code").source
    subprocess.run(
        [sys.executable, "-c", cell + "\nimport tinyvgg; print(tinyvgg.__file__)"],
        cwd=alone,
        check=True,
        timeout=120,
        env=os.environ | {"EXPRESSION_DETECT_HOME": str(home)},
    )
    assert (alone / "expression-detect" / "tinyvgg.py").exists()


def headings(notebook):
    """The headings of the Markdown cells, as (level, text)."""
    text = "\n".join(c.source for c in notebook.cells if c.cell_type == "markdown")
    return [(len(marks), title) for marks, title in re.findall(r"(?m)^(#+) (.+)$", text)]


def test_the_contents_name_every_section_and_lead_there():
    notebook = nbformat.read(NOTEBOOK, 4)
    sections = [title for level, title in headings(notebook) if level == 2 and title[0].isdigit()]
    links = re.findall(r"(?m)^\d+\. \[(.+?)\]\(#(.+?)\)$", notebook.cells[0].source)
    assert [f"{i + 1}. {name}" for i, (name, _) in enumerate(links)] == sections
    assert [anchor for _, anchor in links] == [title.replace(" ", "-") for title in sections]


def test_exercises_wait_for_an_answer_and_know_the_right_one(capsys):
    code = [c.source for c in nbformat.read(NOTEBOOK, 4).cells if c.cell_type == "code"]
    tools = next(source for source in code if "def check(" in source)
    checker = tools[tools.index("def check(") : tools.index("def side_by_side(")]
    exercises = [source for source in code if source.startswith("answer = None\ncheck(answer")]
    assert len(exercises) >= 8
    for source in exercises:
        call = source.splitlines()[1]
        names = {"math": math}
        exec(checker, names)
        right = eval(call.removeprefix("check(answer,").removesuffix(")").join("()"), names)[0]
        for answer, word in ((None, "None"), (right, "Right"), (right * 1.5 + 1, "Not yet")):
            exec(call, {**names, "answer": answer})
            assert word in capsys.readouterr().out


def test_committed_outputs_come_from_one_whole_run_on_faces():
    notebook = nbformat.read(NOTEBOOK, 4)
    code = [c for c in notebook.cells if c.cell_type == "code"]
    assert [c.execution_count for c in code] == list(range(1, len(code) + 1))
    outputs = [o for c in code for o in c.outputs]
    assert not [o for o in outputs if o.output_type == "error"]
    text = "".join(o.get("text", "") for o in outputs)
    assert "SMOKE False" in text and "28709" in text, "committed from a small or a drawn run"
    assert not [s for s in (str(Path.home()), "/home/", "Traceback", "https://") if s in text]


def test_pictures_in_outputs_can_be_opened():
    import base64
    import io

    for cell in nbformat.read(NOTEBOOK, 4).cells:
        for output in cell.get("outputs", []):
            if png := output.get("data", {}).get("image/png"):
                Image.open(io.BytesIO(base64.b64decode(png))).verify()
