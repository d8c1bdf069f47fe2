"""The worker: a function in a process of its own, its value, its errors and its end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import worker_entries
from artifacts import within

from enginery import EngineBuildError, EngineryError, errors, worker

# Where the entries are, in front of whatever path the tests themselves were given.
PATH = os.pathsep.join(filter(None, [str(Path(__file__).parent), os.environ.get("PYTHONPATH")]))


def run(entry: str, environment: dict[str, str] | None = None, **request: Any) -> Any:
    with within(60):
        return worker.run(
            f"worker_entries:{entry}",
            request,
            environment={"PYTHONPATH": PATH, **(environment or {})},
        )


def wait_for(condition: Callable[[], bool], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)


def alive(pid: int) -> bool:
    """Whether a process runs; one that is dead and not yet collected does not."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False
    return stat.rpartition(")")[2].split()[0] not in "ZX"


@pytest.mark.parametrize(
    "value",
    [None, True, 0, -(2**53), "ä\u2028\n\0", [], {}, {"a": [1, {"b": None}]}, "x" * 100_000],
)
def test_the_value_comes_back(value: Any) -> None:
    assert run("give_back", value=value) == value


def test_it_is_another_process_each_time() -> None:
    assert len({os.getpid(), run("process"), run("process")}) == 3


@pytest.mark.parametrize(
    "name",
    [
        "EngineryError",
        "EngineBuildError",
        "ElsewhereError",
        "InputChangedError",
        "CalibrationCacheError",
        "RuntimeUnavailableError",
        "CorpusError",
        "HostError",
        "IrregularFileError",
        "EngineIntegrityError",
        "Sha256SidecarError",
        "ProvenanceError",
        "SignatureError",
        "StoreError",
        "RemoteError",
        "FarmError",
    ],
)
def test_errors_come_back_as_themselves(name: str) -> None:
    with pytest.raises(EngineryError, match="what went wrong: ä\nand where") as raised:
        run("fail", error=name, message="what went wrong: ä\nand where")
    assert type(raised.value) is getattr(errors, name)
    assert str(raised.value) == "what went wrong: ä\nand where"


def test_a_spec_error_keeps_its_field() -> None:
    with pytest.raises(errors.BackboneSpecError, match="no such input") as raised:
        run("fail_with_field", message="no such input", field="input_name")
    assert raised.value.field == "input_name"


def test_every_error_of_ours_is_tried_here() -> None:
    ours = {
        name
        for name, value in vars(errors).items()
        if isinstance(value, type) and issubclass(value, EngineryError)
    }
    (mark,) = [
        mark
        for mark in test_errors_come_back_as_themselves.pytestmark  # type: ignore[attr-defined]
        if mark.name == "parametrize"
    ]
    assert ours == {*mark.args[1], "BackboneSpecError"}


@pytest.mark.parametrize(
    ("entry", "request_", "words"),
    [
        ("fail_unforeseen", {}, f"exit code 1: ZeroDivisionError: {worker_entries.WORDS}"),
        ("leave", {"code": 7}, f"exit code 7: {worker_entries.WORDS}"),
        ("leave", {"code": 0}, worker_entries.WORDS),
        ("leave_politely", {}, "process"),
        ("give_back_what_is_no_json", {}, "TypeError: Object of type set is not JSON"),
        ("no_such_entry", {}, "has no attribute 'no_such_entry'"),
        ("crash", {"signal": signal.SIGSEGV}, f"killed by SIGSEGV: {worker_entries.WORDS}"),
        ("crash", {"signal": signal.SIGKILL}, f"killed by SIGKILL: {worker_entries.WORDS}"),
        ("crash", {"signal": signal.SIGINT}, f"killed by SIGINT: {worker_entries.WORDS}"),
        ("crash", {"signal": signal.SIGRTMIN + 1}, f"killed by .*: {worker_entries.WORDS}"),
    ],
)
def test_what_was_not_foreseen_is_a_build_error_with_last_words(
    entry: str, request_: dict[str, Any], words: str
) -> None:
    with pytest.raises(EngineBuildError, match=words) as raised:
        run(entry, **request_)
    assert type(raised.value) is EngineBuildError
    assert "\n" not in str(raised.value)


def test_an_error_of_another_package_is_a_build_error_at_least() -> None:
    with pytest.raises(EngineBuildError, match=worker_entries.WORDS):
        run("fail_in_a_foreign_way")


def test_a_module_that_is_not_there() -> None:
    with pytest.raises(EngineBuildError, match="No module named 'no_such_module'"):
        worker.run("no_such_module:build", {}, environment={})


def test_prints_do_not_disturb_the_reply(capfd: pytest.CaptureFixture[str]) -> None:
    assert run("chatter") == "the reply"
    assert capfd.readouterr() == ("", "")


def test_settings_of_polygraphy_do_not_reach_the_child(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POLYGRAPHY_AUTOINSTALL_DEPS", "1")
    monkeypatch.setenv("POLYGRAPHY_ARRAY_SWAP_THRESHOLD_MB", "1")
    monkeypatch.setenv("ORDINARY", "kept")
    found = run("environment", {"POLYGRAPHY_USE_TENSORRT_RTX": "1"})
    assert found["ORDINARY"] == "kept"
    settings = {name: value for name, value in found.items() if name.startswith("POLYGRAPHY_")}
    assert settings == {"POLYGRAPHY_USE_TENSORRT_RTX": "1"}
    assert os.environ["POLYGRAPHY_AUTOINSTALL_DEPS"] == "1"


@pytest.mark.parametrize("module", ["onnx", "json", "colorsys"])
def test_a_users_module_in_the_working_directory_is_not_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: str
) -> None:
    (tmp_path / f"{module}.py").write_text("raise SystemExit('a file of the user was run')\n")
    monkeypatch.chdir(tmp_path)
    found = run("imported_file", module=module)
    assert Path(found).parent != tmp_path
    assert Path(found).exists()


def test_ctrl_c_ends_the_child_and_is_no_exception_in_it() -> None:
    assert run("interrupt_handling") is True


PARENT = """
import sys
from enginery import worker
worker.run(
    "worker_entries:linger", {"path": sys.argv[1]}, environment={"PYTHONPATH": sys.argv[2]}
)
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_the_child_ends_with_its_parent(tmp_path: Path, number: signal.Signals) -> None:
    told = tmp_path / "pid"
    with subprocess.Popen(
        [sys.executable, "-c", PARENT, told, PATH], stderr=subprocess.DEVNULL
    ) as parent:
        try:
            wait_for(told.exists)
            child = int(told.read_text())
            assert child != parent.pid
            assert alive(child)
            parent.send_signal(number)
            assert parent.wait(timeout=30) != 0
            wait_for(lambda: not alive(child))
        finally:
            parent.kill()


def test_an_exception_in_the_parent_ends_the_child(tmp_path: Path) -> None:
    """Ctrl-C reaches the parent as an exception while it waits."""
    told = tmp_path / "pid"

    class Interruption(BaseException):
        pass

    def interrupt(*_: object) -> None:
        if not told.exists():
            signal.setitimer(signal.ITIMER_REAL, 0.02)
            return
        raise Interruption

    previous = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, 0.02)
    try:
        with pytest.raises(Interruption):
            worker.run(
                "worker_entries:linger", {"path": str(told)}, environment={"PYTHONPATH": PATH}
            )
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)
    assert not alive(int(told.read_text()))


def test_nothing_stays_open() -> None:
    run("process")
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(3):
        run("process")
        with pytest.raises(EngineBuildError):
            run("leave", code=1)
    assert len(list(Path("/proc/self/fd").iterdir())) == before
