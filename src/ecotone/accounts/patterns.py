"""Lists of models and networks that bound a key, and how two of them join. Pure.

A pattern is a model's or route's name, or the beginning of one followed by `*`. An empty list bounds nothing.
"""

import ipaddress
import re
from collections.abc import Iterable

from ecotone.vocabulary import Invalid

NO_MODEL = "-"
"""A pattern that no model and no route fits: what is left of two lists that share nothing."""
NO_NETWORK = "0.0.0.0/32"
"""A network that nobody calls from."""
MOST = 100
PATTERN = re.compile(r"[\w.@:/-]{1,200}\*?|\*", re.ASCII)
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def checked_models(patterns: Iterable[str]) -> tuple[str, ...]:
    """Patterns, each once. Raises Invalid, naming the one that is none."""
    found = tuple(dict.fromkeys(patterns))
    if len(found) > MOST:
        raise Invalid(f"At most {MOST} patterns of models can be named.", param="models")
    for pattern in found:
        if not PATTERN.fullmatch(pattern) or pattern == NO_MODEL:
            raise Invalid(
                f"{pattern!r} is no pattern of models: a name such as openai/gpt-4o or assistant, or the beginning of "
                "one and a star, such as openai/*.",
                param="models",
            )
    return found


def checked_networks(networks: Iterable[str]) -> tuple[str, ...]:
    """Networks in their usual writing, each once; an address alone is a network of one. Raises Invalid."""
    found = tuple(dict.fromkeys(str(_network(text)) for text in networks))
    if len(found) > MOST:
        raise Invalid(f"At most {MOST} networks can be named.", param="networks")
    return found


def _network(text: str) -> Network:
    try:
        return ipaddress.ip_network(text.strip())
    except ValueError as error:
        raise Invalid(
            f"{text!r} is no network ({error}); an address, or one with the length of its prefix, is expected: "
            "10.0.0.0/8, 192.0.2.7 or 2001:db8::/32.",
            param="networks",
        ) from None


def fits(name: str, pattern: str) -> bool:
    """Whether a pattern covers a name, or another pattern whole."""
    return name.startswith(pattern[:-1]) if pattern.endswith("*") else name == pattern


def models_within(inner: tuple[str, ...], outer: tuple[str, ...]) -> bool:
    """Whether one list lets nothing pass that the other does not."""
    return not outer or (bool(inner) and all(any(fits(i, o) for o in outer) for i in inner))


def networks_within(inner: tuple[str, ...], outer: tuple[str, ...]) -> bool:
    """The same for networks."""
    return not outer or (bool(inner) and all(any(_lies_in(i, o) for o in outer) for i in inner))


def models_of_both(one: tuple[str, ...], other: tuple[str, ...]) -> tuple[str, ...]:
    """What both lists let pass. Exact: of two patterns one covers the other, or they share nothing."""
    if not one or not other:
        return one or other
    both = [a if fits(a, b) else b for a in one for b in other if fits(a, b) or fits(b, a)]
    return tuple(dict.fromkeys(both)) or (NO_MODEL,)


def networks_of_both(one: tuple[str, ...], other: tuple[str, ...]) -> tuple[str, ...]:
    """The same for networks."""
    if not one or not other:
        return one or other
    both = [a if _lies_in(a, b) else b for a in one for b in other if _lies_in(a, b) or _lies_in(b, a)]
    return tuple(dict.fromkeys(both)) or (NO_NETWORK,)


def _lies_in(inner: str, outer: str) -> bool:
    a, b = ipaddress.ip_network(inner), ipaddress.ip_network(outer)
    if isinstance(a, ipaddress.IPv4Network):
        return isinstance(b, ipaddress.IPv4Network) and a.subnet_of(b)
    return isinstance(b, ipaddress.IPv6Network) and a.subnet_of(b)
