"""experiments.py measures a network by its name on the hub, read as predict.py reads it."""

from pathlib import Path

import pytest
from huggingface_hub import constants

import experiments
from expression.checkpoint import CHECKPOINTS
from expression.hub import digest_rows
from lab import commands, evaluation, explanation
from tests.hub_stand_in import Repo, StandIn

NAME = "expression_small-fer2013"


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The checkpoints that would be measured; no data are read."""
    asked: list[Path] = []

    def note(checkpoints, *_, **__):
        asked.extend([checkpoints] if isinstance(checkpoints, Path) else checkpoints)
        return Path("results")

    monkeypatch.setattr(commands, "load", lambda command: None)
    monkeypatch.setattr(commands, "check_pictures", lambda *_: None)
    monkeypatch.setattr(evaluation, "evaluate", note)
    monkeypatch.setattr(explanation, "explain", lambda *_: [])
    return asked


def test_a_published_network_is_fetched_and_measured(hub: type[StandIn], measured: list) -> None:
    # It said "no checkpoint", while predict.py fetched it
    pair = {f"{NAME}{end}": (CHECKPOINTS / f"{NAME}{end}").read_bytes()
            for end in (".safetensors", ".onnx")}  # fmt: skip
    hub.repos["models/ada/faces"] = Repo(
        pair | {"README.md": f"# {NAME}\n\n{digest_rows(pair)}\n".encode()}
    )
    experiments.main(["evaluate", "hf:ada/faces", "--device", "cpu"])
    (path,) = measured
    assert path.is_file() and Path(constants.HF_HUB_CACHE) in path.parents


def test_a_name_alone_is_a_file_of_checkpoints(measured: list) -> None:
    experiments.main(["evaluate", "tinyvgg", "--device", "cpu"])
    assert [path.name for path in measured] == ["tinyvgg-fer2013.safetensors"]


@pytest.mark.parametrize("name", ["hf:ada/none", "hf:ada"])
def test_what_the_hub_has_not_is_one_sentence(name, hub, measured, capsys) -> None:
    with pytest.raises(SystemExit) as ended:
        experiments.main(["evaluate", name, "--device", "cpu"])
    assert ended.value.code == 2 and not measured
    (line,) = capsys.readouterr().err.splitlines()
    assert name in line and "lies beside" not in line
