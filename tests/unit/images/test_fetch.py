"""Downloads, from a server on this machine only."""

import hashlib
import http.server
import io
import socket
import tarfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from brainage.errors import ConfigError, DownloadError, ImageDataError
from brainage.images.fetch import RemoteFile, fetch_dataset

CONTENT = bytes(range(256)) * 4000


@dataclass
class Server:
    """What is served, and what was asked for."""

    files: dict[str, bytes]
    cut_after: int | None = None
    knows_ranges: bool = True
    ranges: list[str | None] = field(default_factory=list)
    url: str = ""

    def source(self, name: str) -> RemoteFile:
        md5 = hashlib.md5(self.files[name], usedforsecurity=False).hexdigest()
        return RemoteFile(f"{self.url}/{name}", md5)


@pytest.fixture
def server() -> Iterator[Server]:
    state = Server({"data.bin-ubyte.gz": CONTENT})

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked = self.headers.get("Range")
            state.ranges.append(asked)
            content, start = state.files[self.path[1:]], 0
            if asked and state.knows_ranges:
                start = int(asked.removeprefix("bytes=").rstrip("-"))
            if start and start >= len(content):
                self.send_error(416)
                return
            self.send_response(206 if start else 200)
            self.send_header("Content-Length", str(len(content) - start))
            self.end_headers()
            self.wfile.write(content[start : state.cut_after])

        def log_message(self, *arguments: object) -> None:
            """Say nothing."""

    httpd = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    state.url = f"http://127.0.0.1:{httpd.server_port}"
    thread = threading.Thread(target=httpd.serve_forever, daemon=True)
    thread.start()
    yield state
    httpd.shutdown()
    httpd.server_close()


def test_a_file_is_downloaded_once_and_checked(server, tmp_path):
    sources = {"x": (server.source("data.bin-ubyte.gz"),)}
    seen: list[tuple[int, int]] = []
    folder = fetch_dataset("x", tmp_path, sources=sources, on_progress=lambda *a: seen.append(a))
    fetch_dataset("x", tmp_path, sources=sources)
    assert (folder / "data.bin-ubyte.gz").read_bytes() == CONTENT
    assert len(server.ranges) == 1 and seen[-1] == (len(CONTENT), len(CONTENT))


@pytest.mark.parametrize("knows_ranges", [True, False])
def test_a_broken_download_goes_on_where_it_stopped(server, tmp_path, knows_ranges):
    sources = {"x": (server.source("data.bin-ubyte.gz"),)}
    server.cut_after, server.knows_ranges = 300_000, knows_ranges
    with pytest.raises(DownloadError, match="300000 bytes are kept"):
        fetch_dataset("x", tmp_path, sources=sources)
    server.cut_after = None
    folder = fetch_dataset("x", tmp_path, sources=sources)
    assert server.ranges == [None, "bytes=300000-"]
    assert (folder / "data.bin-ubyte.gz").read_bytes() == CONTENT


def test_a_wrong_digest_is_refused_and_the_file_deleted(server, tmp_path):
    wrong = RemoteFile(f"{server.url}/data.bin-ubyte.gz", "0" * 32)
    with pytest.raises(DownloadError, match="expected MD5 0000"):
        fetch_dataset("x", tmp_path, sources={"x": (wrong,)})
    assert not list((tmp_path / "x").iterdir())


def test_a_damaged_file_on_disk_is_downloaded_anew(server, tmp_path):
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "data.bin-ubyte.gz").write_bytes(b"damaged")
    sources = {"x": (server.source("data.bin-ubyte.gz"),)}
    folder = fetch_dataset("x", tmp_path, sources=sources)
    assert (folder / "data.bin-ubyte.gz").read_bytes() == CONTENT


def test_a_part_that_is_whole_is_left_to_the_digest(server, tmp_path):
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "data.bin-ubyte.gz.part").write_bytes(CONTENT)
    folder = fetch_dataset("x", tmp_path, sources={"x": (server.source("data.bin-ubyte.gz"),)})
    assert (folder / "data.bin-ubyte.gz").read_bytes() == CONTENT


def test_a_server_that_talks_nonsense_is_one_line(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            connection, _ = listener.accept()
            connection.sendall(b"nonsense\r\n\r\n")
            connection.close()

        threading.Thread(target=answer, daemon=True).start()
        gone = RemoteFile(f"http://127.0.0.1:{listener.getsockname()[1]}/x.gz", "0" * 32)
        with pytest.raises(DownloadError, match="cannot be downloaded"):
            fetch_dataset("x", tmp_path, sources={"x": (gone,)})


def make_tar(name: str) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as tar:
        member = tarfile.TarInfo(name)
        member.size = 4
        tar.addfile(member, io.BytesIO(b"data"))
    return stream.getvalue()


def test_an_archive_is_unpacked(server, tmp_path):
    server.files["a.tar.gz"] = make_tar("inner/file.bin")
    folder = fetch_dataset("x", tmp_path, sources={"x": (server.source("a.tar.gz"),)})
    assert (folder / "inner" / "file.bin").read_bytes() == b"data"


def test_an_archive_that_writes_outside_its_folder_is_refused(server, tmp_path):
    server.files["a.tar.gz"] = make_tar("../outside.bin")
    with pytest.raises(ImageDataError, match="cannot be unpacked"):
        fetch_dataset("x", tmp_path, sources={"x": (server.source("a.tar.gz"),)})
    assert not (tmp_path / "outside.bin").exists()


def test_no_server_is_one_line(tmp_path):
    gone = RemoteFile("http://127.0.0.1:9/x.gz", "0" * 32)
    with pytest.raises(DownloadError, match="cannot be downloaded") as caught:
        fetch_dataset("x", tmp_path, sources={"x": (gone,)})
    assert "\n" not in str(caught.value)


def test_unknown_name_is_refused_with_the_known_ones(tmp_path):
    with pytest.raises(ConfigError, match="cifar10, cifar100, fashion_mnist, mnist, tiny_imagenet"):
        fetch_dataset("imagenet", tmp_path)
