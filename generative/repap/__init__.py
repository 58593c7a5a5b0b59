"""RePAP: atomic structures placed one coordinate after the other, each on a grid of cells.

A structure of N atoms in a box is a sequence x0, y0, z0, x1, ... of 3N coordinates. A network
gives the distribution of the next coordinate on the cells of its axis, given all before it, so
that the density of a structure is a product that is known exactly.
"""
