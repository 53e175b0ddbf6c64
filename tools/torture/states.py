"""Broken states of trainings: their bytes, and the values inside a zip that is whole."""

import io
import pickle
import random
import zipfile
from pathlib import Path
from typing import Any

import torch
from torch import nn

from tools.torture.cases import FileAttack, Wrong
from tools.torture.mutate import broken_bytes
from train_state import load_state, save_state

__all__ = ["Attack", "EVIL"]

STEPS = 5


class Evil:
    """What a pickle may hold: loading it would write a file."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return open, (self.path, "w")


EVIL = 0.05  # of the cases


class Attack(FileAttack):
    count = 1000
    control_every = 100
    errors = (OSError, ValueError, RuntimeError)  # RuntimeError: a part has another shape

    def __init__(self, scratch: Path) -> None:
        torch.set_num_threads(1)
        torch.manual_seed(0)
        self.path = scratch / "whole.pt"
        model, optimizer = self.parts()
        for _ in range(STEPS):
            optimizer.zero_grad()
            model(torch.ones(2, 6)).square().sum().backward()
            optimizer.step()
        save_state(self.path, model=model, optimizer=optimizer, epoch=3, history={"lr": [0.1]})
        self.whole = self.path.read_bytes()
        self.weights = {name: value.clone() for name, value in model.state_dict().items()}

    def parts(self) -> tuple[nn.Module, torch.optim.Optimizer]:
        model = nn.Sequential(nn.Linear(6, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))
        return model, torch.optim.AdamW(model.parameters(), 0.1)

    def try_one(self, rng: random.Random, folder: Path) -> None:
        path, trap = folder / "state.pt", folder / "ran"
        if rng.random() < EVIL:
            content = self.evil(rng, trap)
        elif rng.random() < 0.5:
            content = self.inside(rng)
        else:
            content = broken_bytes(self.whole, self.whole[::-1], rng)
        path.write_bytes(content)
        model, optimizer = self.parts()
        try:
            values = load_state(path, model=model, optimizer=optimizer)
            if not isinstance(values, dict):
                raise Wrong(f"values are a {type(values).__name__}")
        finally:
            if trap.exists():
                raise Wrong("code in the file ran")
        model(torch.ones(2, 6))

    def inside(self, rng: random.Random) -> bytes:
        """One file inside the zip is broken, and the zip itself is whole."""
        out = io.BytesIO()
        with zipfile.ZipFile(io.BytesIO(self.whole)) as before, zipfile.ZipFile(out, "w") as after:
            names = before.namelist()
            chosen = rng.choice([name for name in names if before.read(name)])
            if rng.random() < 0.5:
                chosen = next(name for name in names if name.endswith("data.pkl"))
            for name in names:
                content = before.read(name)
                if name == chosen:
                    content = broken_bytes(content, content[::-1], rng)
                after.writestr(name, content)
        return out.getvalue()

    def evil(self, rng: random.Random, trap: Path) -> bytes:
        """A state that would run something when it is read without care."""
        value = {"random": {}, "states": {}, "values": {"epoch": Evil(str(trap))}}
        if rng.random() < 0.5:
            return pickle.dumps(value)
        file = io.BytesIO()
        torch.save(value, file)
        return file.getvalue()

    def control(self, folder: Path) -> None:
        model, optimizer = self.parts()
        values = load_state(self.path, model=model, optimizer=optimizer)
        same = all(torch.equal(self.weights[n], v) for n, v in model.state_dict().items())
        if values["epoch"] != 3 or not same:
            raise Wrong("the whole state")
