"""Sessions whose page is gone are closed, and what they held goes back to the system.

Streamlit keeps a session for a while, for a page that may come back. Then it forgets the session,
but deletes nothing until another page goes; reports that could be downloaded it deletes one closed
page later still, and its loop holds on to the last session. So uploads and results of the last
people would stay. The server closes sessions itself, before Streamlit forgets them.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator
from typing import Protocol
from weakref import WeakSet

import streamlit as st
from starlette.concurrency import run_in_threadpool
from streamlit import runtime

from brainage.serving.memory import give_back_memory

LOOK_EVERY_S = 2.0
_LOG = logging.getLogger(__name__)


class Content(Protocol):
    """What a session holds beyond Streamlit's own: its jobs."""

    def forget(self) -> None:
        """Drop what is known of the scan."""


class Pages(Protocol):
    """What is asked of Streamlit's runtime."""

    def is_active_session(self, session_id: str) -> bool:
        """Whether the session's page is open."""

    def close_session(self, session_id: str) -> None:
        """Delete a session and its uploads."""


class Sessions:
    """Sessions that have a page, or had one until a moment ago.

    Parameters
    ----------
    keep_s : float
        How long a session waits for its page to come back.
    """

    def __init__(self, keep_s: float) -> None:
        self._keep_s = keep_s
        self._left: dict[str, float | None] = {}
        self._held: dict[str, WeakSet[Content]] = {}

    def note(self, session_id: str) -> None:
        """Note that a page of this session is being drawn."""
        self._left[session_id] = None

    def hold(self, session_id: str, content: Content) -> None:
        """Hold a session until it is closed."""
        self._held.setdefault(session_id, WeakSet()).add(content)

    def close_left(self, pages: Pages, now: float) -> int:
        """Close sessions whose page has been gone for long enough; how many they were."""
        closed = 0
        for session_id, left in list(self._left.items()):
            if pages.is_active_session(session_id):
                self._left[session_id] = None
            elif left is None:
                self._left[session_id] = now
            elif now - left >= self._keep_s:
                del self._left[session_id]
                for content in self._held.pop(session_id, ()):
                    content.forget()
                pages.close_session(session_id)
                closed += 1
        return closed


def this_session() -> str:
    """Session of the page that is being drawn now; empty where there is no server."""
    context = st.runtime.scriptrunner.get_script_run_ctx()
    return "" if context is None else context.session_id


@contextlib.asynccontextmanager
async def keep_house(sessions: Sessions) -> AsyncIterator[None]:
    """Close left sessions for as long as the server runs."""
    task = asyncio.create_task(_keep_house(sessions))
    try:
        yield
    finally:
        task.cancel()


async def _keep_house(sessions: Sessions) -> None:
    # On the event loop, where alone sessions may be closed.
    while True:
        await asyncio.sleep(LOOK_EVERY_S)
        try:
            if sessions.close_left(runtime.get_instance(), time.monotonic()):
                # Closing has only marked the reports.
                runtime.get_instance().media_file_mgr.remove_orphaned_files()
                await run_in_threadpool(give_back_memory)
        except Exception:  # one that cannot be closed must not keep all others open
            _LOG.exception("a session could not be closed")
