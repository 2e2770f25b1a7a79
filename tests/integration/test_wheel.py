"""What a wheel holds, and that commands work where packages of the same names lie around."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# Without the tests' network guard: installing is what may ask other machines.
UNGUARDED = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}


@pytest.mark.slow
def test_a_wheel_holds_one_package_with_its_data(tmp_path):
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "-w", tmp_path, ROOT]
    subprocess.run(command, check=True, capture_output=True, env=UNGUARDED, cwd=tmp_path)
    (wheel,) = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.split("/")[0] for name in names}
    assert sorted(top.partition("-")[0] for top in tops) == ["brainage", "brainage"]
    assert {
        "brainage/py.typed",
        "brainage/_app/serve.py",
        "brainage/_app/pages/scan.py",
        "brainage/_configs/brain_age/cnn3d_light.yaml",
        "brainage/model/zoo/oasis1/manifest.json",
    } <= set(names)


@pytest.mark.parametrize(
    "way", [["-m", "brainage"], ["-c", "from brainage.cli.start import main; main()"]]
)
def test_foreign_packages_of_our_folders_names_change_nothing(way, tmp_path):
    for name in ("app", "pipelines", "page_parts"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise SystemExit('foreign')")
    path = os.pathsep.join([".", str(ROOT)])
    done = subprocess.run(
        [sys.executable, *way, "--version"],
        cwd=tmp_path, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0 and done.stdout.startswith("brainage ")
