"""What a task may reach: the items of a `network` list, each `"name:port"` or `"*.name:port"`."""

from __future__ import annotations

import re

from samovar.errors import OptionError

MOST_HOSTS = 100

#: Underscores are in no name of the Internet, but in those of services on a network of containers.
_LABEL = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?")
_ADDRESS = re.compile(r"(?:(?:25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)(?:\.(?!$)|$)){4}")
#: A last part that a resolver takes for a number, and so the whole for an address.
_NUMBER = re.compile(r"\d+|0x[0-9a-f]*")
_PORT = re.compile(r"[1-9]\d{0,4}")
_OWN = ("localhost", "ip6-localhost", "ip6-loopback")


def read_hosts(items: list[object] | tuple[object, ...]) -> list[str]:
    """The items as they are meant: lower case, names in ASCII, each once. Raises OptionError naming the item."""
    if len(items) > MOST_HOSTS:
        raise OptionError(
            f"network: {len(items)} hosts are more than {MOST_HOSTS}: name a domain with all below it, such as "
            '"*.example.com:443", or say network="public"'
        )
    return list(dict.fromkeys(_read(item) for item in items))


def _read(item: object) -> str:
    def refuse(why: str) -> OptionError:
        return OptionError(f'network: {item!r:.300} is not "host:port", such as "api.example.com:443": {why}')

    if not isinstance(item, str):
        raise refuse("it is no text")
    if "/" in item or "@" in item:
        raise refuse("write the name and the port alone, without scheme, user or path")
    if "[" in item or item.count(":") > 1:
        raise refuse(
            "an IPv6 address can't be named in a list; give it a name, and have the operator put that into the "
            "hosts of the sidecar"
        )
    name, colon, port = item.rpartition(":")
    if not colon:
        raise refuse(f'the port is missing; did you mean "{item}:443"?')
    if not _PORT.fullmatch(port) or int(port) > 65535:
        raise refuse("the port is a number from 1 to 65535")
    below = name.startswith("*.")
    if name == "*":
        raise refuse('every host is network="public"; all names below a domain are "*.example.com:443"')
    plain = _ascii(name[2:] if below else name)
    if plain is None or len(plain) > 253:
        raise refuse("the name is none: parts of 1 to 63 letters, digits and hyphens, joined by dots")
    labels = plain.split(".")
    if "*" in plain:
        raise refuse('a "*" stands for all names below a domain, as in "*.example.com:443", and nowhere else')
    if plain.endswith("."):
        raise refuse("write the name without the dot at its end")
    if not all(_LABEL.fullmatch(label) for label in labels):
        raise refuse("the name is none: parts of 1 to 63 letters, digits and hyphens, joined by dots")
    if _NUMBER.fullmatch(labels[-1]) and (below or not _ADDRESS.fullmatch(plain)):
        raise refuse("an address is written as four numbers, such as 10.0.0.5")
    if plain in _OWN or plain.endswith(".localhost") or plain.startswith("127."):
        raise refuse(
            "that is the container itself, which is reached in any case; a server on the host has to have a name "
            "that the operator puts into the hosts of the sidecar"
        )
    return f"{'*.' if below else ''}{plain}:{port}"


def _ascii(name: str) -> str | None:
    name = name.lower()
    if name.isascii():
        return name
    try:
        return name.encode("idna").decode("ascii")
    except UnicodeError:
        return None
