"""A teacher's answers are kept, and asked for again where the file is no longer the one written."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from lab import distillation


def test_damaged_answers_are_never_trained_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    logits, asked = torch.tensor([[0.0, 2.0], [3.0, 0.0]]), []

    def collect(*_, **__):
        asked.append(1)
        return logits, None

    monkeypatch.setattr(distillation.metrics, "collect", collect)
    monkeypatch.setattr(distillation, "Batches", lambda *_, **__: None)
    faces = SimpleNamespace(decoded=lambda rule: {"train": None})
    kept = tmp_path / "answers-1.pt"

    def answers() -> torch.Tensor:
        return distillation.kept_answers(kept, None, faces, None, torch.arange(2), "cpu")

    wanted = answers()
    assert torch.equal(answers(), wanted) and len(asked) == 1
    torch.save(wanted.flip(0), kept)  # whole for torch, and wrong
    assert torch.equal(answers(), wanted) and len(asked) == 2
    kept.write_bytes(b"")
    assert torch.equal(answers(), wanted) and len(asked) == 3
