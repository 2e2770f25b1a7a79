"""Public cohorts from a local stand-in: resumed, checked, laid out, and never guessed."""

import gzip
import hashlib
import io
import tarfile
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from brainage.cli.main import app
from brainage.cohorts.cohort import read_cohort
from brainage.cohorts.public import COHORTS, fetch_cohort
from brainage.download import download
from brainage.errors import CohortError, DownloadError


class RangeHandler(SimpleHTTPRequestHandler):
    """A file server that knows ranges, and can break off after some bytes."""

    break_after = 10**9
    ranges: ClassVar[list[str]]

    def do_GET(self) -> None:
        path = Path(self.translate_path(self.path))
        if not path.is_file():
            self.send_error(404)
            return
        content, asked = path.read_bytes(), self.headers.get("Range", "")
        type(self).ranges.append(asked)
        start = int(asked.removeprefix("bytes=").rstrip("-") or 0)
        if start >= len(content):
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(content)}")
            self.end_headers()
            return
        self.send_response(206 if asked else 200)
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        self.wfile.write(content[start : start + self.break_after])

    def log_message(self, *_: object) -> None:
        return


@pytest.fixture
def handler(tmp_path: Path) -> Iterator[type[RangeHandler]]:
    class Own(RangeHandler):
        ranges: ClassVar[list[str]] = []
        url = ""

    (tmp_path / "www").mkdir()
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Own, directory=str(tmp_path / "www")))
    Own.url = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield Own
    server.shutdown()


def add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    archive.addfile(member, io.BytesIO(content))


def nifti() -> bytes:
    data = np.random.default_rng(0).integers(0, 99, (8, 9, 10)).astype(np.int16)
    return gzip.compress(nib.Nifti1Image(data, np.eye(4)).to_bytes(), mtime=0)


@pytest.fixture
def ixi(tmp_path: Path, handler) -> str:
    import xlwt

    with tarfile.open(tmp_path / "www" / "IXI-T1.tar", "w") as archive:
        for number, site in ((2, "Guys"), (12, "HH"), (13, "HH"), (14, "IOP")):
            add(archive, f"IXI{number:03d}-{site}-0828-T1.nii.gz", nifti())
        add(archive, "../../IXI099-HH-1-T1.nii.gz.exe", b"evil")
    book = xlwt.Workbook()
    sheet = book.add_sheet("Table")
    rows = [
        ["IXI_ID", "SEX_ID (1=m, 2=f)", "DOB", "AGE"],
        [2, 2, "1969-12-01", 35.8001],
        [12, 1, "1966-08-20", 38.78],
        [12, 1, "1966-08-20", 41.2],
        [13, 1, "1958-09-15", ""],
        [14, 2, "1971-03-15", 34.24],
        [14, 2, "1971-03-15", 34.24],
    ]
    for i, row in enumerate(rows):
        for j, cell in enumerate(row):
            sheet.write(i, j, cell)
    book.save(str(tmp_path / "www" / "IXI.xls"))
    return handler.url


def test_ixi_becomes_bids_and_two_ages_of_one_person_are_listed_not_guessed(ixi, tmp_path):
    report = fetch_cohort(COHORTS["ixi"], tmp_path / "ixi", base_url=ixi)
    people = pd.read_csv(tmp_path / "ixi" / "participants.tsv", sep="\t", keep_default_na=False)
    assert people.to_numpy().tolist() == [
        ["sub-IXI002", "35.8", "F", "Guys"],
        ["sub-IXI012", "n/a", "M", "HH"],
        ["sub-IXI013", "n/a", "M", "HH"],
        ["sub-IXI014", "34.24", "F", "IOP"],
    ]
    assert report.conflicts == ["sub-IXI012: age is 38.78 and 41.2"]
    assert [entry.verdict for entry in report.entries] == ["ok", "flagged", "flagged", "ok"]
    assert "two ages: 38.78 and 41.2" in report.entries[1].reason
    cohort = read_cohort(tmp_path / "ixi", skip_bad=True).cohort
    assert cohort.table["subject_id"].tolist() == ["sub-IXI002", "sub-IXI014"]
    assert not any("1966" in path.read_text() for path in (tmp_path / "ixi").glob("*.*s*"))
    assert not list(tmp_path.rglob("*.exe"))


