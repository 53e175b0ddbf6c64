"""`experiments.py publish`: its words reach the hub only with --yes, and an error is one line."""

from typing import Any

import pytest

import experiments
from tests.hub_stand_in import StandIn

WORDS = ["publish", "expression_small-fer2013", "--to", "ada/faces"]


def test_only_yes_uploads(hub: type[StandIn], capsys: Any) -> None:
    experiments.main(WORDS)
    assert not hub.asked and "expression_small-fer2013.onnx" in capsys.readouterr().out
    experiments.main([*WORDS, "--yes"])
    assert hub.repos["models/ada/faces"].commits == 1
    assert "/ada/faces" in capsys.readouterr().out


def test_a_refusal_is_one_line(
    hub: type[StandIn], capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "")
    with pytest.raises(SystemExit) as ended:
        experiments.main([*WORDS, "--yes"])
    lines = capsys.readouterr().err.splitlines()
    assert ended.value.code == 2 and len(lines) == 1 and lines[0].startswith("error: no token")
