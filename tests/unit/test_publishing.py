"""lab/publishing.py: what goes to the hub, that nothing goes unasked, and why it was refused."""

import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from expression import ExpressionPredictor
from expression.about import LIMITS
from expression.checkpoint import CHECKPOINTS, read_card
from lab.publishing import TAG, publish
from tests.hub_stand_in import Repo, StandIn

NAME = "expression_small-fer2013"
Hub = type[StandIn]


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    for ending in (".safetensors", ".onnx", ".md"):
        shutil.copy(CHECKPOINTS / f"{NAME}{ending}", tmp_path)
    return tmp_path / f"{NAME}.safetensors"


@pytest.fixture
def page(tmp_path: Path) -> Path:
    folder = tmp_path / "dist"
    (folder / "js").mkdir(parents=True)
    (folder / "index.html").write_text("<h1>faces</h1>")
    (folder / "js" / "page.js").write_text("1")
    (folder / ".secret").write_text("no")
    return folder


def metadata(repo: Repo) -> dict[str, Any]:
    return yaml.safe_load(repo.files["README.md"].decode().split("---")[1])


def test_without_yes_nothing_is_asked_and_everything_is_listed(
    hub: Hub, checkpoint: Path, page: Path, capsys: Any
) -> None:
    publish(str(checkpoint), "ada/faces", "ada/page", really=False, page=page)
    assert not hub.asked and not hub.repos
    said = capsys.readouterr().out
    for name in (checkpoint.name, f"{NAME}.onnx", "README.md", "index.html", "js/page.js"):
        assert re.search(rf"`{name}` \| [\d,]+ bytes \| `[0-9a-f]{{64}}`", said), name
    for told in ("ada/faces", "ada/page", "license: mit", "model-index", "sdk: static", "--yes"):
        assert told in said
    assert ".secret" not in said and "hf_writes" not in said


def test_what_is_published_is_whole_and_answers(hub: Hub, checkpoint: Path) -> None:
    publish(str(checkpoint), "ada/faces", None, really=True)
    repo = hub.repos["models/ada/faces"]
    assert repo.commits == 1
    assert repo.files.keys() == {".gitattributes", checkpoint.name, f"{NAME}.onnx", "README.md"}
    assert ExpressionPredictor("hf:ada/faces").card == read_card(checkpoint)
    told, text = metadata(repo), repo.files["README.md"].decode()
    assert told["license"] == "mit" and told["library_name"]
    assert told["pipeline_tag"] == "image-classification" and TAG in told["tags"]
    assert told["datasets"] == ["fer2013"] and told["metrics"] == ["accuracy"]
    figures = [m["name"] for r in told["model-index"][0]["results"] for m in r["metrics"]]
    assert figures and all(re.search(r": \d+/\d+$", name) for name in figures)
    assert LIMITS in text and "hf:ada/faces" in text


def test_a_second_publication_is_a_second_commit(hub: Hub, checkpoint: Path) -> None:
    publish(str(checkpoint), "ada/faces", None, really=True)
    publish(str(checkpoint), "ada/faces", None, really=True)
    assert hub.repos["models/ada/faces"].commits == 2


def test_the_page_becomes_a_static_space(hub: Hub, page: Path) -> None:
    publish("", None, "ada/page", really=True, page=page)
    space = hub.repos["spaces/ada/page"]
    assert space.sdk == "static" and metadata(space)["sdk"] == "static"
    assert space.files["index.html"] == b"<h1>faces</h1>" and "js/page.js" in space.files
    assert ".secret" not in space.files and LIMITS in space.files["README.md"].decode()


@pytest.mark.parametrize(
    ("to", "token", "kind", "told"),
    [
        ("ada/faces", "", PermissionError, "no token.*HF_TOKEN"),
        ("ada/faces", "hf_reads", PermissionError, "403"),
        ("ada/faces", "hf_old", PermissionError, "401"),
        ("other/faces", "hf_writes", PermissionError, "403"),
        ("ada/poems", "hf_writes", FileExistsError, "poem.txt"),
    ],
)
def test_a_refused_upload_says_why_and_leaves_what_was_there(
    hub: Hub, checkpoint: Path, monkeypatch: pytest.MonkeyPatch, to: str, token: str, kind: type,
    told: str,
) -> None:  # fmt: skip
    hub.repos["models/ada/poems"] = Repo({"poem.txt": b"roses", "README.md": b"# Poems"})
    monkeypatch.setenv("HF_TOKEN", token)
    with pytest.raises(kind, match=told) as refused:
        publish(str(checkpoint), to, None, really=True)
    assert list(hub.repos) == ["models/ada/poems"]
    assert hub.repos["models/ada/poems"].commits == 0
    assert "\n" not in str(refused.value) and not (token and token in str(refused.value))


def test_without_a_network_the_address_is_named(
    hub: Hub, checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(ConnectionError, match="127.0.0.1:9"):
        publish(str(checkpoint), "ada/faces", None, really=True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ConnectionError, match="HF_HUB_OFFLINE"):
        publish(str(checkpoint), "ada/faces", None, really=True)


@pytest.mark.parametrize("to", ["faces", "ada/", "ada/faces/x", "ada/faces@v1", "hf:ada/faces"])
def test_what_is_no_owner_and_name_is_refused(checkpoint: Path, to: str) -> None:
    with pytest.raises(ValueError, match="OWNER/NAME"):
        publish(str(checkpoint), to, None, really=False)


def test_the_onnx_of_another_training_is_not_published(checkpoint: Path) -> None:
    shutil.copy(CHECKPOINTS / "expression.onnx", checkpoint.with_suffix(".onnx"))
    with pytest.raises(ValueError, match=f"{NAME}.onnx was exported from another"):
        publish(str(checkpoint), "ada/faces", None, really=False)


@pytest.mark.parametrize("ending", [".onnx", ".md"])
def test_a_network_without_one_of_its_files_is_not_published(checkpoint: Path, ending: str) -> None:
    checkpoint.with_suffix(ending).unlink()
    with pytest.raises(FileNotFoundError, match=f"{NAME}{ending}"):
        publish(str(checkpoint), "ada/faces", None, really=False)


def test_the_card_of_another_training_is_not_published(checkpoint: Path) -> None:
    shutil.copy(CHECKPOINTS / "expression.md", checkpoint.with_suffix(".md"))
    with pytest.raises(ValueError, match=rf"{NAME}.md.*compare"):
        publish(str(checkpoint), "ada/faces", None, really=False)
    checkpoint.with_suffix(".md").write_text("# A network")
    with pytest.raises(ValueError, match="license"):
        publish(str(checkpoint), "ada/faces", None, really=False)


def test_a_page_that_was_not_built_and_a_command_that_names_nothing(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="make web"):
        publish("", None, "ada/page", really=False, page=tmp_path / "dist")
    with pytest.raises(ValueError, match="--to"):
        publish(NAME, None, None, really=False)
    with pytest.raises(ValueError, match="which checkpoint"):
        publish("", "ada/faces", None, really=False)
