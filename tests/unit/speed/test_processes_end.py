"""The process of a candidate."""

import subprocess
import sys

PROGRAM = """
from pipelines.speed.benchmark import start_process

if __name__ == "__main__":
    run = "import time; print('ready', flush=True); time.sleep(600)"
    start_process().submit(exec, run).result()
"""


def test_a_candidate_ends_in_its_run_when_the_benchmark_is_killed(tmp_path):
    script = tmp_path / "benchmark.py"
    script.write_text(PROGRAM)
    process = subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "ready\n"
    process.kill()
    assert process.communicate(timeout=60)[0] == ""  # the candidate, too, has closed its output
