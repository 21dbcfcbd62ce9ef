"""Any oracle on several processes, of this machine or of a cluster, by Ray.

Nothing here imports Ray, the `ray` extra, until workers are started.
"""

from oracles.workers.oracle import Workers

__all__ = ["Workers"]
