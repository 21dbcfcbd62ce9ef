"""ProxySPEX: recover a spectrum through a proxy, from few ablations."""

from proxyspex.method import ProxySpex
from proxyspex.trees import Boosting

__all__ = ["Boosting", "ProxySpex"]
