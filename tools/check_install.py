"""Say whether the installed packages work together, before a long traceback does.

Why: torch and torchvision are built for each other. A CPU-only torch with the package index's
torchvision, or two versions that do not belong together, fail at import with "operator
torchvision::nms does not exist", which names neither the cause nor the remedy.

    python tools/check_install.py --verbose      # exit code 0: sound; 2: and what to do about it
"""

import argparse
import re
import sys
from importlib import import_module
from importlib.metadata import PackageNotFoundError, distribution
from io import TextIOWrapper
from pathlib import Path

__all__ = ["broken_pair", "fingerprint", "missing", "required"]

ROOT = Path(__file__).resolve().parent.parent
REQUIREMENTS = "requirements.txt"
PAIR = ("torch", "torchvision")


def required(path: Path) -> dict[str, str]:
    """The packages that a requirements file names: {name: the whole line}.

    Other files that it names (-r, -c) are left out.
    """
    lines = (line.split("#")[0].strip() for line in path.read_text(encoding="utf-8").splitlines())
    return {
        re.split(r"[\s<>=!~\[;]", line)[0]: line
        for line in lines
        if line and not line.startswith("-")
    }


def version(name: str) -> str | None:
    """The installed version as its metadata tells it, or None."""
    try:
        return distribution(name).version
    except PackageNotFoundError:
        return None


def missing(names: list[str]) -> list[str]:
    """Those of `names` that are not installed for this Python."""
    return [name for name in names if version(name) is None]


def fingerprint() -> str:
    """Versions and installation times of Python and the pair: different after reinstalling."""
    parts = [sys.version, sys.prefix]
    for name in PAIR:
        try:
            found = distribution(name)
        except PackageNotFoundError:
            parts.append(f"no {name}")
            continue
        record = Path(str(found.locate_file(f"{name}-{found.version}.dist-info/RECORD")))
        parts += [name, found.version, str(record.stat().st_mtime_ns) if record.exists() else "?"]
    return "\n".join(parts) + "\n"


def broken_pair() -> Exception | None:
    """Import torch, then torchvision; the exception when one of them cannot be imported."""
    try:
        for name in PAIR:
            import_module(name)
    except Exception as error:  # OSError for a missing library, RuntimeError for nms, and others
        return error
    return None


def advice(error: Exception, lines: dict[str, str]) -> str:
    """What failed, which versions are installed, and the command that repairs it."""
    found = " and ".join(f"{name} {version(name) or 'missing'}" for name in PAIR)
    pair = " ".join(f'"{lines.get(name, name)}"' for name in PAIR)
    what = (str(error).splitlines() or [repr(error)])[0]
    why = (
        "They were not built for each other; the usual cause is a CPU-only torch with a "
        "torchvision from another index. "
        if "torchvision::" in what
        else ""
    )
    return (
        f"{found} do not work together: {what}\n"
        f"{why}Reinstall both:\n"
        f"    {sys.executable} -m pip install --force-reinstall {pair}\n"
        "If that does not help, pip finds a second torch through its settings: see\n"
        "`pip config list`. Install both from one index, or make a new environment."
    )


def main(arguments: list[str] | None = None) -> int:
    for stream in (sys.stdout, sys.stderr):  # as expression.terminal, which may not be importable
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--verbose", action="store_true", help="print the versions found")
    parser.add_argument(
        "--remember",
        type=Path,
        metavar="FILE",
        help="skip the imports while the pair is as it was when they last worked",
    )
    parser.add_argument(
        "--requirements",
        default=REQUIREMENTS,
        metavar="FILE",
        help="what must be there; requirements-demo.txt does without torch (default: %(default)s)",
    )
    options = parser.parse_args(arguments)

    file = ROOT / options.requirements
    lines = required(file) if file.exists() else {name: name for name in PAIR}
    if options.verbose:
        print(f"python {sys.version.split()[0]}: {sys.executable}")
        print("\n".join(f"{name} {version(name) or 'missing'}" for name in lines))
    absent = missing(list(lines))
    if absent:
        print(
            f"Not installed for {sys.executable}: {', '.join(absent)}.\n"
            f"    {sys.executable} -m pip install -r {options.requirements}",
            file=sys.stderr,
        )
        return 2
    if all(version(name) is None for name in PAIR):
        if options.verbose:
            print("There is no torch here, and nothing that was asked for needs it.")
        return 0
    sound = options.remember
    now = fingerprint()
    if sound and sound.exists() and sound.read_text(encoding="utf-8") == now:
        return 0
    error = broken_pair()
    if error is not None:
        whole = ROOT / REQUIREMENTS
        print(advice(error, required(whole) if whole.exists() else lines), file=sys.stderr)
        return 2
    if sound:
        sound.write_text(now, encoding="utf-8")
    if options.verbose:
        print("torch and torchvision work together.")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
