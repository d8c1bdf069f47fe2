"""`enginery worker`: real workers that do real builds, and what they refuse."""

from __future__ import annotations

import asyncio
import json
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import dask
import msgspec
import onnx
import psutil
import pytest
from conftest import flip_bit
from distributed import Client, Security
from farms import (
    DECLARED,
    RTX,
    RTX_TARGET,
    RTX_VERSION,
    Authority,
    Farm,
    RunningWorker,
    declared,
    farm,
    tls_farm,
    wait_for,
)
from keys import make_pair
from submitter import Order, Submitter, order_for, slow_order, small_order, submitting_to
from touching import Toucher, Touching, touch, touch_later

from enginery.config import PrecisionMode
from enginery.digest import sha256_bytes, sha256_file
from enginery.errors import FarmError
from enginery.farm.build import build
from enginery.farm.reply import BuildReply, read_reply
from enginery.farm.tags import resource_of
from enginery.probing import probe
from enginery.runtimes import load_runtime
from enginery.store.layout import LocalStore
from enginery.store.manifest import unpack
from enginery.trust import Policy, check

__all__ = ["farm", "tls_farm"]

CPU = load_runtime("onnxruntime").resolve(None, None, None, probe)


def fetched(submitter: Submitter, reply: BuildReply) -> tuple[bytes, dict[str, Any]]:
    """An engine and its provenance, read from the worker and verified."""
    documents = {}

    def read(descriptor: Any) -> bytes:
        documents[descriptor.sha256_hex] = data = submitter.fetch(
            reply.worker, descriptor.sha256_hex
        )
        return data

    stored = unpack(reply.fingerprint, reply.manifest.encode(), read)
    engine = submitter.fetch(reply.worker, stored.engine.sha256_hex)
    assert sha256_bytes(engine) == stored.engine.sha256_hex
    return engine, json.loads(stored.document)


def leftovers(worker: RunningWorker) -> list[Path]:
    """What lies about in a worker's folder that is no input, no engine and no lock."""
    return [
        path
        for path in worker.folder.rglob("*")
        if path.is_file()
        and path.relative_to(worker.folder).parts[0] not in ("inputs", "store", "dask")
        and not path.name.endswith(".lock")
    ]


# --- what it does


def test_a_build_and_no_second_one(farm: Farm, tmp_path: Path) -> None:
    worker = farm.start_worker("one", tags=None)
    order = small_order(tmp_path, weights="weights.bin")
    with submitting_to(farm) as submitter:
        reply = submitter.build(order)
        assert (reply.refused, reply.failed, reply.built) == (None, None, True)
        engine, provenance = fetched(submitter, reply)
        assert engine
        assert {one["name"] for one in provenance["subject"]} == {
            f"small_sm89_nojp_trt{RTX_VERSION}_fp32.engine"
        }
        assert str(worker.folder) not in json.dumps(provenance)
        (need,) = [one for one in submitter.heard if "need" in one]
        assert set(need["need"]) == set(order.files)
        assert any(one.get("phase") for one in submitter.heard)
        again = submitter.build(order)
        assert (again.built, again.manifest) == (False, reply.manifest)
    assert worker.log.count(": built in") == 1
    assert leftovers(worker) == []
    assert {path.name for path in (worker.folder / "inputs").iterdir()} == set(order.files)


def test_with_tls(tls_farm: Farm, tmp_path: Path) -> None:
    worker = tls_farm.start_worker("one")
    with submitting_to(tls_farm) as submitter:
        reply = submitter.build(small_order(tmp_path))
        assert reply.built
        assert reply.worker.startswith("tls://")
        assert fetched(submitter, reply)[0]
    assert worker.process.poll() is None


def test_a_stranger_gets_nowhere(tls_farm: Farm, tmp_path: Path) -> None:
    worker = tls_farm.start_worker("one")
    stranger = Authority(tmp_path / "stranger", "stranger")
    own = tls_farm.authority
    assert own is not None
    # A worker that the farm's authority did not sign is not let in.
    pem = stranger.issue("two")
    options = ["--ca", str(own.ca), "--cert", str(pem.cert), "--key", str(pem.key)]
    other = tls_farm.start_worker("two", options=options, wait=False)
    other.said("it does not accept this certificate: another authority signed it")
    third = tls_farm.start_worker("three", options=["--ca", str(stranger.ca)], wait=False)
    third.said("the authority of --ca did not sign its certificate")
    # A client neither, at the scheduler or at the worker.
    address = worker.log.rpartition("listens at ")[2].strip()
    pem = stranger.issue("client")
    security = Security(
        tls_ca_file=str(own.ca), tls_client_cert=str(pem.cert), tls_client_key=str(pem.key),
        require_encryption=True,
    )  # fmt: skip
    for place in (tls_farm.scheduler, address):
        with pytest.raises(OSError, match=r"(?s)."):
            asyncio.run(_identify(place, security))
    assert "is connected" not in other.log


