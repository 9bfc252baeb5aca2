"""Which addresses users may name: the public network, and what a setting allows inside of the house. Pure."""

import ipaddress

from ecotone.settings.addresses import is_forbidden, is_public, literal_address
from ecotone.vocabulary import Invalid


class Allowed:
    """The rule of one setting.

    Args:
        allowed: hosts and networks beside the public ones, comma-separated.
        variable: the setting that they come from.

    Raises:
        Invalid: for what is neither a host nor a network.
    """

    def __init__(self, allowed: str, variable: str) -> None:
        names, networks = set(), []
        for text in filter(None, (part.strip().lower() for part in allowed.split(","))):
            try:
                networks.append(ipaddress.ip_network(text, strict=False))
            except ValueError:
                if "/" in text or ":" in text or literal_address(text) is not None:
                    raise Invalid(
                        f"{text!r} in {variable} is neither a host nor a network such as 10.1.0.0/16.", param=variable
                    ) from None
                names.add(text.rstrip("."))
        self.names = frozenset(names)
        self._networks = tuple(networks)

    def may_reach(self, host: str, address: str) -> bool:
        """Whether an IP address may be reached as that of a host."""
        if is_forbidden(address):
            return False
        found = ipaddress.ip_address(address.partition("%")[0])
        if isinstance(found, ipaddress.IPv6Address) and found.ipv4_mapped is not None:
            found = found.ipv4_mapped
        inside = any(found in network for network in self._networks if network.version == found.version)
        return inside or host in self.names or is_public(found)
