"""The server's app: a picture by HTTP → its faces and the expression that each shows, as JSON.

`make_app` makes it for any ASGI server; `expression/server.py` is the command that serves it. Needs
the extra `server`.
"""

import asyncio
import hashlib
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse, Response

from expression.about import LIMITS
from expression.app.hosts import OWN_NAMES, HostCheck
from expression.app.serving import Serving
from expression.face_prediction import FacePrediction
from expression.files import shown
from expression.predictor import ExpressionPredictor
from expression.request_batches import Batching, QueueFull, RequestBatches, Stopped
from expression.server_metrics import CONTENT_TYPE, ServerMetrics
from expression.server_page import PAGE_HEADERS, PICTURE_BODY, Answer, Health, Problem, page
from expression.server_uploads import HungUp, Refusal, Uploads
from expression.tables import face_entry

__all__ = ["Model", "make_app"]

PARAMETERS = {"whole"}  # of /predict


@dataclass(frozen=True)
class Model:
    """Which network answers: its checkpoint's name and the SHA-256 of that file."""

    name: str
    sha256: str

    @classmethod
    def of(cls, checkpoint: Path) -> "Model":
        return cls(checkpoint.stem, hashlib.sha256(checkpoint.read_bytes()).hexdigest())


def answer_entry(face: FacePrediction) -> dict[str, Any]:
    """A face as the command line's JSON has it, with the word to show and the tilt in degrees."""
    return {**face_entry(face, None), "label": face.label, "tilt": round(face.tilt, 1)}


class Service:
    """What the addresses answer, for one predictor."""

    def __init__(self, predictor: ExpressionPredictor, how: Batching, uploads: Uploads) -> None:
        self.model, self.uploads = Model.of(predictor.path), uploads
        self.batches = RequestBatches(predictor, how, self._batch_done)
        self.metrics = ServerMetrics(self.batches.__len__, self.model.name, self.model.sha256)

    def _batch_done(self, pictures: int) -> None:
        self.metrics.batches.observe(pictures)

    async def predict(self, request: Request, whole: bool) -> JSONResponse:
        """The answer to one picture; every request is counted once, by how it ended."""
        start = time.monotonic()
        outcome, faces = "failed", []
        try:
            check_parameters(request)
            with self.uploads.picture() as content:
                self.batches.check_room()  # before the picture is sent, where the client waits
                picture = await self.uploads.read(content, request.headers, request.receive)
                faces = await self._answer(request, picture, whole)
            outcome = "answered"
            return JSONResponse(
                {"faces": [answer_entry(face) for face in faces], "model": self.model.name}
            )
        except Refusal as refusal:
            outcome = refusal.outcome
            return problem(refusal.status, str(refusal), refusal.headers)
        except ValueError as error:
            outcome = "not_a_picture"
            return problem(422, str(error))
        except QueueFull as full:
            outcome = "queue_full"
            wait = {"Retry-After": str(full.seconds)}
            return problem(429, f"too many pictures wait; come again in {full.seconds} s", wait)
        except Stopped:
            outcome = "stopping"
            return problem(503, "the server stops; ask another one", {"Retry-After": "10"})
        except RuntimeError as error:
            return problem(500, str(error))
        except HungUp:
            outcome = "hung_up"
            return problem(499, "the client hung up")  # nobody reads it
        finally:
            self.metrics.ended(outcome, time.monotonic() - start, len(faces))

    async def _answer(
        self, request: Request, picture: bytes | bytearray, whole: bool
    ) -> list[FacePrediction]:
        """The faces; raises HungUp, and forgets the picture, where the client goes before."""
        answer = asyncio.wrap_future(self.batches.submit(picture, whole))
        gone = asyncio.ensure_future(request.receive())  # nothing but the client's going comes now
        try:
            first: set[asyncio.Future[Any]] = {answer, gone}
            await asyncio.wait(first, return_when=asyncio.FIRST_COMPLETED)
            if not answer.done():
                raise HungUp
            return answer.result()
        finally:
            answer.cancel()
            gone.cancel()


def check_parameters(request: Request) -> None:
    """Raises Refusal (422) for one that is not known: a misspelt `whole` changes the answer."""
    if unknown := sorted(request.query_params.keys() - PARAMETERS):
        known = ", ".join(sorted(PARAMETERS))
        raise Refusal(
            422, "bad_request", f"no parameter is called {unknown[0][:40]}; there is {known}"
        )


def problem(status: int, sentence: str, headers: Mapping[str, str] | None = None) -> JSONResponse:
    return JSONResponse({"error": shown(sentence)}, status, dict(headers or {}))


def make_app(
    predictor: ExpressionPredictor,
    serving: Serving | None = None,
    how: Batching | None = None,
    uploads: Uploads | None = None,
) -> FastAPI:
    """The app for any ASGI server; while its lifespan lasts, `predictor` answers.

    `serving` says which names it answers under, `how` and `uploads` what it takes in.
    """
    service = Service(predictor, how or Batching(), uploads or Uploads())
    model = asdict(service.model)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        with service.batches:
            yield

    app = FastAPI(
        title="Expressions of faces", version="1", description=LIMITS,
        lifespan=lifespan, docs_url=None, redoc_url=None,  # those load scripts from elsewhere
    )  # fmt: skip

    async def wrong_host(scope: Any, receive: Any, send: Any) -> None:
        service.metrics.ended("wrong_host")
        await problem(403, f"this server {OWN_NAMES}")(scope, receive, send)

    allowed = (serving or Serving()).answers_as
    app.add_middleware(HostCheck, allowed=allowed, refusal=wrong_host)

    @app.post(
        "/predict", summary="Every face of a picture, the largest first", response_model=Answer,
        openapi_extra=PICTURE_BODY,
        responses={status: {"model": Problem} for status in (403, 408, 413, 422, 429, 500, 503)},
    )  # fmt: skip
    async def predict(request: Request, whole: bool = False) -> Response:
        """The body is a picture's file, or a form with one. `whole=1`: the picture is one face,
        cropped already."""
        return await service.predict(request, whole)

    @app.get("/health", response_model=Health, responses={503: {"model": Health}})
    async def health() -> Response:
        """Whether it answers, and which network does; 503 while it stops."""
        ready = service.batches.ready
        classes = list(predictor.class_names)
        told = {"ready": ready, "model": model, "classes": classes}
        return JSONResponse(told, 200 if ready else 503)

    @app.get("/metrics", response_class=Response)
    async def metrics() -> Response:
        """Requests, queue, batches and seconds, in Prometheus' text format."""
        return Response(service.metrics.text(), headers={"Content-Type": CONTENT_TYPE})

    @app.get("/", include_in_schema=False)
    async def root() -> Response:
        return HTMLResponse(page(service.model.name, predictor.class_names), headers=PAGE_HEADERS)

    async def one_sentence(request: Request, error: Any) -> Response:
        service.metrics.ended("bad_request")  # it has reached none of the addresses' functions
        if isinstance(error, RequestValidationError):
            wrong = error.errors()[0]
            return problem(422, f"{wrong['loc'][-1]}: {wrong['msg']}; see /openapi.json")
        return problem(error.status_code, f"{error.detail}; see /openapi.json", error.headers)

    for kind in (404, 405, RequestValidationError):
        app.add_exception_handler(kind, one_sentence)
    return app
