"""Pictures of many clients, answered in batches: a queue with an end, and one thread that works.

Why: a network names sixteen faces in little more time than it names four, but each client sends one
picture. So what waits is taken together: as many threads as the machine has cores open the pictures
and find their faces, then all faces of the batch go through the network in one pass, while the next
pictures are opened, and each answer goes back to the client whose picture it was.

The queue is bounded: who comes when it is full is refused at once, and told when to come again.
Until the pass, only the network's inputs are kept of a picture, so that a batch of large photos
takes no more memory than one photo a core.
"""

import math
import os
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice

import numpy as np

from expression.face_prediction import FacePrediction, enlarged
from expression.faces import Face
from expression.files import shown
from expression.pictures import LONGEST, open_picture, reduced
from expression.predictor import ExpressionPredictor

__all__ = ["Batching", "QueueFull", "RequestBatches", "Stopped"]

Faces = list[FacePrediction]
LONGEST_WAIT = 60  # seconds: what Retry-After asks for at most


class QueueFull(Exception):
    """As many pictures wait as may; `seconds` is when to come again."""

    def __init__(self, seconds: int) -> None:
        super().__init__(f"the queue is full; come again in {seconds} s")
        self.seconds = seconds


class Stopped(Exception):
    """The server stops: what it took in is still answered, nothing new is taken."""


