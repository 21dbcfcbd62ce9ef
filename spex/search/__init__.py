"""Exact subset search on a sparse spectrum."""

from spex.search.subsets import Found, best_subset, smallest_flip

__all__ = ["Found", "best_subset", "smallest_flip"]
