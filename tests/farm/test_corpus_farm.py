"""`[farm]` of corpus.toml, and the environment that goes first."""

from __future__ import annotations

from pathlib import Path

import pytest

from enginery.corpus import read_corpus
from enginery.errors import CorpusError
from enginery.farm_spec import FarmSpec
from enginery.jobs import engine_jobs

TLS = 'ca = "ca.pem"\ncert = "~/cert.pem"\nkey = "/etc/farm/key.pem"\n'


@pytest.fixture(autouse=True)
def _no_farm_of_the_user(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ENGINERY_FARM", raising=False)


def farm_of(folder: Path, table: str) -> FarmSpec | None:
    (folder / "corpus.toml").write_text(f"schema = 1\n{table}")
    return read_corpus(folder / "corpus.toml").farm


def test_no_table_is_no_farm(tmp_path: Path) -> None:
    assert farm_of(tmp_path, "") is None
    assert farm_of(tmp_path, "[farm]\nretries = 3\n") is None


def test_a_farm_with_tls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    table = f'[farm]\nscheduler = "tls://build.example.com:8786"\n{TLS}wait_for_worker = 5\nretries = 0\n'
    assert farm_of(tmp_path, table) == FarmSpec(
        scheduler="tls://build.example.com:8786",
        ca=tmp_path / "ca.pem",
        cert=Path("/home/me/cert.pem"),
        key=Path("/etc/farm/key.pem"),
        wait_for_worker=5.0,
        retries=0,
    )


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "localhost", "[::1]"])
def test_plain_on_this_machine(tmp_path: Path, host: str) -> None:
    spec = farm_of(tmp_path, f'[farm]\nscheduler = "tcp://{host}:8786"\n')
    assert spec == FarmSpec(scheduler=f"tcp://{host}:8786")
    assert (spec.wait_for_worker, spec.retries) == (60.0, 2)


def test_the_environment_goes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = '[farm]\nscheduler = "tcp://localhost:1"\n'
    monkeypatch.setenv("ENGINERY_FARM", "tcp://localhost:2")
    spec = farm_of(tmp_path, table)
    assert spec is not None
    assert spec.scheduler == "tcp://localhost:2"
    assert farm_of(tmp_path, "") == spec
    monkeypatch.setenv("ENGINERY_FARM", "off")
    assert farm_of(tmp_path, table) is None
    monkeypatch.setenv("ENGINERY_FARM", "")
    assert farm_of(tmp_path, table) == FarmSpec(scheduler="tcp://localhost:1")


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ('scheduler = "tcp://build.example.com:8786"', "farm.scheduler: 'tcp://build.example.com:8786' leads off this machine without TLS"),
        ('scheduler = "tcp://10.0.0.1:8786"', "leads off this machine without TLS"),
        ('scheduler = "tls://build.example.com:8786"', "farm.ca: tls://build.example.com:8786 needs ca, cert and key, and ca and cert and key are missing"),
        ('scheduler = "tls://localhost:1"\nca = "ca.pem"\nkey = "key.pem"', "farm.cert: tls://localhost:1 needs ca, cert and key, and cert is missing"),
        ('scheduler = "build.example.com"', "is no address of a scheduler; write one such as"),
        ('scheduler = "tls://host:99999"', "is no address of a scheduler"),
        ('scheduler = "tls://user@host:1"', "is no address of a scheduler"),
        ("scheduler = 3", "farm.scheduler: expected"),
        ("retries = -1", "farm.retries: expected"),
        ("wait_for_worker = -1", "write for example wait_for_worker = 60"),
        ('shceduler = "x"', "did you mean 'scheduler'?"),
    ],
)  # fmt: skip
def test_mistakes(tmp_path: Path, table: str, words: str) -> None:
    with pytest.raises(CorpusError) as raised:
        farm_of(tmp_path, f"[farm]\n{table}\n")
    message = str(raised.value)
    assert message.startswith(f"{tmp_path / 'corpus.toml'}: ")
    assert words in message
    assert "\n" not in message


def test_a_mistake_in_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ENGINERY_FARM", "tcp://build.example.com:8786")
    with pytest.raises(CorpusError, match=r"farm\.scheduler: ENGINERY_FARM, 'tcp://"):
        farm_of(tmp_path, "")


def test_every_engine_knows_it(tmp_path: Path) -> None:
    spec = farm_of(
        tmp_path,
        '[farm]\nscheduler = "tcp://localhost:1"\n[targets.rtx]\nruntime = "tensorrt_rtx"\nsm = 86\n'
        '[backbones.plain]\nonnx = "plain.onnx"\nexpected_input_shape = [1, 3]\ntargets = ["rtx"]\n',
    )
    (job,) = engine_jobs(read_corpus(tmp_path / "corpus.toml"))
    assert job.farm == spec
