"""kill −9 at changes of files: a few of a training here, of every command when slow tests run.

The whole campaign: `python -m tools.faults.campaign`.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tools.faults.campaign import SLOW
from tools.faults.commands import COMMANDS, Inputs, build_inputs
from tools.faults.kills import strike, undisturbed
from tools.faults.others import FAULTS
from tools.faults.server import Server


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.close()


@pytest.fixture(scope="module")
def inputs(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Inputs:
    return build_inputs(server, tmp_path_factory.mktemp("faults") / "inputs")


@pytest.mark.slow
def test_training_killed_at_changes_of_files_goes_on_to_the_same_bits(
    server: Server, inputs: Inputs, tmp_path: Path
) -> None:
    command = COMMANDS["train, sequential"]
    reference = undisturbed(server, command, inputs, tmp_path, times=1)
    assert reference.direct == [], "files are written where others may take them for whole"
    step = -(-reference.changes // 10)
    for at in range(2, reference.changes, step):
        blow = strike(server, command, inputs, reference, tmp_path / str(at), at=at)
        assert blow is not None and blow.broken == [], f"killed before change {at}"


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in COMMANDS if name not in SLOW])
def test_command_killed_at_any_change_of_files_goes_on(
    name: str, server: Server, inputs: Inputs, tmp_path: Path
) -> None:
    command = COMMANDS[name]
    reference = undisturbed(server, command, inputs, tmp_path)
    assert reference.direct == []
    for at in range(1, reference.changes + 1, -(-reference.changes // 12)):
        blow = strike(server, command, inputs, reference, tmp_path / str(at), at=at)
        assert blow is not None and blow.broken == [], f"killed before change {at}"


@pytest.mark.slow
@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_other_faults_break_no_promise(
    fault: object, server: Server, inputs: Inputs, tmp_path: Path
) -> None:
    assert callable(fault)
    for finding in fault(server, inputs, tmp_path):
        assert finding.broken == [], f"{finding.fault}, {finding.command}"
