"""The built-in sample: made once, the same everywhere, and never instead of a file."""

from brainage.cohorts.sample import is_sample, place_sample
from brainage.scans.volume import load_volume


def test_the_sample_is_one_head_that_is_written_once(tmp_path):
    path = place_sample(tmp_path)
    made = path.read_bytes()
    assert load_volume(path).spacing_mm == (2.0, 2.0, 2.0)
    path.write_bytes(b"kept")
    assert place_sample(tmp_path).read_bytes() == b"kept" != made


def test_a_file_of_that_name_comes_first(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert is_sample("sample") and not is_sample("other")
    (tmp_path / "sample").mkdir()
    assert not is_sample("sample")
