"""Optional packages: what is missing is one line that says how to get it."""

import pytest

from brainage.errors import MissingExtraError
from brainage.extras import require


def test_a_missing_package_names_the_extra_that_brings_it():
    with pytest.raises(MissingExtraError, match=r"pip install 'brainage\[cluster\]'") as caught:
        require("no_such_package_here.part", "cluster")
    assert caught.value.where == "no_such_package_here"


def test_a_package_that_lacks_one_of_its_own_is_no_missing_extra(tmp_path, monkeypatch):
    (tmp_path / "broken_package.py").write_text("import no_such_package_here\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="no_such_package_here"):
        require("broken_package", "cluster")
