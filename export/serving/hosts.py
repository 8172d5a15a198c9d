"""Names in a request: ``Host`` against names that were pointed here, ``Origin`` against pages of other sites.

No header that a proxy adds (``Forwarded``, ``X-Forwarded-*``) is read: who reaches the server could write it, too.
"""

import ipaddress
import re
from collections.abc import Collection
from urllib.parse import urlsplit

from export.serving.responses import RequestError

_SHOWN = 100  # characters of a name
_NAME = re.compile(r"(\[[0-9a-f:.]+\]|[a-z0-9._-]+)(:\d{1,5})?", re.ASCII | re.IGNORECASE)
_DEFAULT_PORTS = {"http": ":80", "https": ":443"}


def check_name(name: str) -> None:
    """Checks a name that a server may have.

    >>> check_name("shop.example:8443")

    Raises:
        ValueError: if it is not a name, or a name and a port.
    """
    if _NAME.fullmatch(name) is None and not _is_address(name):
        raise ValueError(
            f"the host is {name!r}; give a name, or a name and its port, as a browser sends it, for example "
            "shop.example or shop.example:8443 (without https:// and a path; other alphabets as xn--...)"
        )


def check_host(host: str, allowed: Collection[str] | None) -> None:
    """Checks the ``Host`` of a request.

    A page of another site can point its own name to this machine (DNS rebinding), and then still sends that name. No
    page can do so with an address, which is therefore allowed.

    Args:
        allowed: names, with or without a port; None allows any.

    Raises:
        RequestError: 403 if it is another name.
    """
    name = _name(host)
    if allowed is None or name in map(_name, allowed) or _is_address(name):
        return
    shown = name if _NAME.fullmatch(host) else "NAME"
    raise RequestError(
        403,
        f"this server is not named {host[:_SHOWN]!r} (Host); if that is its name, start it with --allow-host {shown}",
    )


def check_origin(origin: str, host: str, fetch_site: str, names: Collection[str]) -> None:
    """Checks the site of the page that sends a request.

    A browser says itself whether that site is the one that it asks (``Sec-Fetch-Site``, which no page can write),
    but only over TLS and at localhost. Elsewhere ``Origin`` has to be the ``Host``, which a proxy may have replaced.

    Args:
        names: of this server, with their ports where those are not the scheme's own.

    Raises:
        RequestError: 403 if it is another site.
    """
    if not origin or fetch_site == "same-origin":
        return
    scheme, site = _split(origin)
    port = _DEFAULT_PORTS.get(scheme, "")
    if site and site in {name.lower().removesuffix(port) for name in (host, *names)}:
        return
    remedy = ""
    if _NAME.fullmatch(site):
        remedy = (
            f". If {site} is a proxy before this server, start it with --allow-host {site}, or let the proxy pass the "
            "Host on as it came"
        )
    raise RequestError(
        403,
        f"pages of other sites may not call this server: the page is of {origin[:_SHOWN]!r} (Origin), and the server "
        f"was asked for as {host[:_SHOWN]!r} (Host){remedy}",
    )


def _split(origin: str) -> tuple[str, str]:
    """Scheme, host and port of an ``Origin``, without a port that is the scheme's own; empty for an invalid one.

    >>> _split("https://shop.example:443"), _split("null")
    (('https', 'shop.example'), ('', ''))
    """
    try:
        parts = urlsplit(origin)
    except ValueError:
        return "", ""
    return parts.scheme, parts.netloc.lower().removesuffix(_DEFAULT_PORTS.get(parts.scheme, ""))


def _name(host: str) -> str:
    """Host without the port.

    >>> _name("Shop.example:8443"), _name("[::1]:80"), _name("::1")
    ('shop.example', '::1', '::1')
    """
    host = host.lower()
    if _is_address(host):
        return host
    return host[1:].partition("]")[0] if host.startswith("[") else host.partition(":")[0]


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
