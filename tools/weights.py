"""The SHA-256 of every network's weights in the repository: check them, or write the list anew.

    python -m tools.weights            # exit code 2 where a file differs from weights.sha256
    python -m tools.weights --write    # after a network was added or exported again

The list has the form of `sha256sum`: `sha256sum -c weights.sha256` checks it without Python.
"""

import argparse
import hashlib
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from expression.files import atomic_write
from expression.terminal import escape_unprintable

__all__ = ["LIST", "committed", "faults", "listed"]

ROOT = Path(__file__).resolve().parent.parent
LIST = "weights.sha256"
FOLDERS = ("checkpoints", "expression/weights")
ENDINGS = (".npz", ".onnx", ".pt", ".pth", ".safetensors")


def committed(root: Path = ROOT) -> list[str]:
    """The weights that git knows, sorted. Raises OSError or CalledProcessError without git."""
    command = ["git", "ls-files", "-z", "--", *FOLDERS]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True)
    return sorted(name for name in done.stdout.split("\0") if name.endswith(ENDINGS))


def listed(root: Path = ROOT) -> dict[str, str]:
    """{path from the root: SHA-256} as the list has it."""
    lines = (root / LIST).read_text(encoding="utf-8").splitlines()
    return {name: digest for digest, name in (line.split("  ", 1) for line in lines)}


def digest_of(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def faults(root: Path = ROOT) -> list[str]:
    """One sentence for each listed file that is missing or holds other bytes; [] where all fit."""
    told = []
    for name, digest in listed(root).items():
        if not (root / name).is_file():
            told.append(f"{name} is listed in {LIST} and missing; fetch the repository again")
        elif digest_of(root / name) != digest:
            told.append(f"{name} is not the file that {LIST} lists; fetch the repository again")
    return told


def main(arguments: Sequence[str] | None = None) -> int:
    escape_unprintable()
    parser = argparse.ArgumentParser(prog="python -m tools.weights", description=(
        "Check the weights in the repository against weights.sha256."
    ))  # fmt: skip
    parser.add_argument("--write", action="store_true", help="write the list anew")
    if parser.parse_args(arguments).write:
        lines = [f"{digest_of(ROOT / name)}  {name}\n" for name in committed()]
        with atomic_write(ROOT / LIST) as file:
            file.write("".join(lines).encode())
        print(f"wrote {LIST}: {len(lines)} files")
        return 0
    told = faults()
    for sentence in told:
        print(f"error: {sentence}", file=sys.stderr)
    return 2 if told else 0


if __name__ == "__main__":
    sys.exit(main())
