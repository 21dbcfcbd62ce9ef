"""SPEX: coded ablation patterns and a decoder for sparse Fourier spectra."""

from spex.coded.method import Spex

__all__ = ["Spex"]
