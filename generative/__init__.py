"""Generative models of molecular geometries and atomic structures.

The models come with later versions; `coulex` never imports this package.
"""
