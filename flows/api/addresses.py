"""Videos fetched from addresses that callers name, without lending them this machine's place in its network.

A name is resolved once, every address that it has is checked, and the connection goes to the very address that was
checked: a name that answers differently the second time (DNS rebinding) gains nothing. Redirects are followed by the
same rule, and proxies of the environment are not asked.
"""

from __future__ import annotations

import ipaddress
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urljoin, urlsplit

from flows.api.faults import ApiFault
from flows.api.streams import STREAM_PORTS
from flows.page.intake import MIB
from pipeline.video.live import without_password

if TYPE_CHECKING:
    import httpx2

URL_MAX = 4096
"""Longest address in characters."""

REDIRECTS_MAX = 5
SILENCE_S = 20.0
"""Longest silence of a server."""

FETCH_S = 1800.0
"""Longest time in seconds for one video."""

_PORTS = {"http": 80, "https": 443, **STREAM_PORTS}
_NAT64 = ipaddress.ip_network("64:ff9b::/96")

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def resolve(url: str, *, allow_private: bool) -> str:
    """Return the address of the host that a URL names, as it is written in a URL.

    Raises:
        ApiFault: 400 for what is no such URL, or a name that nobody knows; 403 for an address that is not public, and
            for any stream where these are not allowed.
    """
    if len(url) > URL_MAX:
        raise ApiFault(400, "invalid_url", f"url: {len(url)} characters, at most {URL_MAX} are taken")
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError as fault:
        raise ApiFault(400, "invalid_url", f"url: {fault}") from None
    if parts.scheme not in _PORTS or not host or any(character <= " " for character in url):
        raise ApiFault(400, "invalid_url", f"url: an address of {', '.join(_PORTS)} is expected")
    if parts.scheme in STREAM_PORTS and not allow_private:
        told = "streams are read only where --allow-private-urls is set: FFmpeg goes where the camera sends it"
        raise ApiFault(403, "stream_refused", f"url: {told}")
    try:
        found = socket.getaddrinfo(host, port or _PORTS[parts.scheme], type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as fault:
        raise ApiFault(400, "unknown_host", f"url: {host} has no address: {fault}") from None
    addresses = [ipaddress.ip_address(str(entry[4][0]).partition("%")[0]) for entry in found]
    for address in addresses:
        if not allow_private and not is_public(address):
            raise ApiFault(
                403,
                "private_address",
                f"url: {host} is {address}, which is no public address; --allow-private-urls would allow it",
            )
    first = addresses[0]
    return f"[{first}]" if first.version == 6 else str(first)


def is_public(address: Address) -> bool:
    """Whether an address belongs to the public Internet; one that carries another address is as public as that."""
    inner: Address | None = None
    if isinstance(address, ipaddress.IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour or (address.teredo[1] if address.teredo else None)
        if inner is None and address in _NAT64:
            inner = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    if inner is not None:
        return is_public(inner)
    return address.is_global and not address.is_multicast


def fetch(url: str, out: Path, *, max_mb: int, allow_private: bool, on_progress: Callable[[int, int], None]) -> None:
    """Write what lies at an address of http or https to `out`; `on_progress` is told bytes so far and in all, or 0.

    Raises:
        ApiFault: as `resolve`, and where the server does not give it, or gives more than `max_mb` MiB.
    """
    import httpx2

    deadline = time.monotonic() + FETCH_S
    try:
        with httpx2.Client(timeout=SILENCE_S, trust_env=False) as client:
            for _ in range(REDIRECTS_MAX + 1):
                address = resolve(url, allow_private=allow_private)
                with _opened(client, url, address) as answer:
                    if answer.is_redirect:
                        url = urljoin(url, answer.headers["location"])
                        continue
                    if not answer.is_success:
                        raise ApiFault(
                            502, "fetch_failed", f"{without_password(url)}: the server answers {answer.status_code}"
                        )
                    _save(answer, out, max_mb, deadline, on_progress)
                    return
    except (httpx2.HTTPError, httpx2.InvalidURL) as fault:
        detail = str(fault) or type(fault).__name__
        raise ApiFault(502, "fetch_failed", f"{without_password(url)}: {detail}") from None
    raise ApiFault(502, "fetch_failed", f"{without_password(url)}: more than {REDIRECTS_MAX} redirects")


@contextmanager
def _opened(client: httpx2.Client, url: str, address: str) -> Iterator[httpx2.Response]:
    """Ask the machine at `address` for a URL, in the name that the URL has, and yield its answer unread."""
    import httpx2

    named = httpx2.URL(url)
    request = client.build_request(
        "GET",
        named.copy_with(host=address.strip("[]")),
        headers={"Host": named.netloc.decode("ascii"), "Accept-Encoding": "identity"},
        # the certificate has to be that of the name
        extensions={"sni_hostname": named.host},
    )
    answer = client.send(request, stream=True)
    try:
        yield answer
    finally:
        answer.close()


def _save(
    answer: httpx2.Response, out: Path, max_mb: int, deadline: float, on_progress: Callable[[int, int], None]
) -> None:
    declared = answer.headers.get("content-length", "")
    expected = int(declared) if declared.isdecimal() else 0
    got = 0
    with out.open("wb") as file:
        for part in answer.iter_raw(1 << 20):
            got += len(part)
            if max(got, expected) > max_mb * MIB:
                size = f"{max(got, expected) / MIB:.1f} MB"
                raise ApiFault(413, "too_large", f"url: the server sends {size}, at most {max_mb} MB are taken")
            if time.monotonic() > deadline:
                raise ApiFault(504, "fetch_failed", f"url: the video is not there after {FETCH_S:g} s")
            file.write(part)
            on_progress(got, expected)
