"""Hardware tags: what hosts offer is what targets ask for."""

from __future__ import annotations

from dataclasses import replace

import pytest
from farms import RTX, RTX_TARGET, RTX_VERSION

from enginery.errors import EngineryError
from enginery.farm.tags import check_tag, offered, resource_of
from enginery.hardware import HostCapabilities
from enginery.host import Gpu, Host
from enginery.runtimes import load_runtime
from enginery.runtimes.protocol import platform_here

TENSORRT = load_runtime("tensorrt")


def host(*sms: int, jetpack: str | None = None, trt: str | None = None) -> Host:
    gpus = tuple(Gpu(index=index, name="GPU", sm=sm) for index, sm in enumerate(sms))
    return Host(source="declared", cpu="x86-64-v3", gpus=gpus, jetpack=jetpack, trt=trt)


def test_a_host_without_a_gpu() -> None:
    offer = offered(host())
    runtime = load_runtime("onnxruntime")
    cpu = HostCapabilities((), None, runtime.installed_version(), "x86-64-v3")
    assert set(offer.tags) == {RTX, resource_of(runtime, cpu)}
    assert "tensorrt is not offered: this host has no GPU" in offer.remarks


def test_a_jetson() -> None:
    orin = HostCapabilities(87, "6.2", "10.3.0.30")
    tag = resource_of(TENSORRT, orin)
    assert tag == "enginery:tensorrt:sm87:jp6.2:10.3.0.30:linux-aarch64"
    assert tag in offered(host(87, jetpack="6.2", trt="10.3.0.30")).tags
    for other in (
        host(87, jetpack="6.1", trt="10.3.0.30"),
        host(87, jetpack="6.2", trt="10.3.0.31"),
        host(110, jetpack="6.2", trt="10.3.0.30"),
    ):
        assert tag not in offered(other).tags


def test_several_kinds_of_gpu() -> None:
    tags = offered(host(86, 89, 89, trt="10.13.0.35")).tags
    assert [tag for tag in tags if ":tensorrt:" in tag] == [
        f"enginery:tensorrt:sm{sm}:nojp:10.13.0.35:{platform_here()}" for sm in (86, 89)
    ]


def test_a_version_without_its_build_number() -> None:
    """No target can be written for it, so that nothing would ever ask."""
    offer = offered(host(89, trt="10.7.0"))
    assert not [tag for tag in offer.tags if ":tensorrt:" in tag]
    assert any("not the full version" in remark for remark in offer.remarks)


def test_rtx_is_one_tag_for_all_hardware() -> None:
    rtx = load_runtime("tensorrt_rtx")
    for sm in (75, (86, 89, 120)):
        assert resource_of(rtx, HostCapabilities(sm, None, RTX_VERSION)) == RTX
    assert resource_of(rtx, replace(RTX_TARGET, trt="1.0.0.1")) != RTX
    assert f"enginery:tensorrt_rtx:any:{RTX_VERSION}:{platform_here()}" == RTX


def test_declared_tags() -> None:
    assert check_tag(RTX) == RTX
    for tag in ("", "gpu", "enginery", "enginery:::::", f"{RTX}{'x' * 200}"):
        with pytest.raises(EngineryError, match="is no hardware tag"):
            check_tag(tag)
