"""The application of one model: what it can be asked, its page, its figures, its health."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import jinja2
from fastapi import FastAPI
from fastapi.responses import HTMLResponse, PlainTextResponse

from conjoin import __version__
from conjoin.codecs.templates import Template
from conjoin.model.model import Model
from conjoin.model.saving import model_hash
from conjoin.questions.answers.prompts import continues_texts
from conjoin.serving.gate import Gate
from conjoin.serving.guard import Guard
from conjoin.serving.limits import Limits
from conjoin.serving.metrics import Metrics
from conjoin.serving.opening import model_of
from conjoin.serving.refusals import RefusalBody, handlers
from conjoin.serving.row_api import RowApi, row_routes
from conjoin.serving.talk import TextModel
from conjoin.serving.text_api import TextApi, text_routes

__all__ = ["create_app"]

PAGE = Path(__file__).with_name("page.html.j2")
PICTURE = "picture"  # the type of a column whose cells name files


def create_app(
    estimator: Any,
    name: str,
    *,
    limits: Limits | None = None,
    key: str | None = None,
    template: Template | None = None,
) -> Guard:
    """The ASGI application that answers for an estimator.

    Parameters
    ----------
    estimator
        A fitted JointClassifier, JointRegressor or JointDensity of a table or of texts.
    name
        How clients call the model.
    limits
        Of requests.
    key
        That clients must send, if any.
    template
        How a conversation reads as a text.

    Raises
    ------
    ValueError
        For a model of pictures, or of several targets.
    """
    model = _served(estimator)
    limits = limits or Limits()
    gate = Gate(limits)
    metrics = Metrics(gate)
    app = FastAPI(
        title=f"conjoin: {name}",
        version=__version__,
        docs_url=None,  # a page that would be fetched from elsewhere
        redoc_url=None,
        responses={"4XX": {"model": RefusalBody}},
        exception_handlers=handlers(),
        lifespan=_closing(gate),
        telemetry={"tracing": False, "metrics": False, "logs": False, "auto_configure": False},
    )
    app.include_router(row_routes(RowApi(estimator, limits, gate, metrics)))
    if continues_texts(model):
        known = model.answers
        usual = Template() if known is None else known.settings.conversation
        texts = TextModel(model, template or usual)
        fingerprint = model_hash(model)[:16]
        app.include_router(text_routes(TextApi(texts, name, limits, gate, metrics, fingerprint)))

    @app.get("/health", summary="Whether the server answers", tags=["server"])
    async def health() -> dict[str, str]:
        return {"status": "ok", "model": name}

    @app.get("/metrics", summary="Counts and seconds", tags=["server"])
    async def figures() -> PlainTextResponse:
        return PlainTextResponse(metrics.text(), media_type="text/plain; version=0.0.4")

    page = _page(app)

    @app.get("/docs", include_in_schema=False)
    async def docs() -> HTMLResponse:
        return HTMLResponse(page)

    return Guard(app, limits, gate, metrics, key)


def _served(estimator: Any) -> Model:
    """The model; ValueError where it can't be served."""
    model = model_of(estimator)
    types = {column.type for column in model.codec.schema.columns}
    if PICTURE in types or (not model.codec.columnwise and model.codec.wording is None):
        raise ValueError(
            "Models of tables and of texts are served, and this one is of pictures: ask it in "
            "Python or by the other commands."
        )
    return model


def _closing(gate: Gate) -> Any:
    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        gate.close()

    return lifespan


def _page(app: FastAPI) -> str:
    """What can be asked, read off the OpenAPI description: offline, without scripts."""
    described = app.openapi()
    environment = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    source = PAGE.read_text(encoding="utf-8")
    return environment.from_string(source).render(api=described, fields=_fields_of(described))


def _fields_of(described: dict[str, Any]) -> dict[str, Any]:
    """The fields of each body, by its name."""
    schemas = described.get("components", {}).get("schemas", {})
    return {
        f"#/components/schemas/{name}": {
            "required": schema.get("required", []),
            "fields": schema.get("properties", {}),
        }
        for name, schema in schemas.items()
    }
