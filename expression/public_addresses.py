"""Which IP addresses lie in the public internet.

Why: Python's `is_global` depends on its version. 192.88.99.1 was global until 3.12, and 3.10 does
not know 3fff::/20, so one machine would refuse an address that another one fetches from. Here the
registries are written out.
Source: IANA's special-purpose address registries for IPv4 and IPv6 (RFC 6890 and its updates), and
multicast. No picture is served from any of these ranges, so all of them are refused, also the few
that IANA calls globally reachable.
"""

import ipaddress

__all__ = ["is_public"]

SPECIAL_IPV4 = (
    "0.0.0.0/8",  # this network
    "10.0.0.0/8",  # private
    "100.64.0.0/10",  # shared by a provider's customers
    "127.0.0.0/8",  # this machine
    "169.254.0.0/16",  # link-local, and the metadata of cloud machines
    "172.16.0.0/12",  # private
    "192.0.0.0/24",  # protocol assignments
    "192.0.2.0/24",  # documentation
    "192.31.196.0/24",  # AS112
    "192.52.193.0/24",  # AMT
    "192.88.99.0/24",  # 6to4 relays, deprecated
    "192.168.0.0/16",  # private
    "192.175.48.0/24",  # AS112
    "198.18.0.0/15",  # benchmarks
    "198.51.100.0/24",  # documentation
    "203.0.113.0/24",  # documentation
    "224.0.0.0/4",  # multicast
    "240.0.0.0/4",  # reserved, and broadcast
)
# All public IPv6 addresses lie in 2000::/3; these parts of it are special
PUBLIC_IPV6 = "2000::/3"
SPECIAL_IPV6 = (
    "2001::/23",  # protocol assignments: Teredo, ORCHID, AMT, AS112
    "2001:db8::/32",  # documentation
    "2002::/16",  # 6to4, which wraps an IPv4 address
    "2620:4f:8000::/48",  # AS112
    "3fff::/20",  # documentation
)
IPV4 = tuple(map(ipaddress.IPv4Network, SPECIAL_IPV4))
IPV6 = tuple(map(ipaddress.IPv6Network, SPECIAL_IPV6))


def is_public(address: str) -> bool:
    """Whether an IP address, also an IPv4 address written as IPv6, is in the public internet.

    Raises ValueError for what is no IP address.
    """
    ip = ipaddress.ip_address(address)
    ip = getattr(ip, "ipv4_mapped", None) or ip
    if isinstance(ip, ipaddress.IPv4Address):
        return not any(ip in network for network in IPV4)
    inside = ip in ipaddress.IPv6Network(PUBLIC_IPV6)
    return inside and not any(ip in network for network in IPV6)
