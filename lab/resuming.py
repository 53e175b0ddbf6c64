"""Going on with a run: find its folder, and check that it was begun with the same settings."""

import json
from pathlib import Path
from typing import Any

from lab.recipes import Recipe
from lab.run import Run
from train_state import load_state

__all__ = ["FINISHED", "STATE", "check_settings", "find_run", "finish_run", "is_finished"]

STATE, FINISHED = "state.pt", "finished"  # files in a run's folder


def check_settings(values: dict[str, Any], run: Run) -> dict[str, Any]:
    """The state's values, or ValueError naming the settings in which the run differs."""
    compare_settings(values["settings"], run)
    return values


def compare_settings(settings: dict[str, Any], run: Run) -> None:
    """Raises ValueError naming each setting in which `run` differs from those kept earlier."""
    before, now = flat(settings), flat(run.settings())
    names = [name for name in now if name in before and before[name] != now[name]]
    other = [f"{name} {before[name]!r} is now {now[name]!r}" for name in names]
    if other:
        raise ValueError(
            f"{run.folder} was trained with other settings: {'; '.join(other)}. "
            "Give the same ones, or start anew without --resume"
        )


def flat(settings: dict[str, Any]) -> dict[str, Any]:
    """A run's settings by name; those of the augmentation stand beside the recipe's."""
    recipe = Recipe.from_dict(settings["recipe"]).as_dict()
    augment = recipe.pop("augment") or {}
    kept = {"augment": bool(augment), "fingerprint": settings["fingerprint"],
            "further": settings.get("further", [])}  # fmt: skip
    return {**recipe, **augment, **kept, "seed": settings["seed"]}


def finish_run(run: Run) -> None:
    """Mark a run as finished, with the settings that it was trained with."""
    text = json.dumps(run.settings(), indent=1)
    (run.folder / FINISHED).write_text(text + "\n", encoding="utf-8")


def is_finished(run: Run) -> bool:
    """Whether this run has ended and its checkpoint stands.

    Raises ValueError naming the settings in which the finished run differs from `run`.
    """
    path, state = run.folder / FINISHED, run.folder / STATE
    if not (path.exists() and run.checkpoint.exists()):
        return False
    if text := path.read_text(encoding="utf-8"):  # empty where an earlier version wrote it
        compare_settings(json.loads(text), run)
    elif state.exists():
        check_settings(load_state(state), run)
    return True


def find_run(runs: Path, *parts: str) -> Path | None:
    """The newest runs/<timestamp>/… of an experiment, model and extra that can be resumed: it
    has a state, or it is finished (a system without epochs has no state)."""
    found = [path.parent for name in (STATE, FINISHED)
             for path in runs.glob("/".join(["*", *parts, name]))]  # fmt: skip
    return max(found, default=None)
