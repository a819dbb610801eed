"""Addresses of pictures: their one form, the file that each is fetched to, and which hosts are public."""

from __future__ import annotations

import os
import re
from hashlib import blake2b
from ipaddress import IPv6Address, IPv6Network, ip_address
from pathlib import Path, PurePosixPath
from urllib.parse import quote, unquote, urlsplit, urlunsplit

from tgqformer.catalog.pictures import ENDINGS

FETCHED = "fetched pictures"
"""The kind of a folder that pictures were fetched to, in its note."""
_SAFE = "%/:=&?~+!$,;'@()*[]-._|"
_HOST = re.compile(r"[a-z0-9._:-]+", re.ASCII)
_NAT64, _6TO4 = IPv6Network("64:ff9b::/96"), IPv6Network("2002::/16")


def address_of(text: str) -> str | None:
    """Return an address in its one form: small host, nothing after `#`, what is not ASCII escaped; `//host` is https.

    None where it is not one of http or https with a host, or names a user.
    """
    text = text.strip()
    try:
        parts = urlsplit(f"https:{text}" if text.startswith("//") else text)
        host = (parts.hostname or "").encode("idna" if not (parts.hostname or "").isascii() else "ascii").decode()
        port = f":{parts.port}" if parts.port is not None else ""
    except ValueError:  # of a port, of brackets, of letters that no name has
        return None
    if parts.scheme.lower() not in ("http", "https") or not _HOST.fullmatch(host) or "@" in parts.netloc:
        return None
    place = f"[{host}]{port}" if ":" in host else f"{host}{port}"
    path, query = (quote(part, safe=_SAFE) for part in (parts.path or "/", parts.query))
    return urlunsplit((parts.scheme.lower(), place, path, query, ""))


def fetched_name(address: str) -> str:
    """Return the name of the file that an address is fetched to, below the folder and without its ending.

    It holds a digest of the whole address, so no two addresses have one; the words before are for people.
    """
    digest = blake2b(address.encode(), digest_size=12).hexdigest()
    words = re.sub(r"[^a-z0-9]+", "-", PurePosixPath(unquote(urlsplit(address).path)).stem.lower())[:40].strip("-")
    return f"{digest[:2]}/{words or 'picture'}-{digest}"


def fetched_file(text: str, folder: Path) -> str | None:
    """Return the name below a folder of the file that an address was fetched to; None where there is none."""
    address = address_of(text)
    if address is None:
        return None
    name = fetched_name(address)
    if not os.path.isdir(f"{folder}/{name[:2]}"):  # noqa: PTH112 - nearly every folder of pictures was not fetched
        return None
    return next((f"{name}.{end}" for end in ENDINGS if os.path.isfile(f"{folder}/{name}.{end}")), None)  # noqa: PTH113


def is_public(number: str) -> bool:
    """Say whether an IP address is one of the public internet, also where it holds an older one inside."""
    found = ip_address(number.partition("%")[0])
    if isinstance(found, IPv6Address):
        inner = found.ipv4_mapped
        if found in _NAT64:
            inner = ip_address(found.packed[12:])  # type: ignore[assignment]
        elif found in _6TO4:
            inner = found.sixtofour
        if inner is not None:
            return is_public(str(inner))
    inside = found.is_multicast or found.is_reserved or getattr(found, "is_site_local", False)
    return found.is_global and not inside
