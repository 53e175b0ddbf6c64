"""The picture in a request, read into memory: a body that is the picture, or a form with one file.

Why: whoever sends a body decides how large it is and how slowly it comes. So each is bounded, and
all that are held at once share one bound. Starlette's own reader of forms writes files above 1 MB
to the disk; here a picture never gets there. Needs python-multipart (the extra `server`).
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from python_multipart import MultipartParser
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import parse_options_header

__all__ = ["HungUp", "Refusal", "Uploads"]

FORM = b"multipart/form-data"
PARTS = 20  # of a form: a picture, and a few fields that nobody reads


class Refusal(Exception):
    """A request that is not answered: the status, how it counts, and one sentence."""

    def __init__(
        self, status: int, outcome: str, sentence: str, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(sentence)
        self.status, self.outcome, self.headers = status, outcome, dict(headers or {})


class HungUp(Exception):
    """The client closed the connection before the answer came."""


Receive = Callable[[], Awaitable[Any]]  # ASGI's: the next message of a request


@dataclass
class Uploads:
    """Reads pictures of at most `largest` bytes each, within `seconds`; all that are being received
    or wait for their answer take at most `most` bytes."""

    largest: int = 20_000_000
    most: int = 256_000_000
    seconds: float = 60.0
    held: int = 0

    @classmethod
    def up_to(cls, megabytes: float) -> "Uploads":
        """Raises ValueError unless it is above 0, and not above what all take together."""
        if not 0 < megabytes <= cls.most / 1e6:  # written so that a NaN is refused
            raise ValueError(f"--max-mb is {megabytes:g}; it must be in (0, {cls.most / 1e6:g}]")
        return cls(int(megabytes * 1e6))

    @contextmanager
    def picture(self) -> Iterator[bytearray]:
        """Memory for one picture, until the end of the block."""
        content = bytearray()
        try:
            yield content
        finally:
            self.held -= len(content)

    async def read(
        self, content: bytearray, headers: Mapping[str, str], receive: Receive
    ) -> bytes | bytearray:
        """A request's body, put into `content` → the file of the picture in it.

        Raises HungUp; or Refusal: 408 for one that comes too slowly, 413 for one too large, 422 for
        a form without exactly one file, 429 where too much is held.
        """
        announced = headers.get("content-length", "")
        if announced.isdecimal() and int(announced) > self.largest:
            raise self.too_large()
        try:
            await asyncio.wait_for(self._receive(content, receive), self.seconds)
        except (TimeoutError, asyncio.TimeoutError):
            raise Refusal(
                408, "too_slow", f"the picture did not come within {self.seconds:g} seconds"
            ) from None
        kind, options = parse_options_header(headers.get("content-type", ""))
        if kind != FORM:
            return content
        return await asyncio.to_thread(file_of_form, content, options.get(b"boundary", b""))

    async def _receive(self, content: bytearray, receive: Receive) -> None:
        more = True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise HungUp
            chunk, more = message.get("body", b""), message.get("more_body", False)
            if len(content) + len(chunk) > self.largest:
                raise self.too_large()
            if self.held + len(chunk) > self.most:
                raise Refusal(
                    429, "queue_full", "too many pictures come at once; come again in a moment",
                    {"Retry-After": "1"},
                )  # fmt: skip
            self.held += len(chunk)
            content += chunk

    def too_large(self) -> Refusal:
        most = f"{self.largest / 1e6:g} MB"
        return Refusal(413, "too_large", f"the picture is larger than {most}; send a smaller one")


class FormReader:
    """What python-multipart calls while it reads a form; keeps the content of files alone."""

    def __init__(self) -> None:
        self.files: list[bytearray] = []
        self.parts, self.is_file, self.whole = 0, False, False
        self.name, self.value = bytearray(), bytearray()  # of the header that is being read

    def callbacks(self) -> Any:
        events = (
            "part_begin", "header_field", "header_value", "header_end", "headers_finished",
            "part_data", "end",
        )  # fmt: skip
        return {f"on_{event}": getattr(self, event) for event in events}

    def part_begin(self) -> None:
        self.parts, self.is_file = self.parts + 1, False
        if self.parts > PARTS:
            raise FormParserError

    def header_field(self, data: bytes, start: int, end: int) -> None:
        self.name += data[start:end]

    def header_value(self, data: bytes, start: int, end: int) -> None:
        self.value += data[start:end]

    def header_end(self) -> None:
        if self.name.lower() == b"content-disposition":
            self.is_file = b"filename" in parse_options_header(bytes(self.value))[1]
        self.name.clear()
        self.value.clear()

    def headers_finished(self) -> None:
        if self.is_file:
            self.files.append(bytearray())

    def part_data(self, data: bytes, start: int, end: int) -> None:
        if self.is_file:
            self.files[-1] += data[start:end]

    def end(self) -> None:
        self.whole = True


def file_of_form(body: bytes | bytearray, boundary: bytes) -> bytearray:
    """The one file of a form. Raises Refusal (422) for another number of them, or a broken form."""
    form = FormReader()
    try:
        if boundary:
            MultipartParser(boundary, form.callbacks()).write(bytes(body))
    except FormParserError:
        form.whole = False
    if not form.whole:
        raise Refusal(422, "bad_request", "the form is broken; send the picture again")
    if len(form.files) != 1:
        raise Refusal(
            422, "bad_request", f"the form has {len(form.files)} files; send one picture a request"
        )
    return form.files[0]
