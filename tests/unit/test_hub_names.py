"""expression/hub.py: a network by its name on the hub is the one that was published, or refused."""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from huggingface_hub import constants
from safetensors.numpy import save_file

from expression import ExpressionPredictor, cli
from expression.checkpoint import CARD_KEY, CHECKPOINTS, load_checkpoint, save_checkpoint
from expression.hub import digest_rows, parse_name, stated_digests
from tests.hub_stand_in import Repo, StandIn

NAME = "expression_small-fer2013"
FILES = (f"{NAME}.safetensors", f"{NAME}.onnx")
Hub = type[StandIn]


@pytest.fixture(scope="module")
def files() -> dict[str, bytes]:
    """What a published repository holds: a committed network and a README with its digests."""
    pair = {name: (CHECKPOINTS / name).read_bytes() for name in FILES}
    return pair | {"README.md": f"# {NAME}\n\n{digest_rows(pair)}\n".encode()}


@pytest.fixture
def published(hub: Hub, files: dict[str, bytes]) -> Hub:
    hub.repos["models/ada/faces"] = Repo(dict(files))
    return hub


def fetched(hub: Hub, ending: str = "") -> list[str]:
    """Files whose content was asked for."""
    return [line for line in hub.asked if line.startswith("GET") and "/resolve/" in line
            and line.endswith(ending)]  # fmt: skip


@pytest.mark.parametrize(
    ("given", "parts"),
    [
        ("hf:ada/faces", ("ada/faces", None, None)),
        ("hf:ada/faces@v1", ("ada/faces", "v1", None)),
        ("hf:ada/faces/small.onnx", ("ada/faces", None, "small.onnx")),
        ("hf:ada/faces@refs/pr/3/deep/small", ("ada/faces", "refs/pr/3", "deep/small")),
    ],
)
def test_a_name_has_a_repository_and_perhaps_a_revision_and_a_file(given, parts) -> None:
    name = parse_name(given)
    assert (name.repo, name.revision, name.file) == parts
    assert str(name) == given


@pytest.mark.parametrize(
    "given",
    ["hf:", "hf:faces", "hf:ada/", "hf:ada/faces@", "hf:../x", "hf:ada/..", "hf:a b/c",
     "hf:ada/faces\n", "hf://ada/faces"],
)  # fmt: skip
def test_what_is_no_owner_and_name_is_refused_before_the_hub_is_asked(given: str, hub: Hub) -> None:
    with pytest.raises(ValueError, match="owner/name"):
        ExpressionPredictor(given)
    assert not hub.asked


def test_a_published_network_answers_as_the_file_does_and_is_fetched_once(published: Hub) -> None:
    faces = np.zeros((2, 48, 48, 3), np.uint8)
    here = ExpressionPredictor(NAME).predict_batch(faces)
    for name in ("hf:ada/faces", f"hf:ada/faces/{NAME}.onnx", "hf:ada/faces@v1"):
        predictor = ExpressionPredictor(name)
        assert predictor.predict_batch(faces) == here
        assert Path(constants.HF_HUB_CACHE) in predictor.path.parents
    assert len(fetched(published)) == 3  # two files and the README.md


