"""Hosts of a test run that reach each other by a network: namespaces of Linux on one bridge, which root may make."""

from __future__ import annotations

import secrets
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field


@dataclass(kw_only=True)
class Network:
    """A bridge with this machine on it, at `address`, and hosts."""

    name: str
    prefix: str
    hosts: dict[str, str] = field(default_factory=dict)
    """The link that joins a host, which is a namespace, to the bridge."""

    @property
    def address(self) -> str:
        """This machine's address."""
        return f"{self.prefix}.254"

    def add_host(self) -> list[str]:
        """Add a host, and return what a command begins with that is to run on it."""
        number = 1 + max((int(host.rpartition("-")[2]) for host in self.hosts), default=0)
        host, link = f"{self.name}-{number}", f"{self.name}l{number}"
        _ip("netns", "add", host)
        self.hosts[host] = link
        _ip("link", "add", link, "type", "veth", "peer", "name", "eth0", "netns", host)
        _ip("link", "set", link, "master", self.name, "up")
        for command in (
            ("addr", "add", f"{self.prefix}.{number}/24", "dev", "eth0"), ("link", "set", "eth0", "up"),
            ("link", "set", "lo", "up"),
        ):  # fmt: skip
            _ip("-n", host, *command)
        return ["ip", "netns", "exec", host]

    def cut_off(self, host: str) -> None:
        """Pull the cable of a host."""
        _ip("link", "set", self.hosts[host], "down")

    def remove_host(self, host: str) -> None:
        """Remove a host on which nothing runs any more."""
        _ip("link", "del", self.hosts.pop(host))
        _ip("netns", "del", host)


@contextmanager
def running_network() -> Iterator[Network | None]:
    """A network without hosts, gone with the block; None where none may be made, as by all but root."""
    network = Network(name=f"hm{secrets.token_hex(2)}", prefix=f"10.77.{secrets.randbelow(255)}")
    try:
        _ip("link", "add", network.name, "type", "bridge")
    except OSError:
        yield None
        return
    try:
        _ip("addr", "add", f"{network.address}/24", "dev", network.name)
        _ip("link", "set", network.name, "up")
        yield network
    finally:
        for host in list(network.hosts):
            network.remove_host(host)
        _ip("link", "del", network.name)


def _ip(*arguments: str) -> None:
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise OSError(f"ip {' '.join(arguments)}: {done.stderr.strip()}")
