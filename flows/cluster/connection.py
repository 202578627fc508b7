"""Finding a Ray cluster, and holding a workspace among all of its drivers."""

from __future__ import annotations

import atexit
import logging
import os
import socket
import time
from typing import Any, TypeGuard

from pipeline.errors import SetupError, UnavailableError
from pipeline.records import digest

logger = logging.getLogger(__name__)

_ANSWERS_WITHIN_S = 5.0
# What a killed driver held is free once the cluster has noticed its end.
_FREE_WITHIN_S = 15.0
_STARTS_WITHIN_S = 300.0
_NAMESPACE = "holmes"

_held: dict[str, Any] = {}
"""The holders of the workspaces that this process writes to."""


class Holder:
    """Lives as long as the driver that made it, and says who that is."""

    def __init__(self, driver: str) -> None:
        self._driver = driver

    def driver(self) -> str:
        """Return the driver."""
        return self._driver


def connect(address: str | None) -> Any:
    """Join the cluster at `address`, once in a process, and return the module `ray`.

    Raises:
        SetupError: Ray is not installed, or refuses: another version of Python or Ray, another token.
        UnavailableError: nothing answers there.
    """
    # Ray asks for nothing and tells nobody unless it is told to.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    try:
        import ray
    except ImportError:
        raise SetupError("engine=ray needs Ray: pip install 'holmes-engine[ray]'") from None
    if ray.is_initialized():
        return ray
    if address and "://" in address:
        raise SetupError(
            f"ray.address={address}: host:port is expected, of a cluster that this machine belongs to; from elsewhere "
            "submit the build: ray job submit -- holmes build ..."
        )
    address = address or os.environ.get("RAY_ADDRESS") or None
    if _is_door(address):
        _knock(address)
    try:
        ray.init(
            address=address,
            namespace=_NAMESPACE,
            logging_level=logging.ERROR,
            log_to_driver=False,
            # Of a Ray of this machine's own; a cluster has what it was started with.
            include_dashboard=False,
        )
    except Exception as fault:  # noqa: BLE001 - a machine that does not start, say, is told by no other type
        raise _explained(address, fault) from None
    atexit.register(ray.shutdown)
    nodes = [node for node in ray.nodes() if node["Alive"]]
    logger.info(
        "ray %s: %d machine(s), %g CPUs, %g GPUs",
        ray.__version__,
        len(nodes),
        ray.cluster_resources().get("CPU", 0),
        ray.cluster_resources().get("GPU", 0),
    )
    return ray


def hold(ray: Any, url: str) -> None:
    """Hold a workspace until this process ends, so that no other driver of the cluster writes to it.

    Raises:
        UnavailableError: another one holds it, or Ray starts nothing here.
    """
    if url in _held:
        return
    name = digest("workspace", url)
    # The holder ends with the driver, and with no other machine.
    here = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(
        ray.get_runtime_context().get_node_id(), soft=False
    )
    options = {"name": name, "namespace": _NAMESPACE, "num_cpus": 0, "scheduling_strategy": here}
    deadline_s = time.monotonic() + _FREE_WITHIN_S
    while True:
        try:
            held = ray.remote(Holder).options(**options).remote(f"{socket.gethostname()}, process {os.getpid()}")
            ray.get(held.driver.remote(), timeout=_STARTS_WITHIN_S)
        except ray.exceptions.GetTimeoutError:
            raise UnavailableError(
                f"ray: no process has started on this machine in {_STARTS_WITHIN_S:g} s: it is overloaded, or Ray's "
                "logs say why"
            ) from None
        except ValueError:
            if time.monotonic() > deadline_s:
                raise UnavailableError(f"{url}: in use by another build ({_driver_of(ray, name)})") from None
            time.sleep(1)
        else:
            _held[url] = held
            return


def _driver_of(ray: Any, name: str) -> str:
    try:
        return str(ray.get(ray.get_actor(name, namespace=_NAMESPACE).driver.remote(), timeout=_ANSWERS_WITHIN_S))
    except (ValueError, ray.exceptions.RayError):
        return "unknown"


def _is_door(address: str | None) -> TypeGuard[str]:
    """Tell whether an address is one to connect to, not a way to find or start a cluster."""
    return bool(address) and address not in ("auto", "local")


def _knock(address: str) -> None:
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), _ANSWERS_WITHIN_S).close()
    except ValueError:
        raise SetupError(f"ray.address={address}: host:port is expected, such as 10.0.0.1:6379") from None
    except OSError as fault:
        raise UnavailableError(
            f"ray.address={address}: nothing answers there ({fault.strerror or fault}); start a cluster with "
            "ray start --head, and join it on every machine with ray start --address=HOST:PORT"
        ) from None


def _explained(address: str | None, fault: Exception) -> SetupError:
    text = " ".join(str(fault).split())
    where = f"ray.address={address}" if address else "ray"
    if "AuthToken" in text or "uthentication" in text or "UNAUTHENTICATED" in text:
        return SetupError(
            f"{where}: the cluster refuses the token: set RAY_AUTH_MODE=token and the RAY_AUTH_TOKEN with which it was "
            f"started ({text[:200]})"
        )
    if isinstance(fault, ConnectionError) and _is_door(address):
        # Which of these it is stands in Ray's log alone.
        return SetupError(
            f"{where}: something answers there, and Ray cannot join it: it is no cluster, or has another token: set "
            f"RAY_AUTH_MODE=token and the RAY_AUTH_TOKEN with which it was started ({text[:200]})"
        )
    if isinstance(fault, ConnectionError):
        return UnavailableError(f"{where}: no cluster: {text[:300]}")
    return SetupError(f"{where}: {text[:400]}")