def test_the_second_use_needs_no_network(published: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    # On the train, in the exhibition hall: what answered yesterday must answer today
    ExpressionPredictor("hf:ada/faces")
    commit = published.repos["models/ada/faces"].sha
    published.asked.clear()
    assert ExpressionPredictor(f"hf:ada/faces@{commit}").class_names
    assert not published.asked  # a commit never changes
    published.broken = 503
    assert ExpressionPredictor("hf:ada/faces").class_names
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    assert ExpressionPredictor("hf:ada/faces").class_names
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert ExpressionPredictor("hf:ada/faces").class_names
    with pytest.raises(ConnectionError, match="ada/others.*no copy.*HF_HUB_OFFLINE"):
        ExpressionPredictor("hf:ada/others")


def test_without_network_and_copy_one_sentence_says_so(
    hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(ConnectionError, match="ada/faces.*no copy.*127.0.0.1:9"):
        ExpressionPredictor("hf:ada/faces")


def test_a_network_that_was_withdrawn_is_not_answered_from_the_cache(published: Hub) -> None:
    ExpressionPredictor("hf:ada/faces")
    del published.repos["models/ada/faces"]
    with pytest.raises(FileNotFoundError, match="404"):
        ExpressionPredictor("hf:ada/faces")


def test_a_new_commit_is_noticed(published: Hub) -> None:
    old = ExpressionPredictor("hf:ada/faces").path
    published.repos["models/ada/faces"].commits += 1
    new = ExpressionPredictor("hf:ada/faces").path
    assert new != old and new.resolve() == old.resolve()  # the same content is kept once


@pytest.mark.parametrize("file", FILES)
def test_a_file_with_another_digest_is_refused_and_not_kept(
    published: Hub, files: dict[str, bytes], file: str
) -> None:
    # One changed weight: the file opens, answers, and is another network
    published.repos["models/ada/faces"].files["README.md"] = b"# A card that states no digest"
    published.served[file] = files[file][:-1] + b"\x01"
    with pytest.raises(ValueError, match=f"{file} has the SHA-256"):
        ExpressionPredictor("hf:ada/faces")
    published.served.clear()
    assert ExpressionPredictor("hf:ada/faces").class_names


def test_a_copy_that_was_changed_in_the_cache_is_refused_without_network(
    published: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    published.repos["models/ada/faces"].files["README.md"] = b"# A card that states no digest"
    path = ExpressionPredictor("hf:ada/faces").path.with_suffix(".onnx").resolve()
    path.write_bytes(path.read_bytes()[:-1] + b"\x01")
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(ValueError, match="SHA-256"):
        ExpressionPredictor("hf:ada/faces")


def test_a_download_that_is_cut_off_is_no_network(published: Hub, files: dict[str, bytes]) -> None:
    published.served[FILES[1]] = files[FILES[1]][:1000]
    with pytest.raises(ConnectionError, match=f"{FILES[1]} was not fetched whole"):
        ExpressionPredictor("hf:ada/faces")
    assert not list(Path(constants.HF_HUB_CACHE).rglob("*.onnx"))


def test_the_card_s_digests_count_too(published: Hub, files: dict[str, bytes]) -> None:
    # A file was replaced in the browser: the figures on the card are those of another
    card = files["README.md"].decode()
    digest = stated_digests(card)[FILES[1]]
    published.repos["models/ada/faces"].files["README.md"] = card.replace(digest, 64 * "0").encode()
    with pytest.raises(ValueError, match=f"{FILES[1]} has the SHA-256 {digest[:16]}"):
        ExpressionPredictor("hf:ada/faces")


@pytest.mark.parametrize(
    ("name", "token", "kind", "told"),
    [
        ("hf:ada/none", "", PermissionError, "401"),
        ("hf:ada/none", "hf_reads", FileNotFoundError, "404"),
        ("hf:ada/faces@v9", "", FileNotFoundError, "404"),
        ("hf:ada/faces/large", "", ValueError, NAME),
    ],
)
def test_what_the_hub_does_not_have_or_show_is_named(
    published: Hub, monkeypatch: pytest.MonkeyPatch, name: str, token: str, kind: type, told: str
) -> None:
    monkeypatch.setenv("HF_TOKEN", token)
    with pytest.raises(kind, match=told) as refused:
        ExpressionPredictor(name)
    assert name in str(refused.value) and "\n" not in str(refused.value)


def foreign(tmp_path: Path) -> bytes:
    save_file({"w": np.zeros(1, np.float32)}, tmp_path / "x.safetensors")
    return (tmp_path / "x.safetensors").read_bytes()


def test_repositories_that_are_not_ours_are_refused_in_one_sentence(
    hub: Hub, files: dict[str, bytes], tmp_path: Path
) -> None:
    other, card = foreign(tmp_path), files["README.md"]
    repositories = {
        "empty": {},
        "pickle": {"pytorch_model.bin": b"\x80", "README.md": b""},
        "half": {"model.safetensors": other, "README.md": b""},
        "system": {"model.safetensors": other, "model.onnx": b"x", "README.md": b""},
        "card": {name: files[name] for name in FILES},
        "large": {**files, "README.md": card, FILES[0]: bytes(201_000_000)},
    }
    for name, held in repositories.items():
        hub.repos[f"models/ada/{name}"] = Repo(dict(held))
        with pytest.raises(ValueError, match="of this project") as refused:
            ExpressionPredictor(f"hf:ada/{name}")
        assert f"hf:ada/{name}" in str(refused.value) and "\n" not in str(refused.value)
    assert not fetched(hub, ".bin")


def test_of_several_networks_one_is_named(published: Hub, files: dict[str, bytes]) -> None:
    repo = published.repos["models/ada/faces"]
    repo.files |= {f"deep/b{Path(name).suffix}": files[name] for name in FILES}
    with pytest.raises(ValueError, match="several.*deep/b, .*hf:ada/faces/"):
        ExpressionPredictor("hf:ada/faces")
    assert ExpressionPredictor("hf:ada/faces/deep/b").path.stem == "b"


def test_a_network_with_other_classes_than_its_card_is_refused(tmp_path: Path) -> None:
    # Both cards agree, on one class more than the network answers: a face got the wrong name
    state, card = load_checkpoint(CHECKPOINTS / FILES[0])
    card = card | {"class_names": [*card["class_names"], "bored"]}
    path = save_checkpoint(tmp_path / "x.safetensors", state, card)
    model = onnx.load(CHECKPOINTS / FILES[1])
    onnx.helper.set_model_props(model, {CARD_KEY: json.dumps(card)})
    onnx.save(model, tmp_path / "x.onnx")
    with pytest.raises(ValueError, match="8 classes"):
        ExpressionPredictor(path)


def test_without_the_package_one_sentence_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(ImportError, match="pip install huggingface_hub"):
        ExpressionPredictor("hf:ada/faces")


def test_the_command_line_takes_a_name_and_asks_the_hub_once(
    published: Hub, portrait: Path, capsys: Any
) -> None:
    assert cli.main([str(portrait), "--checkpoint", "hf:ada/faces"]) == 0
    assert sum(line.startswith("GET /api/models") for line in published.asked) == 1
    assert cli.main([str(portrait), "--checkpoint", "hf:ada/none"]) == 2
    assert cli.main(["--export-onnx", "--checkpoint", "hf:ada/faces"]) == 2
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(said) == 2 and "hf:ada/none" in said[0] and "hf:ada/faces" in said[1]
    assert "hf_writes" not in " ".join(said)