async def _identify(address: str, security: Security) -> object:
    from distributed.core import rpc

    arguments = security.get_connection_args("client")
    async with rpc(address, connection_args=arguments, timeout=5) as one:
        return await one.identity()


def test_lowered_models(farm: Farm, tmp_path: Path) -> None:
    farm.start_worker("one")
    with submitting_to(farm) as submitter:
        reply = submitter.build(small_order(tmp_path, precision=PrecisionMode.FP16))
        assert reply.built, reply
        assert fetched(submitter, reply)[0]


def test_engines_for_this_cpu(farm: Farm, tmp_path: Path) -> None:
    farm.start_worker("one", tags=None)
    runtime = load_runtime("onnxruntime")
    with submitting_to(farm) as submitter:
        order = small_order(tmp_path, runtime=runtime, target=CPU)
        reply = submitter.build(order, tag=resource_of(runtime, CPU))
        assert reply.built, reply
        assert onnx.load_from_string(fetched(submitter, reply)[0]).graph.node


def test_signed_builds(farm: Farm, tmp_path: Path) -> None:
    pair, other = make_pair(tmp_path / "keys"), make_pair(tmp_path / "keys", name="other")
    order = small_order(tmp_path)
    worker = farm.start_worker("one")
    with submitting_to(farm) as submitter:
        unsigned = submitter.build(order)
    farm.kill("one")
    worker = farm.start_worker("one", options=["--sign-with", str(pair.private)])
    with submitting_to(farm) as submitter:
        # What it built before it had a key is of no use to whoever wants a signature.
        reply = submitter.build(order)
        assert reply.built
        assert reply.manifest != unsigned.manifest
    stored = LocalStore(worker.folder / "store").find(order.request.fingerprint)
    assert stored is not None

    def believed(public: Path) -> None:
        check(
            Policy(keys=(public,), require="all"), document=stored.document,
            envelope=stored.envelope, engine_sha256=stored.engine.sha256_hex,
            engine_name=stored.name, origin="remote",
        )  # fmt: skip

    believed(pair.public)
    with pytest.raises(Exception, match="signed by"):
        believed(other.public)


