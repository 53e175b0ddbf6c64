"""Facts about a data set that its results need and the data themselves need not be there for.

Why: tables are written from results/ alone. How many faces a reader left out, and which faces lie
in another data set's training split too, can only be told while the data are at hand; so it is
kept beside the results, without pictures.
"""

from dataclasses import dataclass, field, replace

__all__ = ["DataNotes"]


@dataclass(frozen=True)
class DataNotes:
    """What is known of the data set with one fingerprint."""

    name: str
    fingerprint: str
    pictures_of: str = ""  # fingerprint of the data whose pictures these are, with other labels
    faces: dict[str, int] = field(default_factory=dict)  # of each split
    left_out: list[str] = field(default_factory=list)  # what the reader left out, counted
    # fingerprint of training data → split → rows here whose picture is in that training split
    in_training: dict[str, dict[str, list[int]]] = field(default_factory=dict)

    def joined(self, other: "DataNotes") -> "DataNotes":
        """Both together; where both say something of the same thing, this one stays."""
        both = self.in_training.keys() | other.in_training.keys()
        in_training = {
            key: {**other.in_training.get(key, {}), **self.in_training.get(key, {})}
            for key in sorted(both)
        }
        faces = {**other.faces, **self.faces}
        return replace(self, faces=faces, in_training=in_training)
