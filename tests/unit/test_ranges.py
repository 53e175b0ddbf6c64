"""Every number that a command takes has a range, said before data are read."""

import math
from dataclasses import fields, is_dataclass, replace
from typing import Any, Literal, get_args, get_origin, get_type_hints

import pytest

from augment import Augment
from lab.checks import UsageError, check_recipe
from lab.options import COMMANDS
from lab.ranges import RANGES, out_of_range
from lab.recipe import Recipe
from lab.recipes import RECIPES


def numeric(kind: Any) -> bool:
    """Whether a field of this type holds numbers: int, float, a tuple of them; no flag."""
    if get_origin(kind) is Literal:
        return False
    return kind in (int, float) or any(numeric(part) for part in get_args(kind))


def numeric_fields(kind: type) -> set[str]:
    found = set()
    for name, hint in get_type_hints(kind).items():
        if is_dataclass(hint):
            found |= numeric_fields(hint)
        elif numeric(hint):
            found.add(name)
    return found


@pytest.mark.parametrize("kind", [Recipe, Augment, *COMMANDS.values()], ids=lambda k: k.__name__)
def test_every_numeric_setting_has_a_range(kind: type) -> None:
    assert numeric_fields(kind) <= RANGES.keys()


def test_no_range_is_of_a_setting_that_is_gone() -> None:
    known = set().union(*map(numeric_fields, [Recipe, Augment, *COMMANDS.values()]))
    assert known == RANGES.keys()


@pytest.mark.parametrize("name", RANGES)
def test_what_lies_outside_is_said_by_name(name: str) -> None:
    low, high = RANGES[name]
    option = "--" + name.replace("_", "-")
    for wrong in (low - 1, high + 1, math.nan, math.inf, -math.inf, True, "3", None):
        assert option in out_of_range({name: wrong}) and str(wrong) in out_of_range({name: wrong})
        assert option in out_of_range({name: (low, wrong)})
    assert not out_of_range({name: low}) and not out_of_range({name: (high, low)})


@pytest.mark.parametrize(
    "changes",
    [{"limit": -5}, {"gamma": math.nan}, {"warmup": -1}, {"step_size": 0}, {"size": 100_000},
     {"mixup": math.nan}, {"std": (0.0,)}, {"epochs": 10**9}, {"progressive_sizes": (32, 10**6)}],
    ids=str,
)  # fmt: skip
def test_a_recipe_with_a_number_out_of_its_range_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=f"--{next(iter(changes)).replace('_', '-')} "):
        check_recipe(replace(RECIPES["tinyvgg"], **changes))
    with pytest.raises(UsageError, match="--erase"):
        check_recipe(replace(RECIPES["tinyvgg"], augment=Augment(erase=9)))


def test_a_rate_that_never_falls_is_refused_before_data_are_read() -> None:
    # torch refuses it when training begins
    assert "--factor" in out_of_range({"factor": 1.0}) and not out_of_range({"factor": 0.9})


def test_the_published_recipes_lie_within() -> None:
    for recipe in RECIPES.values():
        values = {f.name: getattr(recipe, f.name) for f in fields(recipe)}
        assert not out_of_range(values)
        assert recipe.augment is None or not out_of_range(vars(recipe.augment))