def test_declared_hosts(farm: Farm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two workers for two kinds of hardware; a request for either goes where it belongs."""
    runtime = declared_runtime(tmp_path, monkeypatch)
    for sm in (86, 89):
        host = {"ENGINERY_HOST": f"sm={sm} trt={RTX_VERSION}"}
        farm.start_worker(f"sm{sm}", tags=None, env=host)
    with submitting_to(farm) as submitter:
        for sm in (86, 89):
            target = replace(RTX_TARGET, sm=sm)
            order = small_order(tmp_path, f"for{sm}", runtime=runtime, target=target)
            reply = submitter.build(order, tag=resource_of(runtime, target))
            assert reply.built, reply
            assert f"for{sm} (" in farm.workers[f"sm{sm}"].log


def declared_runtime(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(declared(folder / "runtime"))
    return load_runtime(DECLARED)


# --- what it refuses: requests


def refusal(submitter: Submitter, order: Order, **options: Any) -> str:
    heard = len(submitter.heard)
    reply = submitter.build(order, **options)
    assert reply.refused, reply
    assert not any("need" in one for one in submitter.heard[heard:]), "inputs were asked for"
    return reply.refused


def test_requests_out_of_bounds(farm: Farm, tmp_path: Path) -> None:
    worker = farm.start_worker("one", options=["--max-input", "1K"])
    order = small_order(tmp_path)
    with submitting_to(farm) as submitter:
        for text, words in (
            ("", "refused"),
            ("{}", "fingerprint"),
            ("[" * 100_000, "refused"),
            ("x" * (300 << 10), "bytes is refused"),
            (order.changed(version=2), "version"),
            (order.changed(surprise=1), "surprise"),
            (order.changed(model_name="../../evil"), "no safe file name"),
            (order.changed(workspace_mb=1 << 60), "workspace_mb"),
            (order.changed(builder__plugins=["/lib/evil.so"]), "code"),
            (order.changed(hardware__sm=[]), "no compute capability"),
            (order.changed(recipe__kind="lowered-onnx"), "something else"),
            (order.changed(recipe__build={}), "another fingerprint"),
            (order.encode_with_name("../model.onnx"), "no file name"),
            (order.encode_with_name("/etc/passwd"), "no file name"),
        ):
            assert words in refusal(submitter, order, text=text), words
        assert "are the most here" in refusal(submitter, order)
    assert worker.log.count("refused: ") >= 15
    assert not list((worker.folder / "inputs").iterdir())


def test_a_request_under_the_key_of_another(farm: Farm, tmp_path: Path) -> None:
    farm.start_worker("one")
    other = small_order(tmp_path, "other", seed=2)
    with submitting_to(farm) as submitter:
        said = refusal(submitter, small_order(tmp_path), text=other.request.encode())
        assert "for another fingerprint than its key says" in said


def test_a_tag_that_lies_about_the_version(farm: Farm, tmp_path: Path) -> None:
    target = replace(RTX_TARGET, trt="9.9.9.9")
    lie = resource_of(load_runtime("tensorrt_rtx"), target)
    worker = farm.start_worker("one", tags=[lie])
    with submitting_to(farm) as submitter:
        said = refusal(submitter, small_order(tmp_path, target=target), tag=lie)
    assert f"9.9.9.9, and this worker has {RTX_VERSION}" in said
    assert "started" not in worker.log


def test_a_tag_that_lies_about_the_hardware(
    farm: Farm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runtime = declared_runtime(tmp_path, monkeypatch)
    lie = resource_of(runtime, RTX_TARGET)
    farm.start_worker("one", tags=[lie], env={"ENGINERY_HOST": f"sm=86 trt={RTX_VERSION}"})
    with submitting_to(farm) as submitter:
        order = small_order(tmp_path, runtime=runtime)
        assert "cannot be built here: it needs a host with SM 8.9" in refusal(
            submitter, order, tag=lie
        )


def test_what_it_does_not_offer(farm: Farm, tmp_path: Path) -> None:
    farm.start_worker("one")
    with submitting_to(farm) as submitter:
        order = small_order(tmp_path, runtime=load_runtime("onnxruntime"), target=CPU)
        assert "does not offer enginery:onnxruntime:cpu-" in refusal(submitter, order)


def test_a_recipe_that_differs_is_said_in_words(farm: Farm, tmp_path: Path) -> None:
    farm.start_worker("one")
    order = small_order(tmp_path)
    recipe = order.request.recipe
    toolchain = {**recipe.toolchain, "polygraphy": "0.1"}
    other = msgspec.structs.replace(recipe, toolchain=toolchain)
    request = msgspec.structs.replace(order.request, recipe=other, fingerprint=other.fingerprint)
    with submitting_to(farm) as submitter:
        said = refusal(submitter, Order(request, order.files))
    assert "another engine of it: polygraphy: 0.1 -> not set" in said


def test_a_model_that_names_files_of_the_worker(farm: Farm, tmp_path: Path) -> None:
    """Its weights are said to lie where the worker's own secrets do."""
    worker = farm.start_worker("one")
    order = small_order(tmp_path, weights="weights.bin")
    (model,) = (path for path in order.files.values() if path.suffix == ".onnx")
    secret = worker.folder / "secret"
    secret.write_bytes((tmp_path / "weights.bin").read_bytes())
    evil = onnx.load(model, load_external_data=False)
    for tensor in evil.graph.initializer:
        for entry in tensor.external_data:
            if entry.key == "location":
                entry.value = "../../../secret"
    model.write_bytes(evil.SerializeToString())
    digest = sha256_file(model)
    recipe = order.request.recipe
    recipe = msgspec.structs.replace(recipe, inputs={**recipe.inputs, "onnx": digest})
    request = msgspec.structs.replace(
        order.request, recipe=recipe, fingerprint=recipe.fingerprint,
        inputs=tuple(
            msgspec.structs.replace(one, sha256=digest, size=model.stat().st_size)
            if one.role == "onnx" else one
            for one in order.request.inputs
        ),
    )  # fmt: skip
    files = {one.sha256: tmp_path / one.name for one in request.inputs}
    with submitting_to(farm) as submitter:
        reply = submitter.build(Order(request, files))
    assert reply.refused is not None
    assert "are not those of the request: ../../../secret" in reply.refused


def test_builds_that_fail_say_why(farm: Farm, tmp_path: Path) -> None:
    worker = farm.start_worker("one")
    (tmp_path / "text.onnx").write_text("no model")
    with submitting_to(farm) as submitter:
        reply = submitter.build(order_for(tmp_path / "text.onnx"))
        assert reply.failed
        assert "text.onnx" in reply.failed.message
        assert str(worker.folder) not in reply.failed.message
        reply = submitter.build(small_order(tmp_path, "misnamed", input_name="nobody"))
        assert reply.failed
        assert (reply.failed.kind, reply.failed.field) == ("BackboneSpecError", "input_name")
        assert submitter.build(small_order(tmp_path)).built
    assert leftovers(worker) == []


# --- what it refuses: code


def no_builds(client: Client, path: str) -> Iterator[Any]:
    """Tasks that are none of ours, each a future."""
    yield client.submit(touch, path, resources={RTX: 1})
    yield client.submit(touch_later, path, resources={RTX: 1})
    yield client.submit(Toucher, path, actor=True, resources={RTX: 1})
    yield client.submit(build, "{}", "{}")
    yield client.submit(build, b"{}")
    yield client.submit(build, text="{}")
    yield client.submit(build, ["{}"])
    yield client.submit(build, "{}", actor=True)
    yield client.submit(partial(build, "{}"))
    yield client.compute(dask.delayed(touch)(path))
    yield client.compute(dask.delayed(build)(dask.delayed(touch)(path)))
    yield client.get({"x": (touch, path), "y": (build, "x")}, "y", sync=False)
    with dask.annotate(executor="offload"):
        yield client.submit(build, "{}")


def test_tasks_that_are_no_builds(farm: Farm, tmp_path: Path) -> None:
    path = tmp_path / "touched"
    worker = farm.start_worker("one")
    with submitting_to(farm) as submitter:
        for future in no_builds(submitter.client, str(path)):
            with pytest.raises(FarmError, match="takes builds of enginery and nothing else"):
                future.result(60)
            assert not path.exists()
        assert worker.log.count("a task is refused") >= 13, worker.log
        assert submitter.build(small_order(tmp_path)).built


def test_handlers_that_let_code_or_files_in(farm: Farm, tmp_path: Path) -> None:
    from distributed.protocol.pickle import dumps

    path = str(tmp_path / "touched")
    worker = farm.start_worker("one")
    address = worker.log.rpartition("listens at ")[2].strip()
    with submitting_to(farm) as submitter:
        for operation, arguments in (
            ("run", {"function": dumps(touch), "args": dumps((path,))}),
            ("run_coroutine", {"function": dumps(touch_later), "args": dumps((path,))}),
            ("upload_file", {"filename": "../../evil.py", "data": b"1"}),
            ("plugin-add", {"plugin": dumps(Touching(path)), "name": "x"}),
            ("plugin-remove", {"name": "x"}),
            ("actor_execute", {"actor": "x", "function": "y", "args": [], "kwargs": {}}),
            ("actor_attribute", {"actor": "x", "attribute": "y"}),
            ("update_data", {"data": {"x": 1}}),
            ("gather", {"who_has": {}}),
            ("dump_state", {}),
            ("benchmark_disk", {}),
            ("echo", {"data": 1}),
        ):
            with pytest.raises(FarmError, match="nothing else"):
                submitter.call(address, operation, **arguments)
        with pytest.raises(Exception, match="nothing else"):
            submitter.client.run(touch, path)
        with pytest.raises(Exception, match=r"."):
            submitter.client.upload_file(__file__)
        with pytest.raises(Exception, match="nothing else"):
            submitter.client.register_plugin(Touching(path), name="touching")
        # Also when it connects the next time.
        farm.kill("one")
        worker = farm.start_worker("one")
        assert not Path(path).exists()
        assert submitter.build(small_order(tmp_path)).built
    assert not list(worker.folder.rglob("*evil*"))


def test_it_listens_at_one_port_on_loopback(farm: Farm) -> None:
    worker = farm.start_worker("one")
    listening = [
        one.laddr
        for one in psutil.Process(worker.process.pid).net_connections()
        if one.status == psutil.CONN_LISTEN
    ]
    assert [one.ip for one in listening] == ["127.0.0.1"]


# --- inputs


def test_pieces_that_are_refused(farm: Farm, tmp_path: Path) -> None:
    farm.start_worker("one")
    order = small_order(tmp_path, weights="weights.bin")
    data = (tmp_path / "weights.bin").read_bytes()
    digest = sha256_bytes(data)
    with submitting_to(farm) as submitter:
        submitter.sends = False
        future = submitter.submit(order)
        wait_for(lambda: any("need" in one for one in submitter.heard))
        address = next(one["at"] for one in submitter.heard if "need" in one)
        good = {"sha256": digest, "size": len(data), "offset": 0, "data": data}
        for change, words in (
            ({"sha256": "0" * 64}, "no build waits"),
            ({"sha256": "../../etc/passwd"}, "something else"),
            ({"sha256": digest.upper()}, "something else"),
            ({"sha256": 7}, "something else"),
            ({"size": len(data) + 1}, "no build waits"),
            ({"size": True}, "something else"),
            ({"offset": 1}, "not the next one"),
            ({"offset": -1}, "not the next one"),
            ({"data": "text"}, "something else"),
            ({"data": b""}, "not of the size"),
            ({"data": data + b"x"}, "not of the size"),
            ({"data": bytes(17 << 20)}, "larger than"),
            ({"data": bytes(len(data))}, "its bytes are"),
        ):
            with pytest.raises(FarmError, match=words):
                submitter.call(address, "enginery_put", **{**good, **change})
        half = len(data) // 2
        put = {**good, "data": data[:half]}
        submitter.call(address, "enginery_put", **put)
        with pytest.raises(FarmError, match="begin again"):
            submitter.call(address, "enginery_put", **{**put, "offset": half + 1})
        missing = submitter.call(address, "enginery_missing", digests=list(order.files))
        assert set(missing) == set(order.files)
        for one, file in order.files.items():
            submitter.put(address, file, one)
        assert read_reply(future.result(60)).built
        with pytest.raises(FarmError, match="cannot be read"):
            submitter.call(address, "enginery_blob", sha256="0" * 64)
        with pytest.raises(FarmError, match="something else"):
            submitter.call(address, "enginery_blob", sha256="../../inputs")
        assert submitter.call(address, "enginery_about")["tags"] == (RTX,)


def test_a_submitter_who_goes_before_he_sent_anything(farm: Farm, tmp_path: Path) -> None:
    worker = farm.start_worker("one")
    with submitting_to(farm) as submitter:
        submitter.sends = False
        held = submitter.submit(small_order(tmp_path))
        worker.said("started")
        del held
    worker.said("nobody waits for it any more", 20)
    with submitting_to(farm) as submitter:
        assert submitter.build(small_order(tmp_path, "other", seed=2)).built


def test_damaged_files_of_the_worker(farm: Farm, tmp_path: Path) -> None:
    worker = farm.start_worker("one")
    order = small_order(tmp_path)
    with submitting_to(farm) as submitter:
        first = submitter.build(order)
        engine, _ = fetched(submitter, first)
        (blob,) = worker.folder.glob(f"store/blobs/sha256/{sha256_bytes(engine)}")
        flip_bit(blob)
        again = submitter.build(order)
        assert again.built
        assert fetched(submitter, again)[0] == engine
        # The input rots, and the engine is not there any more.
        shutil.rmtree(worker.folder / "store")
        (held,) = (worker.folder / "inputs").iterdir()
        held.chmod(0o644)
        flip_bit(held)
        reply = submitter.build(order)
        assert reply.failed, reply
        assert submitter.build(order).built


# --- its end, and that of others


def test_sigterm_in_a_build(farm: Farm, tmp_path: Path) -> None:
    """It is finished and fetched; what waited behind it goes to another."""
    one = farm.start_worker("one")
    slow, small = slow_order(tmp_path), small_order(tmp_path)
    with submitting_to(farm) as submitter:
        future = submitter.submit(slow)
        one.said("started")
        waiting = submitter.submit(small)
        time.sleep(0.5)
        one.process.terminate()
        one.said("takes no new build")
        two = farm.start_worker("two")
        assert read_reply(waiting.result(60)).worker in two.log
        assert one.process.poll() is None, one.log
        assert "small (" not in one.log
        reply = read_reply(future.result(120))
        assert reply.worker in one.log
        engine, _ = fetched(submitter, reply)
        assert engine
        future.release()
        assert one.process.wait(30) == 0
    assert "one has ended" in one.log
    assert leftovers(one) == []


def test_sigterm_twice(farm: Farm, tmp_path: Path) -> None:
    worker = farm.start_worker("one")
    with submitting_to(farm) as submitter:
        future = submitter.submit(slow_order(tmp_path))
        wait_for(lambda: any("phase" in one for one in submitter.heard))
        worker.process.terminate()
        worker.said("a build goes on; waiting for it")
        worker.process.terminate()
        assert worker.process.wait(10) == 1
        wait_for(lambda: not farm.processes("tensorrt_build"), 10)
        future.release()


def test_drain_timeout(farm: Farm, tmp_path: Path) -> None:
    worker = farm.start_worker("one", options=["--drain-timeout", "1"])
    with submitting_to(farm) as submitter:
        future = submitter.submit(slow_order(tmp_path))
        wait_for(lambda: any("phase" in one for one in submitter.heard))
        worker.process.terminate()
        assert worker.process.wait(10) == 1
        assert "--drain-timeout is over" in worker.log
        future.release()


def test_killed_in_a_build(farm: Farm, tmp_path: Path) -> None:
    """Another builds it, and nothing is left of the first once it was started again."""
    one = farm.start_worker("one")
    order = slow_order(tmp_path)
    with submitting_to(farm) as submitter:
        future = submitter.submit(order)
        wait_for(lambda: any("phase" in one for one in submitter.heard))
        farm.kill("one")
        wait_for(lambda: not farm.processes("tensorrt_build"), 10)
        assert leftovers(one)
        two = farm.start_worker("two")
        assert read_reply(future.result(120)).worker in two.log
        assert two.log.count(": built in") == 1
        future.release()
    assert leftovers(farm.start_worker("one")) == []


def test_the_scheduler_goes_and_comes_back(farm: Farm, tmp_path: Path) -> None:
    """The build goes on meanwhile, and is no build when it is asked for again."""
    worker = farm.start_worker("one")
    order = slow_order(tmp_path)
    with submitting_to(farm) as submitter:
        held = submitter.submit(order)
        wait_for(lambda: any("phase" in one for one in submitter.heard))
        farm.stop_scheduler()
        worker.said("is gone; connecting again")
        del held
    worker.said("waiting for the scheduler")
    farm.start_scheduler()
    wait_for(lambda: worker.log.count("is connected to") == 2)
    with submitting_to(farm) as submitter:
        reply = submitter.build(order)
        assert reply.refused is reply.failed is None
        assert not reply.built
        assert submitter.build(small_order(tmp_path)).built
    assert worker.log.count("slow (") == 3, worker.log  # started, built, was here already


def test_started_before_the_scheduler(farm: Farm, tmp_path: Path) -> None:
    farm.stop_scheduler()
    worker = farm.start_worker("one", wait=False)
    worker.said(f"waiting for the scheduler {farm.scheduler}: nothing listens there")
    farm.start_scheduler()
    worker.connected()
    worker.process.send_signal(signal.SIGINT)
    assert worker.process.wait(20) == 0


def test_a_name_that_is_taken(farm: Farm) -> None:
    farm.start_worker("one")
    other = farm.start_worker("two", options=["--name", "one"], wait=False)
    other.said("a worker of this name is connected; give another --name")
    farm.kill("one")
    other.connected()


def test_sigterm_while_it_waits_for_the_scheduler(farm: Farm) -> None:
    farm.stop_scheduler()
    worker = farm.start_worker("one", wait=False)
    worker.said("waiting for the scheduler")
    worker.process.terminate()
    assert worker.process.wait(5) == 0


def test_a_disk_that_takes_no_inputs_is_a_refusal(farm: Farm, tmp_path: Path) -> None:
    worker = farm.start_worker("one")
    (worker.folder / "inputs").rmdir()
    (worker.folder / "inputs").touch()
    order = small_order(tmp_path)
    ((digest, file),) = order.files.items()
    with submitting_to(farm) as submitter:
        submitter.sends = False
        future = submitter.submit(order)
        wait_for(lambda: any("need" in one for one in submitter.heard))
        address = next(one["at"] for one in submitter.heard if "need" in one)
        with pytest.raises(FarmError, match="Not a directory"):
            submitter.put(address, file, digest)
        reply = read_reply(future.result(60))
    assert reply.refused is not None
    assert "the worker's disk: " in reply.refused


def test_a_scheduler_that_says_nothing_is_waited_for(farm: Farm) -> None:
    farm.stop_scheduler()
    with socket.create_server(("127.0.0.1", farm.port)):
        worker = farm.start_worker("one", wait=False)
        worker.said("what listens there does not answer", 30)
    farm.start_scheduler()
    worker.said("is connected to", 60)


def test_the_folder_is_for_one(farm: Farm) -> None:
    one = farm.start_worker("one")
    two = farm.start_worker("two", options=["--folder", str(one.folder)], wait=False)
    assert two.process.wait(20) == 2
    assert "another worker works in" in two.log


# --- mistakes


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["tcp://build.example.com:8786"], "is not encrypted"),
        (["tcp://0.0.0.0:8786"], "is not encrypted"),
        (["tls://build.example.com:8786"], "needs certificates"),
        (["tls://build.example.com:8786", "--ca", "x"], "cert and key missing"),
        (["tcp://127.0.0.1:1", "--ca", "x", "--cert", "x", "--key", "x"], "uses no certificates"),
        (["build.example.com"], "is no address"),
        (["tls://build.example.com:99999"], "is no address"),
        (["tls://[::1"], "is no address"),
        (["tls://a:1", "--ca", "gone", "--cert", "gone", "--key", "gone"], "gone cannot be read"),
        (["tls://a:1", "--ca", "{text}", "--cert", "{cert}", "--key", "{key}"], "no certificate"),
        (["tls://a:1", "--ca", "{ca}", "--cert", "{cert}", "--key", "{other}"], "and its private"),
        (["tls://a:1", "--ca", "{ca}", "--cert", "{cert}", "--key", "{text}"], "and its private"),
        (["tcp://127.0.0.1:1", "--tag", "gpu"], "is no hardware tag"),
        (["tcp://127.0.0.1:1", "--sign-with", "gone"], "gone"),
        (["tcp://127.0.0.1:1", "--folder", "{text}"], "cannot be worked in"),
        (["tcp://127.0.0.1:1", "--max-input", "many"], "is no size"),
        (["tcp://127.0.0.1:1", "--slots", "0"], "is no number of builds"),
        (["tcp://127.0.0.1:1", "--drain-timeout", "-1"], "is no number of seconds"),
        (["tcp://127.0.0.1:1", "--listen", "8790"], "write host:port"),
        (["tcp://127.0.0.1:1", "--listen", "192.0.2.1:8790"], "without TLS"),
        (["tcp://127.0.0.1:1", "--listen", "127.0.0.1:{port}"], "in use"),
        (["tcp://127.0.0.1:1", "--store", "{text}"], "engines cannot be kept in"),
        (["tcp://127.0.0.1:1", "--folder", "{mine}"], "holds something else"),
    ],
)
def test_mistakes(tmp_path: Path, options: list[str], words: str) -> None:
    authority = Authority(tmp_path)
    pem, other = authority.issue("worker"), authority.issue("other")
    (tmp_path / "text").write_text("no PEM")
    places = {
        "text": tmp_path / "text", "ca": authority.ca, "cert": pem.cert, "key": pem.key,
        "other": other.key, "mine": tmp_path / "mine",
    }  # fmt: skip
    (tmp_path / "mine" / "builds").mkdir(parents=True)
    (tmp_path / "mine" / "builds" / "mine").touch()
    command = [sys.executable, "-m", "enginery", "worker", "--folder", str(tmp_path / "w")]
    with socket.create_server(("127.0.0.1", 0)) as taken:
        places["port"] = taken.getsockname()[1]
        done = subprocess.run(
            [*command, "--scheduler", *(one.format(**places) for one in options)],
            capture_output=True, text=True, timeout=60, cwd=tmp_path, check=False,
        )  # fmt: skip
    assert (tmp_path / "mine" / "builds" / "mine").exists()
    assert done.returncode == 2, done.stderr
    assert words in done.stderr
    last = done.stderr.strip().splitlines()[-1]
    assert words in last
    assert "Traceback" not in done.stderr
