"""Join the classes of a checkpoint and of a data set by name, never by position.

Why: image folders are read in alphabetical order, FER2013 has an order of its own, and other
collections write "anger" or "Happiness". Index 4 is "sad" in one and "neutral" in the other:
whoever compares indices calls right answers mistakes.

The rule: two names are the same class if `canonical` gives the same word for both. Capitals,
spaces, hyphens and underscores do not matter, nor do the synonyms listed here. A data set may
have fewer classes than a network where faces are only measured (`subset=True`): an answer that
names one of the network's other classes is then a mistake. To learn, as a teacher or as a network
that trains on, both sides need the same classes.
"""

import unicodedata
from collections.abc import Sequence

__all__ = ["UNCERTAIN", "canonical", "class_permutation"]

# Classes that a data set's own labels name badly: nobody could name Muxspace's pictures of disgust,
# so that their recall says little. The mean recall is told, or chosen by, without them.
UNCERTAIN = {"muxspace": ("disgust",)}

_SYNONYMS = {
    "angry": ("anger",),
    "contempt": ("contemptuous",),
    "disgust": ("disgusted",),
    "fear": ("afraid", "fearful", "scared"),
    "happy": ("happiness", "joy"),
    "neutral": ("neutrality",),
    "sad": ("sadness",),
    "surprise": ("surprised",),
}
_CANONICAL = {word: name for name, words in _SYNONYMS.items() for word in words}


def canonical(name: str) -> str:
    """The word that a class is joined by: " Happiness" → "happy", "Not_Sure" → "not sure"."""
    # Folders copied from macOS have letters and accents apart; NFKC puts them together.
    text = unicodedata.normalize("NFKC", name).casefold().replace("_", " ").replace("-", " ")
    word = " ".join(text.split())
    return _CANONICAL.get(word, word)


def class_permutation(
    model_names: Sequence[str],
    data_names: Sequence[str],
    *,
    subset: bool = False,
    model: str = "the network",
    data: str = "the data",
) -> list[int]:
    """For each class of the data, in order, its index among the network's classes.

    `torch.tensor(order)[labels]` gives the data's labels as the network's indices;
    `probs[:, order]` gives a network's columns in the order of the data. With `subset` the data
    may lack some of the network's classes.
    Raises ValueError, listing both sides and what each of them lacks, where the classes differ,
    and where two names of one side mean the same class. `model` and `data` name the sides there.
    """
    if list(model_names) == list(data_names):
        return list(range(len(model_names)))
    known, present = _indices(model_names, model), _indices(data_names, data)
    unknown = [name for name in data_names if canonical(name) not in known]
    absent = [name for name in model_names if canonical(name) not in present]
    if unknown or (absent and not subset):
        lacks = [f"{model} lacks {', '.join(unknown)}"] if unknown else []
        lacks += [f"{data} lacks {', '.join(absent)}"] if absent else []
        raise ValueError(
            f"{model} knows the classes {', '.join(model_names)}; {data} has "
            f"{', '.join(data_names)}; {'; '.join(lacks)}"
        )
    return [known[canonical(name)] for name in data_names]


def _indices(names: Sequence[str], side: str) -> dict[str, int]:
    """Canonical name → index; ValueError where two names mean the same class."""
    found: dict[str, int] = {}
    for index, name in enumerate(names):
        earlier = found.setdefault(canonical(name), index)
        if earlier != index:
            raise ValueError(
                f"{side} has the classes {names[earlier]!r} and {name!r}, which mean the same; "
                "make them one class"
            )
    return found
