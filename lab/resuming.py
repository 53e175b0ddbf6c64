"""Going on with a run: find its folder, and check that it was begun with the same settings."""

import glob
import json
from pathlib import Path
from typing import Any

from expression.checkpoint import read_card
from lab import model_card
from lab.recipe import Recipe
from lab.results import Results
from lab.run import Run
from train_state import load_state

__all__ = ["FINISHED", "STATE", "check_settings", "find_run", "finish_run",
           "is_finished", "read_state"]  # fmt: skip

STATE, FINISHED = "state.pt", "finished"  # files in a run's folder


def check_settings(values: dict[str, Any], run: Run) -> dict[str, Any]:
    """The state's values, or ValueError naming the settings in which the run differs."""
    compare_settings(values.get("settings"), run, run.folder / STATE)
    return values


def read_state(run: Run) -> dict[str, Any]:
    """The values of a run's state; {} where it has none. Raises ValueError, one sentence, for a
    state that is broken, no state of ours, or of other settings."""
    path = run.folder / STATE
    if not path.exists():
        return {}
    values = check_settings(load_state(path), run)
    if not all(is_history(values.get(name, {})) for name in ("history", "head_history")):
        raise unreadable(path, "its history is no table of numbers")
    if not values.get("history", {}).get("lr"):
        raise unreadable(path, "its history has no epoch")
    return values


def is_history(history: Any) -> bool:
    """Whether it is a dict of equally long lists of numbers."""
    if not isinstance(history, dict) or not all(isinstance(v, list) for v in history.values()):
        return False
    lengths = {len(values) for values in history.values()}
    numbers = (isinstance(x, int | float) for values in history.values() for x in values)
    return len(lengths) <= 1 and all(numbers)


def unreadable(path: Path, reason: str) -> ValueError:
    return ValueError(f"{path} cannot be gone on from: {reason}. Start anew without --resume")


def compare_settings(settings: Any, run: Run, path: Path) -> None:
    """Raises ValueError naming each setting in which `run` differs from those kept in `path`."""
    now = flat(run.settings())
    try:
        before = flat(settings)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise unreadable(path, f"it holds no settings that are known ({error})") from error
    names = [name for name in now if name in before and before[name] != now[name]]
    other = [f"{name} {before[name]!r} is now {now[name]!r}" for name in names]
    if not other:
        return
    advice = "Give the same ones, or start anew without --resume"
    if run.checkpoint.exists() and (run.folder / FINISHED).exists():
        advice = (
            f"That run is finished. To train its network further, start a run with --init-from "
            f"{run.checkpoint} and another --name; to train anew, leave out --resume and give "
            "another --out"
        )
    raise ValueError(f"{run.folder} was trained with other settings: {'; '.join(other)}. {advice}")


def flat(settings: dict[str, Any]) -> dict[str, Any]:
    """A run's settings by name; those of the augmentation stand beside the recipe's."""
    recipe = Recipe.from_dict(settings["recipe"]).as_dict()
    augment = recipe.pop("augment") or {}
    kept = {"augment": bool(augment), "fingerprint": settings["fingerprint"],
            "further": settings.get("further", []),
            "streamed": settings.get("streamed", False)}  # fmt: skip
    votes = {"votes": settings["votes"]} if "votes" in settings else {}  # earlier versions lack it
    return {**recipe, **augment, **kept, **votes, "seed": settings["seed"]}


def finish_run(run: Run) -> None:
    """Mark a run as finished, with the settings that it was trained with."""
    if not run.checkpoint.with_suffix(".md").exists():  # cut off between checkpoint and card
        model_card.write(run.checkpoint, Results(run.out / "results"))
    text = json.dumps(run.settings(), indent=1)
    (run.folder / FINISHED).write_text(text + "\n", encoding="utf-8")


def is_finished(run: Run) -> bool:
    """Whether this run has ended and its checkpoint stands.

    Raises ValueError naming the settings in which the finished run differs from `run`.
    """
    path = run.folder / FINISHED
    if not run.checkpoint.exists():
        return False
    if not path.exists():  # perhaps cut off between its export and this mark
        return exported(run)
    if text := path.read_text(encoding="utf-8", errors="replace"):  # empty in earlier versions
        try:
            kept = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise unreadable(path, f"it is no JSON ({error})") from error
        compare_settings(kept, run, path)
    else:
        read_state(run)
    return True


def exported(run: Run) -> bool:
    """Whether the checkpoint is what this run exports: of its recipe, seed, data and last epoch."""
    card, done = read_card(run.checkpoint), read_state(run).get("history", {})
    mine = {"recipe": run.recipe.as_dict(), "seed": run.seed}
    return (
        all(card.get(name) == value for name, value in mine.items())
        and card["data"]["fingerprint"] == run.faces.fingerprint
        and card.get("history", {}).get("val_accuracy") == done.get("val_accuracy")
    )


def find_run(runs: Path, *parts: str) -> Path | None:
    """The newest runs/<timestamp>/… of an experiment, model and extra that can be resumed: it
    has a state, or it is finished (a system without epochs has no state)."""
    found = [path.parent for name in (STATE, FINISHED)
             for path in runs.glob("/".join(["*", *map(glob.escape, parts), name]))]  # fmt: skip
    return max(found, default=None)
