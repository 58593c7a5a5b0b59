"""Environments of atoms without a frame: Gram matrices, canonical labels, and their models."""
