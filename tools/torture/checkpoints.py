"""Broken checkpoints: their bytes, and the values of their cards."""

import contextlib
import io
import json
import random
import struct
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from expression.about import crop_words, headline, plain_words
from expression.app.handlers import Handlers
from expression.checkpoint import CARD_KEY, list_checkpoints, save_checkpoint
from expression.predictor import ExpressionPredictor
from lab.export import TorchNetwork
from lab.models import build
from tools.torture.cards import SIZE, card
from tools.torture.cases import FileAttack, Wrong
from tools.torture.mutate import broken_bytes, broken_json

__all__ = ["Attack", "with_card"]

NETWORKS: dict[str, dict[str, Any]] = {
    "tinyvgg": {"hidden_channels": 4},
    "baseline_cnn": {},
    "custom_cnn": {},
    "resnet9": {},
}
LARGEST = 2_000_000  # bytes of a whole file that is broken 5,000 times


def with_card(content: bytes, value: Any) -> bytes:
    """A safetensors file with another card; any JSON, or text that is none."""
    (length,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + length])
    text = value if isinstance(value, str) else json.dumps(value)
    header["__metadata__"] = {CARD_KEY: text}
    words = json.dumps(header).encode("utf-8", "replace")
    return struct.pack("<Q", len(words)) + words + content[8 + length :]


class Attack(FileAttack):
    count = 5000
    control_every = 500

    def __init__(self, scratch: Path) -> None:
        torch.set_num_threads(1)
        torch.manual_seed(0)
        self.whole, self.cards = {}, {}
        for system, arguments in NETWORKS.items():
            model = build(system, num_classes=3, in_channels=1, **arguments)
            self.cards[system] = card(system, arguments)
            path = scratch / f"{system}.safetensors"
            weights = {name: value.numpy() for name, value in model.state_dict().items()}
            save_checkpoint(path, weights, self.cards[system], half=True)
            if path.stat().st_size < LARGEST:
                self.whole[system] = path.read_bytes()
        self.systems = sorted(self.whole)
        grey = np.arange(SIZE * SIZE, dtype=np.uint8).reshape(SIZE, SIZE)
        self.picture = Image.fromarray(grey)
        self.scratch = scratch
        self.first = [self.answer(scratch / f"{system}.safetensors") for system in self.systems]

    def answer(self, path: Path) -> dict[str, float]:
        """Open a checkpoint as serving does where torch is installed, and ask it."""
        predictor = ExpressionPredictor(path, load_network=TorchNetwork.load)
        probs = predictor.predict(self.picture)
        shares = list(probs.values())
        if not np.isfinite(shares).all() or abs(sum(shares) - 1) > 1e-3:
            raise Wrong(f"probabilities {shares[:4]}")
        if set(probs) != set(predictor.class_names):
            raise Wrong(f"{sorted(probs)[:4]} for the classes {predictor.class_names[:4]}")
        return probs

    def try_one(self, rng: random.Random, folder: Path) -> None:
        system = rng.choice(self.systems)
        content = self.whole[system]
        if rng.random() < 0.6:
            value = broken_json(self.cards[system], rng)
            if rng.random() < 0.1:
                text = json.dumps(value)
                value = broken_bytes(text.encode(), b"{}", rng).decode("utf-8", "replace")
            content = with_card(content, value)
        else:
            content = broken_bytes(content, self.whole[rng.choice(self.systems)], rng)
        (folder / "good.safetensors").write_bytes(self.whole["tinyvgg"])
        path = folder / "stranger.safetensors"
        path.write_bytes(content)
        self.listed(folder)
        self.answer(path)

    def listed(self, folder: Path) -> None:
        """One stranger's file must not stop the rest, and is passed over in one line."""
        with contextlib.redirect_stderr(io.StringIO()) as said:
            cards = list_checkpoints(folder)
        lines = said.getvalue().splitlines()
        if "good" not in cards or len(cards) + len(lines) != 2:
            raise Wrong(f"listed {sorted(cards)}, and {len(lines)} lines told")
        if "stranger" in cards:
            with contextlib.redirect_stderr(io.StringIO()):
                handlers = Handlers(folder)
                words = [handlers.about("stranger"), handlers.details("stranger")]
            told = cards["stranger"]
            words += [headline(told), plain_words(told), crop_words(told.get("crop") or "")]
            if any("<img" in text or "![" in text for text in words[:2]):
                raise Wrong("the page shows a stranger's mark-up")

    def control(self, folder: Path) -> None:
        answers = [self.answer(self.scratch / f"{system}.safetensors") for system in self.systems]
        if answers != self.first:
            raise Wrong("whole checkpoints")
