"""ENGINERY_HOST and the [host] table: what they say and what is said of mistakes in them."""

from __future__ import annotations

import msgspec
import pytest

from enginery.errors import HostError
from enginery.probing import DeclaredHost, cpu, probe


def from_environment(monkeypatch: pytest.MonkeyPatch, text: str) -> str:
    monkeypatch.setenv("ENGINERY_HOST", text)
    with pytest.raises(HostError) as error:
        probe()
    return str(error.value)


@pytest.mark.parametrize(
    "text", ["sm=87 jetpack=6.2 trt=10.3.0.30", " sm=87,jetpack=6.2, trt=10.3.0.30\n"]
)
def test_environment_declares_a_host(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("ENGINERY_HOST", text)
    host = probe()
    assert (host.source, host.sms, host.jetpack, host.trt) == (
        "ENGINERY_HOST",
        (87,),
        "6.2",
        "10.3.0.30",
    )
    assert host.cpu == cpu.level()
    assert host.remarks == ()
    assert str(host) == "SM 8.7, JetPack 6.2, TensorRT 10.3.0.30, as ENGINERY_HOST declares it"


def test_environment_comes_before_the_table_and_the_table_before_the_machine(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    table = DeclaredHost(sm=110, jetpack="7.1", cpu="aarch64-sve")
    monkeypatch.setenv("ENGINERY_HOST", "sm=90")
    assert probe(table).sms == (90,)
    monkeypatch.setenv("ENGINERY_HOST", " ")
    assert (probe(table).source, probe(table).sms, probe(table).cpu) == (
        "[host]",
        (110,),
        "aarch64-sve",
    )
    monkeypatch.delenv("ENGINERY_HOST")
    assert probe().source == "probed"


def test_several_gpus_keep_their_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ENGINERY_HOST", "sm=89+86+89")
    host = probe()
    assert [gpu.sm for gpu in host.gpus] == [89, 86, 89]
    assert host.sm() == 89


def test_a_host_without_sm_has_no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ENGINERY_HOST", "cpu=x86-64-v3")
    assert probe().gpus == ()
    assert probe().cpu == "x86-64-v3"


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("orin", "'orin' is none of sm=, jetpack=, trt=, cpu="),
        ("gpu=87", "'gpu=87' is none of sm=, jetpack=, trt=, cpu="),
        ("sm=8.7", "sm '8.7' is no compute capability; write 87 for 8.7, 86+89 for two"),
        ("sm=5", "sm '5' is no compute capability"),
        ("sm=", "sm '' is no compute capability"),
        ("sm=07", "7 is no compute capability; write 86 for 8.6"),
        ("sm=87 sm=89", "sm is given twice; write several as sm=86+89"),
        ("jetpack=6", "jetpack '6' is not a JetPack version such as 6.2"),
        ("trt=10.3", "trt '10.3' is not a TensorRT version such as 10.3.0.30"),
        ("trt=", "trt '' is not a TensorRT version"),
        ("cpu=x86_64", "cpu 'x86_64' is not a CPU level such as x86-64-v3"),
        (",", "nothing is declared; write at least one of sm, jetpack, trt, cpu"),
    ],
)
def test_a_mistake_is_one_line_with_an_example(
    monkeypatch: pytest.MonkeyPatch, text: str, fault: str
) -> None:
    message = from_environment(monkeypatch, text)
    assert message.startswith(f"ENGINERY_HOST={text!r}: {fault}")
    assert message.endswith("; for example ENGINERY_HOST='sm=87 jetpack=6.2 trt=10.3.0.30'")
    assert "\n" not in message
    assert "$" not in message


@pytest.mark.parametrize(
    ("table", "fault"),
    [
        ({}, "nothing is declared"),
        ({"sm": []}, "no compute capability is given"),
        ({"sm": [87, 8]}, "8 is no compute capability"),
        ({"sm": "87"}, "Expected `int | array | null`, got `str`"),
        ({"sm": 87, "gpu": 1}, "unknown field `gpu`"),
        ({"jetpack": 6.2}, "Expected `str | null`, got `float`"),
    ],
)
def test_the_table_is_read_strictly(table: dict[str, object], fault: str) -> None:
    with pytest.raises(
        msgspec.ValidationError, match=fault.replace("|", r"\|").replace("[", r"\[")
    ):
        msgspec.convert(table, DeclaredHost)


def test_the_table_takes_a_list_as_toml_has_it() -> None:
    assert msgspec.convert({"sm": [86, 89]}, DeclaredHost).capabilities == (86, 89)
    assert msgspec.convert({"sm": 87}, DeclaredHost).capabilities == (87,)
    assert hash(msgspec.convert({"sm": [86, 89]}, DeclaredHost))
