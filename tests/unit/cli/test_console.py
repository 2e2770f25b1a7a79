"""What ends a command from outside: one line, and the exit code that says which."""

import os
import signal
import subprocess
import sys

import pytest
import typer

from brainage.cli.main import app
from brainage.cli.start import main
from brainage.errors import ConfigError
from brainage.workflows.console import clear_errors, run_as_command, say


@pytest.fixture(autouse=True)
def own_handler():
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    # A shell that starts tests in the background has them ignore it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["SIGINT", "SIGTERM"]
)
def test_signals_end_a_command_in_one_line(number, code, capfd):
    with pytest.raises(typer.Exit) as ended, clear_errors(debug=False):
        os.kill(os.getpid(), number)
    assert ended.value.exit_code == code
    assert capfd.readouterr().err == "interrupted; nothing finished is lost.\n"


@pytest.mark.parametrize(
    "ending",
    [
        "    try: strike()\n    except KeyboardInterrupt: strike()\n    finally: os._exit(1)",
        "    atexit.register(strike); strike()",
    ],
    ids=["while ending", "at exit"],
)
def test_a_second_interrupt_ends_at_once_in_the_same_line(ending):
    program = (
        "import atexit, os, signal, typer\nfrom brainage.workflows.console import clear_errors\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "def strike(): os.kill(os.getpid(), signal.SIGINT)\n"
        "def run():\n  with clear_errors(debug=False):\n" + ending + "\ntyper.run(run)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 130
    assert done.stderr == "interrupted; nothing finished is lost.\n"


def test_the_main_function_of_a_module_talks_and_ends_like_a_command(capfd):
    def fail():
        say("begun")
        raise ConfigError("--plan", "'x' is not known.", "Take largest.")

    assert run_as_command(lambda: say("done")) == 0
    assert run_as_command(fail) == 2
    say("silent again")
    told = capfd.readouterr()
    assert told.out == "done\nbegun\n"
    assert told.err == "error: --plan: 'x' is not known. Take largest.\n"


def test_an_ignored_interrupt_stays_ignored():
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with clear_errors(debug=False):
        os.kill(os.getpid(), signal.SIGINT)


def test_an_interrupt_before_anything_is_loaded_is_one_line(monkeypatch, capfd):
    class Interrupted:
        def find_spec(self, name, *_):
            if name == "brainage.cli.main":
                raise KeyboardInterrupt

    monkeypatch.delitem(sys.modules, "brainage.cli.main")
    monkeypatch.setattr(sys, "meta_path", [Interrupted()])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 130
    assert capfd.readouterr().err == "interrupted; nothing was begun.\n"


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError(28, "No space left on device", "/full/a.csv"), "/full/a.csv: No space left"),
        (FileNotFoundError(2, "No usable temporary directory found"), "No usable temporary"),
        (MemoryError(), "not enough memory"),
    ],
)
def test_errors_of_the_system_are_one_line_and_code_2(error, words, capfd):
    with pytest.raises(typer.Exit) as ended, clear_errors(debug=False):
        raise error
    assert ended.value.exit_code == 2
    message = capfd.readouterr().err
    assert words in message and message.count("\n") == 1


def test_debug_lets_errors_of_the_system_through():
    with pytest.raises(PermissionError), clear_errors(debug=True):
        raise PermissionError(13, "Permission denied", "x")


def test_a_terminal_without_unicode_ends_no_command():
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    command = [sys.executable, "-m", "brainage.cli.main", "presets"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0 and "cnn3d_light" in done.stdout and done.stderr == ""


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["train"], "Missing option '--cohort'. See brainage train --help."),
        (["train", "--flods", "5"], "No such option: --flods"),
        (["trian"], "No such command 'trian'. Did you mean 'train'? See brainage --help."),
        (["phantoms", "--output", "x", "--subjects", "many"], "Invalid value for '--subjects'"),
        (["report", "a.nii", "b.nii", "--output", "x"], "(b.nii)"),
    ],
)
def test_a_wrong_command_line_is_one_line_and_code_2(words, told, capfd):
    with pytest.raises(SystemExit) as ended:
        app(words, prog_name="brainage")
    message = capfd.readouterr().err
    assert ended.value.code == 2 and message.startswith("error: ") and message.count("\n") == 1
    assert told in message
