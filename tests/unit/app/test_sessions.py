"""Sessions whose page is gone, with a clock of our own."""

from pathlib import Path

from brainage.serving.service import Job
from page_parts.sessions import Sessions


class Pages:
    def __init__(self, *there):
        self.there, self.closed = set(there), []

    def is_active_session(self, session_id):
        return session_id in self.there

    def close_session(self, session_id):
        self.closed.append(session_id)


def test_session_is_closed_once_its_page_has_been_gone_for_long_enough():
    sessions, pages = Sessions(keep_s=30.0), Pages("a", "b")
    sessions.note("a")
    sessions.note("b")
    pages.there.remove("a")
    assert [sessions.close_left(pages, now) for now in (0.0, 29.0, 30.0, 90.0)] == [0, 0, 1, 0]
    assert pages.closed == ["a"]


def test_page_that_comes_back_in_time_keeps_its_session():
    sessions, pages = Sessions(keep_s=30.0), Pages()
    sessions.note("a")
    sessions.close_left(pages, 0.0)
    pages.there.add("a")
    sessions.close_left(pages, 20.0)
    pages.there.remove("a")
    sessions.close_left(pages, 40.0)
    assert sessions.close_left(pages, 69.0) == 0 and sessions.close_left(pages, 70.0) == 1


def test_closed_session_leaves_nothing_of_its_scans_even_if_something_holds_them():
    sessions, pages = Sessions(keep_s=0.0), Pages()
    job = Job(Path("none"), {}, lambda: True, shown="a.nii", result={"a": 1}, files={"b": b"c"})
    sessions.note("a")
    sessions.hold("a", job)
    sessions.close_left(pages, 0.0)
    assert job.files
    sessions.close_left(pages, 1.0)
    assert not (job.files or job.result or job.shown)
