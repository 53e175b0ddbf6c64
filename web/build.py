"""Build the page that needs no server: web/dist, from web/page, the .onnx files and their cards.

Why: the page must answer as Python does. So every number, colour and word that it shares with
Python is taken from there, and written into settings.js; nothing is copied by hand. The .onnx
files are those that Python runs, byte for byte. ONNX Runtime's WebAssembly is packed by gzip here,
to a quarter, because not every host packs it on the way; weights would shrink by 8 % alone.

    tools/prepare_web.sh
    python -m web.build [--checkpoint NAME] [--out FOLDER]

Needs what `pip install .` installs, and ONNX Runtime Web in web/node_modules.
"""

import argparse
import gzip
import html
import inspect
import json
import re
import shutil
import sys
from pathlib import Path
from typing import Any

from expression import face_detector, picture_decoding, pictures, tracker
from expression.about import LIMITS, data_names, not_sure_words, share
from expression.checkpoint import read_card, resolve_checkpoint
from expression.drawing import UNSURE_COLOUR, UNSURE_EMOJI, colour_of, emoji_of, ink_on
from expression.face_detector import DETECTOR, FaceFinder
from expression.face_prediction import NOT_SURE
from expression.faces import CropRule
from expression.networks import open_onnx
from expression.preprocessing import Preprocess
from expression.terminal import escape_unprintable
from expression.tracker import Tracker

HERE = Path(__file__).resolve().parent
RUNTIME = HERE / "node_modules" / "onnxruntime-web" / "dist"
SCRIPT, WASM = "ort.wasm.bundle.min.mjs", "ort-wasm-simd-threaded.wasm"  # without WebGPU
PARTS = """
---
Parts of this page by others, each under the same licence (MIT):
ONNX Runtime Web, Copyright (c) Microsoft Corporation
MTCNN's weights from facenet-pytorch, Copyright (c) 2019 Timothy Esler
"""


def build(out: Path, checkpoint: Path) -> int:
    """Write the page into the folder `out`; returns the bytes that a visitor loads.

    What stood in `out` is replaced. Raises FileNotFoundError where a part is missing, ValueError
    for a checkpoint that the page cannot answer with.
    """
    if not (RUNTIME / WASM).is_file():
        raise FileNotFoundError(
            f"there is no ONNX Runtime in {RUNTIME}; tools/prepare_web.sh installs it"
        )
    card = read_card(checkpoint)
    exported = open_onnx(checkpoint).path  # also checks that it belongs to the checkpoint
    shutil.rmtree(out, ignore_errors=True)
    shutil.copytree(HERE / "page", out)
    files = {
        "runtime": packed(RUNTIME / WASM, out / "onnxruntime.wasm.gz"),
        "finder": Path(shutil.copy(DETECTOR, out)),
        "network": Path(shutil.copyfile(exported, out / "expression.onnx")),
    }
    shutil.copyfile(RUNTIME / SCRIPT, out / "onnxruntime.mjs")
    licence = (HERE.parent / "LICENSE").read_text(encoding="utf-8")
    (out / "LICENSE.txt").write_text(licence + PARTS, encoding="utf-8")
    settings = {
        "files": {
            key: {"name": path.name, "bytes": path.stat().st_size} for key, path in files.items()
        },
        **rules(),
        **answers(card),
    }
    text = json.dumps(settings, ensure_ascii=False, indent=1)
    (out / "settings.js").write_text(f"export const settings = {text};\n", encoding="utf-8")
    (out / "figures.html").write_text(figures(checkpoint), encoding="utf-8")
    loaded = [path for path in out.iterdir() if path.name != "figures.html"]
    size = sum(path.stat().st_size for path in loaded)
    page = out / "index.html"
    page.write_text(filled(page.read_text(encoding="utf-8"), words(card, size)), encoding="utf-8")
    return size


def packed(source: Path, target: Path) -> Path:
    """A copy packed by gzip: the same bytes for the same source, whenever it is made."""
    target.write_bytes(gzip.compress(source.read_bytes(), compresslevel=9, mtime=0))
    return target


# --- what the page takes from Python ---


def default(function: Any, name: str) -> Any:
    """The value that an argument has where none is given."""
    return inspect.signature(function).parameters[name].default


def rules() -> dict[str, Any]:
    """How faces are searched and followed, and photos opened: constants and default arguments."""
    d = face_detector
    return {
        "finder": {
            "firstSmallest": d.FIRST_SMALLEST,
            "finerSmallest": d.FINER_SMALLEST,
            "finerDoubt": d.FINER_DOUBT,
            "turns": list(d.TURNS.items()),
            "crowd": d.CROWD,
            "window": d.WINDOW,
            "smallestSide": d.SMALLEST_SIDE,
            "smallestSeen": d.SMALLEST_SEEN,
            "largestSide": d.LARGEST_SIDE,
            **{name: default(FaceFinder, name) for name in ("least", "detail", "pixels")},
        },
        "tracker": {
            **{name: default(Tracker, name) for name in ("every", "memory", "smooth")},
            "nameEvery": tracker.NAME_EVERY,
        },
        "pictures": {"longest": pictures.LONGEST, "kept": picture_decoding.KEPT},
    }


