"""Several pictures at once: a table with a row a face, and files to take away.

The table is the one that `expression FOLDER --csv` writes, with file names in place of paths.
"""

import zipfile
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path

from PIL import Image

from expression.app.page import PictureFaces, table_html, thumbnail, told
from expression.drawing import draw_faces
from expression.face_prediction import enlarged
from expression.files import shown
from expression.output_files import safe_stem, save_picture
from expression.picture_batches import PictureAnswer, answer_pictures
from expression.pictures import reduced
from expression.predictor import ExpressionPredictor
from expression.tables import FaceTable

__all__ = ["SeveralAnswers", "answer_several"]

ROWS = 200  # faces in the table of the page; the CSV table holds all


@dataclass
class SeveralAnswers:
    """What was found in several pictures.

    `drawn` are (picture file, caption); `table` is a CSV file, `archive` a ZIP file of it and of
    the drawn pictures; `html` is the table of the page, with a sentence for each file that could
    not be read.
    """

    table: Path
    archive: Path
    drawn: list[tuple[Path, str]] = field(default_factory=list)
    faces: list[PictureFaces] = field(default_factory=list)
    unread: list[str] = field(default_factory=list)

    def html(self, class_names: tuple[str, ...]) -> str:
        reasons = "".join(told(reason) for reason in self.unread)
        count, rows = 0, []
        for one in self.faces:
            if count < ROWS:
                rows.append(one)
            count += len(one.faces)
        more = (
            f"<p>The CSV table holds all {count} faces.</p>" if len(rows) < len(self.faces) else ""
        )
        return reasons + (table_html(rows, class_names) if count else "") + more


def answer_several(
    predictor: ExpressionPredictor, files: list[str], folder: Path
) -> SeveralAnswers:
    """Answer picture files; what is made of them lies in `folder`."""
    found = SeveralAnswers(folder / "faces.csv", folder / "faces.zip")
    with ExitStack() as stack:
        file = stack.enter_context(found.table.open("w", newline="", encoding="utf-8"))
        table = FaceTable(file, predictor.class_names)
        for answer in answer_pictures(predictor, files):
            name = shown(Path(answer.name).name)
            if answer.image is None:
                reason = answer.error.replace(answer.name, name)
                found.unread.append(reason.replace(shown(answer.name), name))
                continue
            add(found, table, predictor, answer, answer.image, name)
    with zipfile.ZipFile(found.archive, "w") as archive:
        for path in (found.table, *(path for path, _ in found.drawn)):
            archive.write(path, path.name)
    return found


def add(
    found: SeveralAnswers,
    table: FaceTable,
    predictor: ExpressionPredictor,
    answer: PictureAnswer,
    image: Image.Image,
    name: str,
) -> None:
    """One picture that was read: its rows, its drawn copy, its faces' thumbnails."""
    faces = [enlarged(face, reduced(image)) for face in answer.faces]
    if faces:
        table.add(name, faces)
    else:
        table.add_empty(name)
    crops = [thumbnail(predictor.crop(image, face.box, face.tilt)) for face in answer.faces]
    found.faces.append(PictureFaces(name, faces, crops))
    words = ", ".join(face.label for face in faces) or "no face found"
    path = found.table.with_name(f"{len(found.drawn) + 1:02}-{safe_stem(Path(name).stem)[:80]}.jpg")
    numbered = [replace(face, track=number) for number, face in enumerate(answer.faces, 1)]
    save_picture(draw_faces(image, numbered, bars=False), path, quality=90)
    found.drawn.append((path, f"{name}: {words}"))
