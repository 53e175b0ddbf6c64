"""The whole state of a training run in one file, so that an interrupted run goes on.

Why: weights alone do not resume a run. The optimizer's moments, the scheduler, the loss
scaler, the random numbers and the place in the data belong to it; with all of them an
interrupted CPU run ends bit for bit where an uninterrupted one does. The file is written
beside, flushed and renamed, so a crash leaves the last whole one; it is read with
`weights_only=True`, so it holds numbers and nothing that runs.
Source: written for this project.
Needs only torch; copy freely (MIT, see LICENSE).

    save_state("last.pt", epoch=3, history=history, model=model, optimizer=optimizer)
    values = load_state("last.pt", model=model, optimizer=optimizer)   # fills them
    values["epoch"], values["history"]
"""

import os
import pickle
import re
import time
import warnings
from pathlib import Path
from typing import Any

import torch

__all__ = ["load_state", "save_state"]


def random_state() -> dict[str, Any]:
    """torch's generators: the CPU's, and one a GPU."""
    return {"cpu": torch.get_rng_state(), "cuda": torch.cuda.get_rng_state_all()}


def save_state(path: Path | str, **parts: Any) -> Path:
    """Write `parts`: `state_dict()` of what has one, everything else (numbers, text, lists,
    dicts, tensors) as it is, and torch's random state. None is left out. What a run that was
    killed while it saved has left beside `path` is deleted. Raises OSError, naming the
    file, where it cannot be written, such as on a full disk; the file before it stays.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    sweep(path)
    content: dict[str, Any] = {"random": random_state(), "states": {}, "values": {}}
    for name, part in parts.items():
        if hasattr(part, "state_dict"):
            content["states"][name] = part.state_dict()
        elif part is not None:
            content["values"][name] = part
    beside = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        with beside.open("wb") as file:
            torch.save(content, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
    except (OSError, RuntimeError) as error:  # torch wraps the system's own
        cause = error if isinstance(error, OSError) else error.__context__
        if not isinstance(cause, OSError):
            raise
        raise OSError(cause.errno, cause.strerror, str(path)) from error
    finally:
        beside.unlink(missing_ok=True)
    return path


def sweep(path: Path) -> None:
    """Delete unfinished copies of a state that nobody has written to for ten minutes."""
    for part in path.parent.glob("*.tmp"):
        try:
            ours = re.fullmatch(re.escape(path.name) + r"\.\d+\.tmp", part.name)
            if ours and time.time() - part.stat().st_mtime > 600:
                part.unlink()
        except OSError:  # gone already, or open (Windows)
            continue


def load_state(path: Path | str, **parts: Any) -> dict[str, Any]:
    """Fill `parts` from the file, set torch's random state; returns the plain values.

    With no parts nothing is changed: a look at the values alone. With parts the run goes on: what
    one that was killed while it saved has left is deleted, as by `save_state`. Raises
    FileNotFoundError; ValueError, one sentence, when the file is not a whole state, holds
    code, or other parts than are given, or a part that does not fit.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no training state at {path}")
    states, values, random = read_parts(path)
    given = {name for name, part in parts.items() if part is not None}
    if not given:
        return values
    sweep(path)
    if given != states.keys():
        raise ValueError(
            f"{path} holds the states of {', '.join(sorted(states)) or 'nothing'}; "
            f"asked for {', '.join(sorted(given))}"
        )
    name = ""
    try:
        for name in sorted(given):
            parts[name].load_state_dict(states[name])
        name = "random"
        torch.set_rng_state(random["cpu"])
        if len(random["cuda"]) == torch.cuda.device_count():
            torch.cuda.set_rng_state_all(random["cuda"])
    except Exception as error:  # each part raises its own for what is not its state
        reason = " ".join(str(error).split())[:200]
        raise ValueError(
            f"the {name!r} of {path} does not fit ({type(error).__name__}: {reason}); it was saved "
            "by other settings or is damaged: delete it to begin anew"
        ) from error
    return values


def read_parts(path: Path) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """(states, values, random) of a file. Raises ValueError, see `load_state`.

    torch's own words are not passed on: of a file that would run code they say how to let it.
    """
    try:
        with warnings.catch_warnings():  # on the version of the format, of a file of others
            warnings.simplefilter("ignore")
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # pickle, zipfile and torch raise nearly any for a broken file
        evil = isinstance(error, pickle.UnpicklingError) and "weights_only" in str(error).lower()
        reason = "it is damaged, or holds more than numbers" if evil else "it is damaged"
        raise ValueError(
            f"{path} is not a whole training state: {reason}. Nothing in it was run; delete it to "
            "begin anew, or put back a copy"
        ) from error
    names = ("states", "values", "random")
    if not isinstance(content, dict) or not all(isinstance(content.get(n), dict) for n in names):
        raise ValueError(
            f"{path} is not a training state: it lacks {', '.join(names)}; give another file, or "
            "delete it to begin anew"
        )
    states, values, random = (content[name] for name in names)
    return states, values, random


def demonstrate() -> None:
    """Six steps with dropout at one go, and three, a file, three: the same weights."""
    import tempfile

    from torch import nn

    def start() -> tuple[nn.Module, torch.optim.Optimizer]:
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(8, 8), nn.Dropout(0.5), nn.Linear(8, 2))
        return model, torch.optim.AdamW(model.parameters(), lr=0.1)

    def step(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        optimizer.zero_grad()
        model(torch.randn(4, 8)).square().mean().backward()
        optimizer.step()

    whole, optimizer = start()
    for _ in range(6):
        step(whole, optimizer)
    with tempfile.TemporaryDirectory() as folder:
        first, optimizer = start()
        for _ in range(3):
            step(first, optimizer)
        path = save_state(Path(folder) / "last.pt", model=first, optimizer=optimizer, steps=3)
        second, optimizer = start()
        done = load_state(path, model=second, optimizer=optimizer)["steps"]
        for _ in range(done, 6):
            step(second, optimizer)
    same = all(
        torch.equal(a, b) for a, b in zip(whole.parameters(), second.parameters(), strict=True)
    )
    print(f"interrupted after {done} of 6 steps; weights bit for bit the same: {same}")


if __name__ == "__main__":
    demonstrate()