@dataclass(frozen=True)
class Batching:
    """How many pictures wait at most, how many go through the network together, for how many
    milliseconds a picture that is alone waits for others, and how many are opened at once."""

    queue: int = 256
    pictures: int = 16
    milliseconds: float = 2.0
    threads: int = os.cpu_count() or 1

    def __post_init__(self) -> None:
        for name in ("queue", "pictures", "threads"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be 1 or more")
        if not 0 <= self.milliseconds <= 1000:  # written so that a NaN is refused
            raise ValueError(f"milliseconds is {self.milliseconds:g}; it must be in [0, 1000]")


@dataclass(eq=False)  # two clients may send the same picture
class Job:
    """A picture that waits: its file's bytes, and where its answer goes."""

    content: bytes | bytearray
    whole: bool
    answer: "Future[Faces]" = field(default_factory=Future)


@dataclass(frozen=True)
class Opened:
    """A picture after the search: its faces, and the network's inputs (N, C, H, W) for them."""

    job: Job
    times: int
    faces: list[Face]
    inputs: np.ndarray


class RequestBatches:
    """A context manager: the thread works from the beginning of the block to its end.

    At its end what waits is answered, what comes later is refused. `batch_done(pictures)` is called
    after each batch with the number of its pictures.
    """

    def __init__(
        self,
        predictor: ExpressionPredictor,
        how: Batching | None = None,
        batch_done: Callable[[int], None] = lambda pictures: None,
    ) -> None:
        self.predictor, self.how, self.batch_done = predictor, how or Batching(), batch_done
        self.pace = 0.05  # seconds a picture, of the last batches
        self._waiting: deque[Job] = deque()
        self._changed = threading.Condition()
        self._stopping = False
        self._thread = threading.Thread(target=self._work, name="batches", daemon=True)

    def __enter__(self) -> "RequestBatches":
        self._finder = self.predictor.finder  # loaded before anybody waits for it
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        self._thread.join()

    # --- for those who ask ---

    @property
    def ready(self) -> bool:
        """Whether a picture that comes now would be answered, were there room."""
        return self._thread.is_alive() and not self._stopping

    def __len__(self) -> int:
        """How many pictures wait."""
        return len(self._waiting)

    def check_room(self) -> None:
        """Raises QueueFull or Stopped where `submit` would."""
        if not self.ready:
            raise Stopped
        if len(self._waiting) >= self.how.queue:
            seconds = math.ceil(len(self._waiting) * self.pace)
            raise QueueFull(min(max(seconds, 1), LONGEST_WAIT))

    def submit(self, content: bytes | bytearray, whole: bool = False) -> "Future[Faces]":
        """Take in a picture's file; `whole`: the picture is one face.

        The future's result are the faces, boxes in pixels of the file; its exception is ValueError,
        with a sentence for the client, for what is no picture, and another for what failed here. A
        future that is cancelled before its turn costs nothing further.
        """
        job = Job(content, whole)
        with self._changed:
            self.check_room()
            self._waiting.append(job)
            self._changed.notify_all()
        job.answer.add_done_callback(lambda answer: self._drop(job, answer))
        return job.answer

    def _drop(self, job: Job, answer: "Future[Faces]") -> None:
        """Whoever hung up makes room, and their picture is forgotten."""
        if answer.cancelled():
            with self._changed:
                if job in self._waiting:
                    self._waiting.remove(job)

    # --- the thread ---

    def _work(self) -> None:
        """Open the pictures of one batch while those of the batch before are named."""
        with ThreadPoolExecutor(self.how.threads, "pictures") as pool:
            naming: Future[None] | None = None
            while jobs := self._next_batch():
                start = time.monotonic()
                opened = [one for one in pool.map(self._open, jobs) if one is not None]
                if naming is not None:
                    naming.result()
                naming = pool.submit(self._name, opened)
                self.pace += 0.2 * ((time.monotonic() - start) / len(jobs) - self.pace)
                self.batch_done(len(jobs))
                del jobs, opened  # nobody's picture is kept while the next one is awaited

    def _next_batch(self) -> list[Job]:
        """What waits, at most a batch; [] when all is answered and the server stops."""
        with self._changed:
            jobs: list[Job] = []
            while not jobs:
                self._changed.wait_for(lambda: self._waiting or self._stopping)
                if not self._waiting:
                    return []
                if not self._stopping and len(self._waiting) == 1:  # others may come in a moment
                    self._changed.wait_for(self._is_full, self.how.milliseconds / 1000)
                while self._waiting and len(jobs) < self.how.pictures:
                    job = self._waiting.popleft()
                    if job.answer.set_running_or_notify_cancel():
                        jobs.append(job)
            return jobs

    def _is_full(self) -> bool:
        return self._stopping or len(self._waiting) >= self.how.pictures

    def _open(self, job: Job) -> Opened | None:
        """Open a picture, find its faces and cut them out; None where it was answered already."""
        try:
            image = open_picture(job.content, longest=LONGEST)
            job.content = b""
            if job.whole:
                faces = [Face((0, 0, *image.size), 1.0)]
                inputs = self.predictor.preprocess.batch([image])
            else:
                faces = self._finder.find(image)
                inputs = self.predictor.crop_inputs(image, faces)
            return Opened(job, reduced(image), faces, inputs)
        except (OSError, ValueError) as error:
            job.answer.set_exception(ValueError(shown(error)))
        except Exception as error:  # one picture must not end the thread that all wait for
            fail(job, error)
        return None

    def _name(self, opened: Sequence[Opened]) -> None:
        """Answer opened pictures by one pass of the network; each alone where that fails."""
        if not opened:
            return
        try:
            answers = self._answers(opened)
        except Exception as error:  # as in `_open`
            if len(opened) == 1:
                fail(opened[0].job, error)
            else:
                for one in opened:
                    self._name([one])
            return
        for one, faces in zip(opened, answers, strict=True):
            one.job.answer.set_result(faces)

    def _answers(self, opened: Sequence[Opened]) -> list[Faces]:
        """The faces of each opened picture, named; boxes are in pixels of the file."""
        inputs = np.concatenate([one.inputs for one in opened])
        rows = iter(self.predictor.answer(inputs) if len(inputs) else ())
        answers = []
        for one in opened:
            named = self.predictor.named(one.faces, list(islice(rows, len(one.faces))))
            answers.append([enlarged(face, one.times) for face in named])
        return answers


def fail(job: Job, error: Exception) -> None:
    """Answer that this failed here. What happened is told to whoever runs the server, without the
    picture."""
    print(f"error: {type(error).__name__}: {shown(error)}", file=sys.stderr, flush=True)
    job.answer.set_exception(RuntimeError("the picture could not be answered; see the server"))
