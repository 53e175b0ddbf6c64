"""Cards, demo, page and README say what the words mean, where use is prohibited, who is told."""

import re
from pathlib import Path

import pytest

from expression.about import LIMITS
from expression.app.handlers import Handlers
from expression.checkpoint import CHECKPOINTS, default_checkpoint

ROOT = Path(__file__).resolve().parents[2]
CARDS = sorted(CHECKPOINTS.glob("*.md"))
FACTS = (r"5\(1\)\(f\)", r"50\(3\)", r"prohibited", r"feel", r"must be\s+told")


def page():
    """The browser page's own template, with the words that `web.build` puts there."""
    return (ROOT / "web" / "page" / "index.html").read_text("utf-8").replace("{{limits}}", LIMITS)


PLACES = {
    "README": (ROOT / "README.md").read_text("utf-8"),
    "demo": Handlers().about(default_checkpoint().stem),
    "page": page(),
    **{path.stem: path.read_text("utf-8") for path in CARDS},
}


@pytest.mark.parametrize("name", PLACES)
def test_limits_of_use_are_told_wherever_somebody_meets_an_answer(name):
    # A card without them travels alone: whoever downloads it sees accuracy and no limit
    missing = [fact for fact in FACTS if not re.search(fact, PLACES[name])]
    assert not missing
    assert len(CARDS) >= 8


def test_the_page_shows_the_same_sentences_as_cards_and_demo():
    assert LIMITS in PLACES["page"] and LIMITS in PLACES["demo"]
