"""A checkpoint's card in words: what it was trained on, how faces are cropped, its limits.

Why: the same sentences stand beside the file, in the demo and at the command line, and all of
them come from the card, so they cannot disagree.
"""

from collections.abc import Mapping
from string import punctuation
from typing import Any

from expression.face_prediction import NOT_SURE

__all__ = [
    "LIMITS",
    "crop_words",
    "data_names",
    "headline",
    "markdown_text",
    "not_sure_share",
    "not_sure_words",
    "plain_words",
    "purpose",
    "share",
]

LIMITS = (
    "It names the expression a face shows, never what somebody feels: the same face can mean "
    "many things. It was trained on labels that people gave to pictures, and people disagree "
    "about one face in three. It knows only the classes listed, was not tested for fairness "
    "across age, skin or culture, and must not be used to judge people. In the EU, inferring "
    "emotions at work or in education is prohibited (AI Act, Article 5(1)(f)), and wherever else "
    "such a system is used, the people in front of it must be told (Article 50(3))."
)

PLAIN = ",.%/"  # punctuation that Markdown leaves as it is


def markdown_text(text: str) -> str:
    """Words of a card for use inside Markdown, on one line, shown as they are.

    Why: a card may be a stranger's. Punctuation becomes HTML entities, so "![x](http://y/z.png)"
    fetches no picture, and neither HTML nor a formula comes through.
    """
    words = " ".join(text.split())
    return "".join(f"&#{ord(c)};" if c in punctuation and c not in PLAIN else c for c in words)


def share(figures: Mapping[str, int]) -> str:
    """{"k": 31, "n": 45} as '31/45 = 68.9 %'."""
    k, n = figures["k"], figures["n"]
    return f"{k}/{n} = {100 * k / n:.1f} %"


def crop_words(crop: Mapping[str, Any] | str) -> str:
    """How faces must be cropped, in a sentence; older cards carry it as words."""
    if isinstance(crop, str):
        return crop
    centre = f"({crop['centre_x']:.2f}, {crop['centre_y']:.2f})"
    source = f"measured on {crop['measured']} of the training faces"
    return (
        f"a square in which the {crop['detector']} box has its centre at {centre} and "
        f"{crop['size']:.2f} of the side; {source if crop['measured'] else 'not measured'}"
    )


def data_names(card: Mapping[str, Any]) -> str:
    """The data sets that a network was trained on: 'fer2013', or 'fer2013 and muxspace'."""
    data = card["data"]
    return " and ".join([data["name"], *(one["name"] for one in data.get("further", ()))])


def headline(card: Mapping[str, Any]) -> str:
    """One line: network, data and validation accuracy, with what the card says beside it."""
    line = f"{card['system']}, trained on {data_names(card)}"
    if figures := card.get("validation"):
        line += f", validation {share(figures)}{beside_accuracy(figures)}"
    return line


def purpose(card: Mapping[str, Any]) -> str:
    """What a network is good for, in a few words for a menu; all of it from its card."""
    if card["data"]["name"] == "synthetic":
        return "drawn faces only, to see that it works"
    if len(card.get("heads", ())) > 1:  # several sources of labels
        words = f"photos of all kinds; learnt from {data_names(card)}"
        return words + (" and from several people's votes" if "votes" in card["heads"] else "")
    return f"faces like those of {data_names(card)}"


def plain_words(card: Mapping[str, Any]) -> str:
    """What a network was trained on and what it can tell, for anybody, as Markdown."""
    names = card["class_names"]
    words = (
        f"**What answers.** A network that was trained on {markdown_text(data_names(card))}. It "
        f"tells {len(names)} expressions apart: {markdown_text(', '.join(names))}."
    )
    if threshold := card.get("min_confidence", 0):
        words += f" Where {not_sure_words(threshold)}, the answer is “not sure”."
    if figures := card.get("validation"):
        words += f" Of the faces on which it was checked, it names {share(figures)} as labelled."
    return words


def beside_accuracy(figures: Mapping[str, Any]) -> str:
    """' (majority class 24.9 %, macro F1 67.1 %)', as far as a card has them; older ones do not.

    `majority` is the accuracy of always naming the split's most frequent class, `macro_f1` the
    mean F1 over the classes; both are shares in [0, 1].
    """
    words = {"majority": "majority class", "macro_f1": "macro F1"}
    told = [f"{words[k]} {100 * figures[k]:.1f} %" for k in words if k in figures]
    return f" ({', '.join(told)})" if told else ""


def not_sure_words(min_confidence: float) -> str:
    """Why an answer is "not sure": 0.45 as 'no expression reaches 45 %'."""
    return f"no expression reaches {100 * min_confidence:.3g} %"


def not_sure_share(summary: Mapping[str, Any]) -> str:
    """How much of a followed video is "not sure", as 'not sure in 12 % of the answers'.

    `summary` is that of `expression.video_files.follow_video`. Without any such answer it is "".
    """
    unsure = summary["not_sure"]
    if not unsure:
        return ""
    part = 100 * unsure / (unsure + sum(summary["expressions"].values()))
    told = f"{part:.0f} %" if part >= 1 else "less than 1 %"
    return f"{NOT_SURE} in {told} of the answers"
