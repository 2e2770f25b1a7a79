"""The process of an entrant."""

import subprocess
import sys

PROGRAM = """
from pipelines.speed.single import _start_process

if __name__ == "__main__":
    lap = "import time; print('ready', flush=True); time.sleep(600)"
    _start_process().submit(exec, lap).result()
"""


def test_an_entrant_ends_in_its_lap_when_the_race_is_killed(tmp_path):
    script = tmp_path / "race.py"
    script.write_text(PROGRAM)
    race = subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE, text=True)
    assert race.stdout.readline() == "ready\n"
    race.kill()
    assert race.communicate(timeout=60)[0] == ""  # the entrant, too, has closed its output