def test_oasis1_becomes_bids_with_its_axes_and_sessions(handler, tmp_path, monkeypatch):
    data = np.random.default_rng(1).integers(0, 999, (8, 9, 10)).astype(np.int16)
    image = nib.AnalyzeImage(data, None)
    image.header.set_zooms((1.0, 1.25, 1.5))
    files = nib.AnalyzeImage.make_file_map()
    for holder in files.values():
        holder.fileobj = io.BytesIO()
    image.to_file_map(files)
    parts = {"hdr": files["header"].fileobj.getvalue(), "img": files["image"].fileobj.getvalue()}
    with tarfile.open(tmp_path / "www" / "disc.tar.gz", "w:gz") as archive:
        for visit in ("MR1", "MR2"):
            for end, content in parts.items():
                name = f"OAS1_0061_{visit}_mpr_n4_anon_sbj_111.{end}"
                add(archive, f"disc1/OAS1_0061_{visit}/PROCESSED/{name}", content)
    (tmp_path / "www" / "oasis_cross-sectional.csv").write_text(
        "ID,M/F,Hand,Age,Educ,SES,MMSE,CDR,eTIV,nWBV,ASF,Delay\n"
        "OAS1_0061_MR1,F,R,20,,,,,1500,0.85,1.1,N/A\n"
        "OAS1_0061_MR2,F,R,21,,,30,0,1500,0.85,1.1,40\n"
    )
    from dataclasses import replace

    small = replace(COHORTS["oasis1"], archives=("disc.tar.gz",))
    report = fetch_cohort(small, tmp_path / "oasis", base_url=handler.url)
    assert [entry.scan_id for entry in report.entries] == [
        "sub-OAS10061_ses-MR1",
        "sub-OAS10061_ses-MR2",
    ]
    table = read_cohort(tmp_path / "oasis").cohort.table
    assert table["age_years"].tolist() == [20.0, 21.0] and table["CDR"].isna().tolist()[0]
    written = nib.load(table["path"][0])
    assert nib.aff2axcodes(written.affine) == ("A", "S", "L")
    assert np.array_equal(np.asarray(written.dataobj), data)
    assert written.header.get_zooms() == (1.0, 1.25, 1.5)


def test_a_download_goes_on_where_it_broke_off(handler, tmp_path):
    content = bytes(range(256)) * 40
    (tmp_path / "www" / "file").write_bytes(content)
    handler.break_after = 6000
    target = tmp_path / "got" / "file"
    with pytest.raises(DownloadError, match="goes on where it stopped"):
        download(f"{handler.url}/file", target)
    assert not target.exists()
    handler.break_after = 10**9
    seen: list[tuple[int, int]] = []
    download(f"{handler.url}/file", target, on_progress=lambda *now: seen.append(now))
    assert target.read_bytes() == content
    assert handler.ranges == ["", "bytes=6000-"] and seen == [(10240, 10240)]
    download(f"{handler.url}/file", target)
    assert len(handler.ranges) == 2


def test_a_part_that_is_already_whole_counts(handler, tmp_path):
    (tmp_path / "www" / "file").write_bytes(b"whole")
    (tmp_path / "file.part").write_bytes(b"whole")
    checksum = f"sha256:{hashlib.sha256(b'whole').hexdigest()}"
    download(f"{handler.url}/file", tmp_path / "file", checksum=checksum)
    assert (tmp_path / "file").read_bytes() == b"whole"


def test_a_part_that_is_longer_than_the_source_is_forgotten(handler, tmp_path):
    (tmp_path / "www" / "file").write_bytes(b"whole")
    (tmp_path / "file.part").write_bytes(b"whole and more")
    with pytest.raises(DownloadError, match="more than the server has"):
        download(f"{handler.url}/file", tmp_path / "file")
    download(f"{handler.url}/file", tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == b"whole"


def test_another_checksum_is_refused_and_the_part_forgotten(handler, tmp_path):
    (tmp_path / "www" / "file").write_bytes(b"forged")
    with pytest.raises(DownloadError, match="expected SHA256 00"):
        download(f"{handler.url}/file", tmp_path / "file", checksum="sha256:00")
    assert not list(tmp_path.glob("file*"))


@pytest.mark.parametrize("url", ["file:///etc/passwd", "http://127.0.0.1:9/x", "nonsense"])
def test_other_addresses_are_one_line(url, tmp_path):
    with pytest.raises(DownloadError, match="cannot be downloaded"):
        download(url, tmp_path / "file")


def test_damaged_sources_are_one_line(ixi, tmp_path):
    (tmp_path / "www" / "IXI.xls").write_bytes(b"no workbook")
    with pytest.raises(CohortError, match="is not the IXI spreadsheet"):
        fetch_cohort(COHORTS["ixi"], tmp_path / "a", base_url=ixi)


def test_the_command_shows_size_and_terms_and_asks_for_yes(ixi, tmp_path):
    arguments = ["fetch", "ixi", "--output", str(tmp_path / "out"), "--base-url", ixi]
    asked = CliRunner().invoke(app, arguments)
    assert asked.exit_code == 2 and not (tmp_path / "out").exists()
    done = CliRunner().invoke(app, [*arguments, "--yes"])
    assert done.exit_code == 0 and (tmp_path / "out" / "participants.tsv").exists()
