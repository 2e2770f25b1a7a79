"""The page's server: Streamlit behind `Guard`, the viewer's files, and the one `Service`."""

import os
import secrets
import weakref
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import lru_cache, partial
from pathlib import Path

import streamlit
import streamlit as st
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import Route
from streamlit import runtime

from brainage.serving.guard import Guard
from brainage.serving.memory import let_go_of_memory
from brainage.serving.model_list import find_models, get_champion
from brainage.serving.names import IMAGE, MAP
from brainage.serving.service import Job, Service
from brainage.serving.settings import ServerLimits
from brainage.types import Json
from page_parts.sessions import Sessions, keep_house, this_session

STATIC_PAGE = Path(streamlit.__file__).parent / "static" / "index.html"
NIIVUE = Path(__file__).with_name("viewer") / "niivue.umd.js"
# Set by `brainage app --orientation`.
ORIENTATION_VARIABLE = "BRAINAGE_ORIENTATION"
_served: "weakref.WeakValueDictionary[str, Job]" = weakref.WeakValueDictionary()


def streamlit_settings(host: str, port: int) -> dict[str, object]:
    """Return Streamlit's settings: quiet, bounded, no watcher, statistics or errors on the page."""
    return {
        "server.address": host,
        "server.port": port,
        "server.headless": True,
        "server.fileWatcherType": "none",
        "server.runOnSave": False,
        "server.maxUploadSize": ServerLimits().upload_mb,
        "server.enableXsrfProtection": True,
        # `Sessions` closes them long before Streamlit forgets them.
        "server.disconnectedSessionTTL": 600,
        "server.enableWebsocketCompression": False,
        "browser.gatherUsageStats": False,
        "client.showErrorDetails": "none",
        "client.toolbarMode": "minimal",
        "theme.base": "light",
        "theme.primaryColor": "#0072B2",
        "theme.textColor": "#222222",
        "theme.baseRadius": "small",
        "theme.headingFontSizes": ["2.4rem", "1.55rem", "1.2rem"],
        "logger.level": "warning",
    }


def orientation() -> str:
    """Side convention of every picture on the page and its reports."""
    chosen = os.environ.get(ORIENTATION_VARIABLE, "radiological")
    return chosen if chosen == "neurological" else "radiological"


def build_app(hosts: list[str]) -> st.App:
    """ASGI application."""
    limits = ServerLimits()
    return st.App(
        Path(__file__).parents[1] / "main.py",
        lifespan=_while_serving,
        middleware=[
            Middleware(Guard, hosts=hosts, limits=limits, stored=_stored, page=STATIC_PAGE)
        ],
        routes=[
            Route("/viewer/niivue.js", _niivue),
            Route("/viewer/{token}/{name}", _scan_file),
        ],
    )


def serve(host: str, port: int, hosts: list[str]) -> None:
    """Serve until Ctrl-C.

    Parameters
    ----------
    hosts : list of str
        Names by which browsers may call, besides local ones.
    """
    let_go_of_memory()
    app = build_app(hosts)
    get_champion().start()
    service = get_service()  # loads the model while the first page is opened
    try:
        app.run(config=streamlit_settings(host, port))
    finally:
        service.close()


@lru_cache(maxsize=1)
def get_service() -> Service:
    """Return this process's only service; its children load the first model ahead."""
    return Service(ServerLimits(), _first_model)


@lru_cache(maxsize=1)
def get_sessions() -> Sessions:
    """Return the sessions of this process."""
    return Sessions(ServerLimits().keep_s)


@asynccontextmanager
async def _while_serving(app: st.App) -> AsyncIterator[None]:
    async with keep_house(get_sessions()):
        yield


def _first_model() -> Path | None:
    models = find_models()
    return models[0].folder if models else None


def submit(content: bytes, argument: Json, task: str = "") -> Job:
    """Put a scan of the page that runs now in line, for as long as the page is there.

    Raises
    ------
    ServiceFullError
        If the line is too long.
    """
    session = this_session()
    alive: Callable[[], bool] = _always
    if session and runtime.exists():
        alive = partial(runtime.get_instance().is_active_session, session)
    job = get_service().submit(content, argument, alive, task)
    get_sessions().hold(session, job)
    return job


def _always() -> bool:
    return True


def publish(job: Job) -> str:
    """Secret address of a job's pictures, good for as long as the page keeps the job."""
    for token, known in _served.items():
        if known is job:
            return f"/viewer/{token}"
    token = secrets.token_urlsafe(24)
    _served[token] = job
    return f"/viewer/{token}"


def _stored(session: str) -> tuple[int, int]:
    if not runtime.exists():
        return 0, 0
    storage = getattr(runtime.get_instance().uploaded_file_mgr, "file_storage", {})
    files = list(storage.get(session, {}).values())
    return len(files), sum(len(file.data) for file in files)


async def _niivue(request: Request) -> Response:
    return FileResponse(NIIVUE, media_type="text/javascript")


async def _scan_file(request: Request) -> Response:
    job = _served.get(request.path_params["token"])
    name = request.path_params["name"]
    private = {"cache-control": "no-store"}
    if job is None:
        return Response("Not found.", status_code=404)
    if name in (IMAGE, MAP) and name in job.files:
        return Response(job.files[name], media_type="application/octet-stream", headers=private)
    if name == "fallback.html" and IMAGE in job.files:
        from brainage.serving.fallback import draw_fallback

        radiological = job.result["orientation"] == "radiological"
        scan, overlay = job.files[IMAGE], job.files.get(MAP)
        page = await run_in_threadpool(draw_fallback, scan, overlay, radiological)
        return Response(page, media_type="text/html", headers=private)
    return Response("Not found.", status_code=404)
