"""From one environment to another by way of others: in the latents of a model, or straight.

`latent` encodes both ends and decodes points of the straight line between their latents. Every
point is an environment that the decoder knows; the ends are as good as it reconstructs them.

`geodesic` is the baseline that learns nothing: the second end is given the labels and the
frame in which it lies nearest to the first, and each atom goes straight. In that frame the
line is the shortest way between the two shapes, if atoms cost what they move. Nothing keeps
atoms apart on the way.
"""

from typing import Any

import numpy as np
import torch

from .canonical import Template, label


def latent(model: Any, a: np.ndarray, b: np.ndarray, steps: int) -> np.ndarray:
    """Return environments (m, steps, n, 3) on the way from a to b (m, n, 3), Å.

    Parameters
    ----------
    model : Model
        With `encode` and `decode`, without a condition.
    a, b : (m, n, 3) array
        Å, with any labels and in any frame: both get the labels that the model has learned,
        unless these are random.
    steps : int
        Points, both ends among them.

    Raises
    ------
    ValueError
        If the model has no latents, or needs a condition.
    """
    if not (hasattr(model, "encode") and hasattr(model, "decode")):
        msg = f"{model.name} has no latents to interpolate in"
        raise ValueError(msg)
    if model.condition_size:
        msg = f"{model.name} was trained with a context, which the environments between lack"
        raise ValueError(msg)
    seen = model.representation
    if seen.labels != "augment":
        rng = np.random.default_rng(0)
        a, b = (seen.encode({"neighbours": x}, rng)[0] for x in (a, b))
    none = model.centre.new_zeros(len(a), 0)
    with torch.no_grad():
        start, end = (
            model.encode(torch.from_numpy(np.asarray(x, float)).to(model.centre), none)
            for x in (a, b)
        )
        way = [
            model.decode(torch.lerp(start, end, float(share)), none)
            for share in np.linspace(0, 1, steps)
        ]
    return torch.stack(way, 1).double().cpu().numpy()


def geodesic(a: np.ndarray, b: np.ndarray, steps: int, *, proper: bool = False) -> np.ndarray:
    """Return environments (m, steps, n, 3) on the straight way from a to b (m, n, 3), Å.

    Parameters
    ----------
    a, b : (m, n, 3) array
        Å, with any labels and in any frame; the way is in the frame of a.
    steps : int
        Points, both ends among them.
    proper : bool
        Whether mirror images are told apart.
    """
    near = np.argsort(np.linalg.norm(a, axis=2), axis=1)
    a = np.take_along_axis(np.asarray(a, float), near[..., None], axis=1)
    pairs = zip(a, b, strict=True)
    ends = [label(y[None], Template(x, proper)).x[0] for x, y in pairs]
    b = np.array(ends).reshape(a.shape)
    share = np.linspace(0, 1, steps)[:, None, None]
    return (1 - share) * a[:, None] + share * b[:, None]


def closest_pair(x: np.ndarray) -> np.ndarray:
    """Return the least distance (...) of two atoms of environments (..., n, 3), in Å.

    The centre is one of them. On a way between two real environments it tells whether what
    lies between could be one.
    """
    whole = np.concatenate([np.zeros_like(x[..., :1, :]), x], axis=-2)
    i, j = np.triu_indices(whole.shape[-2], 1)
    return np.linalg.norm(whole[..., i, :] - whole[..., j, :], axis=-1).min(-1)
