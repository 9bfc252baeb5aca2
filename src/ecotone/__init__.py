"""Ecotone: one self-hosted program for open and proprietary language models."""

__version__ = "0.1.0"
