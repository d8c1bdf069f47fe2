"""One who asks workers for builds, with nothing of ours between: what goes over the wire, by hand."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import onnx_models
from distributed import Client, Future, Security
from distributed.core import rpc
from farms import RTX, RTX_TARGET, Farm, wait_for

from enginery.config import BackboneSpec, EngineCompileRequest, PrecisionMode
from enginery.farm.build import KEY, build
from enginery.farm.reply import BuildReply, read_reply
from enginery.farm.request import BuildRequest, request_for
from enginery.hardware import HostCapabilities
from enginery.inputs import InputDigests
from enginery.plan import EnginePlan
from enginery.recipe import EXTERNAL
from enginery.runtimes import load_runtime
from enginery.runtimes.protocol import Runtime

PIECE = 1 << 16


@dataclass(frozen=True)
class Order:
    """A request, and the files that it is about."""

    request: BuildRequest
    files: dict[str, Path]

    def encode_with_name(self, name: str) -> str:
        """Its JSON with another name for the model's file."""
        document = msgspec.to_builtins(self.request)
        document["inputs"][0]["name"] = name
        return msgspec.json.encode(document).decode()

    def changed(self, **fields: Any) -> str:
        """Its JSON with other values in it, dotted names for what lies deeper."""
        document = msgspec.to_builtins(self.request)
        for name, value in fields.items():
            *above, last = name.split("__")
            place = document
            for part in above:
                place = place[part]
            place[last] = value
        return msgspec.json.encode(document).decode()


def order_for(
    onnx: Path,
    *,
    runtime: Runtime | None = None,
    target: HostCapabilities = RTX_TARGET,
    input_name: str = "input",
    shape: tuple[int, ...] = (1, 3, 16, 16),
    precision: PrecisionMode = PrecisionMode.FP32,
) -> Order:
    """What is asked for a model."""
    runtime = runtime or load_runtime("tensorrt_rtx")
    spec = BackboneSpec(onnx.stem, onnx, shape, input_name)
    plan = EnginePlan(
        spec,
        EngineCompileRequest(
            backbones=(spec,), calibration_path=None, cache_root=onnx.parent / "engines",
            precision=precision, host=target, workspace_mb=64,
        ),
        runtime,
    )  # fmt: skip
    recipe = plan.recipe(InputDigests())
    files = {
        role: onnx if role == "onnx" else onnx.parent / role.removeprefix(EXTERNAL)
        for role in recipe.inputs
    }
    request = request_for(plan, recipe, files, runtime.name)
    return Order(request, {one.sha256: files[one.role] for one in request.inputs})


def small_order(folder: Path, name: str = "small", *, seed: int = 1, **options: Any) -> Order:
    folder.mkdir(parents=True, exist_ok=True)
    onnx_models.write_small(
        folder / f"{name}.onnx", seed=seed, weights=options.pop("weights", None)
    )
    return order_for(folder / f"{name}.onnx", **options)


def slow_order(folder: Path, name: str = "slow") -> Order:
    """One that takes seconds to build."""
    folder.mkdir(parents=True, exist_ok=True)
    onnx_models.write_slow(folder / f"{name}.onnx")
    return order_for(
        folder / f"{name}.onnx", input_name=onnx_models.SLOW_INPUT, shape=(1, 3, 224, 224)
    )


@dataclass
class Submitter:
    """A client of the scheduler; sends inputs when a worker asks for them."""

    client: Client
    security: Security
    heard: list[dict[str, Any]] = field(default_factory=list)
    sends: bool = True
    _orders: dict[str, Order] = field(default_factory=dict)

    def submit(self, order: Order, *, tag: str = RTX, text: str | None = None) -> Future:
        key = KEY + order.request.fingerprint
        self._orders[key] = order
        self.client.subscribe_topic(key, self._hear(order))
        return self.client.submit(
            build, text or order.request.encode(), key=key, resources={tag: 1}, retries=0
        )

    def build(self, order: Order, *, timeout: float = 120, **options: Any) -> BuildReply:
        future = self.submit(order, **options)
        try:
            return read_reply(future.result(timeout))
        finally:
            future.release()
            self.forgotten(future.key)

    def forgotten(self, key: str) -> None:
        """Wait until the scheduler has forgotten a task, so that its key means a new one."""

        def gone() -> bool:
            found: dict[str, Any] = self.client.sync(self.client.scheduler.who_has, keys=[key])
            return not found.get(key)

        wait_for(gone)

    def fetch(self, address: str, sha256: str) -> bytes:
        data = bytearray()
        while piece := self.call(
            address, "enginery_blob", sha256=sha256, offset=len(data), length=PIECE
        ):
            data += piece
        return bytes(data)

    def put(self, address: str, path: Path, sha256: str | None = None) -> None:
        data = path.read_bytes()
        digest = sha256 or hashlib.sha256(data).hexdigest()
        for offset in range(0, len(data), PIECE):
            self.call(
                address, "enginery_put", size=len(data), offset=offset,
                sha256=digest,
                data=data[offset : offset + PIECE],
            )  # fmt: skip

    def call(self, address: str, operation: str, **arguments: Any) -> Any:
        """Call a handler of a worker, over a connection that stays open."""
        return self.client.sync(self._call, address, operation, arguments)

    async def _call(self, address: str, operation: str, arguments: dict[str, Any]) -> Any:
        pool = self.client.__dict__.setdefault("_test_pool", {})
        if address not in pool:
            pool[address] = rpc(
                address, connection_args=self.security.get_connection_args("client")
            )
        return await getattr(pool[address], operation)(**arguments)

    def _hear(self, order: Order) -> Callable[[tuple[float, Any]], None]:
        sent: set[tuple[str, str]] = set()

        def hear(event: tuple[float, Any]) -> None:
            message = event[1]
            self.heard.append(message)
            for one in message.get("need", ()):
                if self.sends and (one, message["at"]) not in sent:
                    sent.add((one, message["at"]))
                    # Whoever hears is in the client's loop, and must not wait in it.
                    threading.Thread(
                        target=self.put, args=(message["at"], order.files[one]), daemon=True
                    ).start()

        return hear


@contextmanager
def submitting_to(farm: Farm) -> Iterator[Submitter]:
    options = {}
    if farm.authority is not None:
        pem = farm.authority.issue("submitter")
        options = {
            "tls_ca_file": str(farm.authority.ca),
            "tls_client_cert": str(pem.cert), "tls_client_key": str(pem.key),
        }  # fmt: skip
    security = Security(require_encryption=bool(options), **options)
    client = Client(farm.scheduler, security=security, set_as_default=False)
    try:
        yield Submitter(client, security)
    finally:

        async def close() -> None:
            for one in client.__dict__.get("_test_pool", {}).values():
                await one.close_rpc()

        client.sync(close)
        client.close()