def answers(card: dict[str, Any]) -> dict[str, Any]:
    """How a face is named and what an answer looks like, from the checkpoint's card."""
    rule = Preprocess(**card["preprocess"])
    crop = CropRule(**card["crop"]) if isinstance(card.get("crop"), dict) else CropRule()
    if rule.resize != "squash":
        raise ValueError(f"preprocess.resize is {rule.resize!r}; the page knows squash alone")
    names = card["class_names"]
    threshold = float(card.get("min_confidence", 0))
    return {
        "card": {
            "classNames": names,
            "preprocess": rule.settings(),
            "crop": crop.settings(),
            "temperature": float(card.get("temperature", 1)),
            "minConfidence": threshold,
            "notSure": NOT_SURE,
        },
        "looks": {name: look(emoji_of(name), colour_of(name)) for name in names},
        "unsure": look(UNSURE_EMOJI, UNSURE_COLOUR),
        "notSureWords": not_sure_words(threshold),
    }


def look(emoji: str, colour: str) -> dict[str, str]:
    return {"emoji": emoji, "colour": colour, "ink": ink_on(colour)}


# --- words ---


def words(card: dict[str, Any], size: int) -> dict[str, str]:
    """What stands in index.html for {{each}} of its gaps."""
    return {
        "megabytes": f"{size / 1e6:.1f}",
        "emoji": "".join(emoji_of(name) for name in card["class_names"]),
        "limits": LIMITS,
        "errors": errors(card),
        "not_sure": not_sure_sentence(card),
        "data": data_names(card),
    }


def errors(card: dict[str, Any]) -> str:
    """How often the network is wrong, in a sentence: on the faces that its card tells of."""
    if told := card.get("calibration"):
        answered = {"k": told["answered"], "n": told["n"]}
        wrong = {"k": told["mistakes"], "n": told["answered"]}
        judge = " by the majority of the people asked" if told.get("truth") == "majority" else ""
        return (
            f"On the {told['split']} faces of {told['data']} it names {share(answered)} and is not "
            f"sure of the others; of these names {share(wrong)} are wrong{judge}. On other faces "
            "it can be wrong more often."
        )
    right = share(card["validation"])
    return f"On the validation faces of {card['data']['name']} it is right for {right}."


def not_sure_sentence(card: dict[str, Any]) -> str:
    """When it answers "not sure"; "" for a network that always names an expression."""
    threshold = float(card.get("min_confidence", 0))
    return f"It says “{NOT_SURE}” where {not_sure_words(threshold)}." if threshold else ""


def filled(template: str, given: dict[str, str]) -> str:
    """The template with each {{name}} replaced. Raises KeyError for a name that is not given."""
    return re.sub(r"\{\{(\w+)\}\}", lambda found: html.escape(given[found[1]]), template)


def figures(checkpoint: Path) -> str:
    """A page with the table of the checkpoint's card (.md): what was measured, on which faces."""
    lines = checkpoint.with_suffix(".md").read_text(encoding="utf-8").splitlines()
    rows = [re.fullmatch(r"\| (.+?) \| (.+) \|", line) for line in lines]
    table = "\n".join(
        f"<tr><th scope='row'>{inline(row[1])}</th><td>{inline(row[2])}</td></tr>"
        for row in rows
        if row
    )
    page = (HERE / "figures.html").read_text(encoding="utf-8")
    return page.replace("{{name}}", html.escape(checkpoint.stem)).replace("{{table}}", table)


def inline(text: str) -> str:
    """Markdown of one cell → HTML: `code` alone."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", html.escape(text))


# --- the command ---


def main(given: list[str] | None = None) -> None:
    escape_unprintable()
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--checkpoint", default="expression", help="a path, or a name in checkpoints/ (%(default)s)"
    )
    parser.add_argument("--out", type=Path, default=HERE / "dist", help="folder (%(default)s)")
    args = parser.parse_args(given)
    try:
        checkpoint = resolve_checkpoint(args.checkpoint)
        size = build(args.out, checkpoint)
    except (FileNotFoundError, ValueError) as error:
        sys.exit(f"web.build: {error}")
    print(f"{args.out}: {checkpoint.stem}, {size / 1e6:.2f} MB to load.")


if __name__ == "__main__":
    main()
