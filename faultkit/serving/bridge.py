"""Where a container on this machine finds a server of its host."""

from __future__ import annotations

import ipaddress

from faultkit.errors import Unable

# The bridges that Docker and Podman make, by their default names.
BRIDGES = ("docker0", "podman0", "cni-podman0")


def address(listening: str) -> str:
    """The address for a server that listens there: itself, or where that is on every address, the bridge's, or else that of the
    interface with the default route. Raises `Unable` where there is none."""
    if not ipaddress.ip_address(listening).is_unspecified:
        return listening
    import netifaces

    family = netifaces.AF_INET6 if ":" in listening else netifaces.AF_INET
    there = netifaces.interfaces()
    default = netifaces.gateways().get("default")
    gateway = default.get(family) if isinstance(default, dict) else None
    for name in (*BRIDGES, *([gateway[1]] if gateway else [])):
        for found in netifaces.ifaddresses(name).get(family, []) if name in there else []:
            host = str(found["addr"]).partition("%")[0]
            if not ipaddress.ip_address(host).is_link_local:
                return host
    raise Unable(
        f"no address of this host that a container has: none of {', '.join(BRIDGES)}, and no default route; give host= one"
    )
