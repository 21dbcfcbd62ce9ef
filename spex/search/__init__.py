"""Exact subset search on a sparse spectrum."""

from spex.search.subsets import Found, best_subset, smallest_flip, smallest_sufficient

__all__ = ["Found", "best_subset", "smallest_flip", "smallest_sufficient"]
