"""Atoms that are missing from an environment: completed by what was learned of whole ones.

Known are some atoms about a centre, in any order and frame; what is said of the missing ones
follows from these alone, or from outer neighbours as well. Models that draw missing atoms have
a method `infill` (`gram-diffusion`, `gram-equivariant`, `gram-graph`); an autoencoder
(`gram-vae`) is searched (`generative.gram.search`); `generative.gram.lookup` looks them up.

All give (m, n, atoms, 3) in Å, the known atoms first and as they were given.
"""

from typing import Any

import numpy as np
import torch

from .search import Search, searched


def infill(
    model: Any,
    known: np.ndarray,
    n: int,
    generator: torch.Generator,
    *,
    outer: np.ndarray | None = None,
    search: Search | None = None,
) -> np.ndarray:
    """Complete environments by a model, whichever way it has.

    Parameters
    ----------
    model : Model
    known : (m, k, 3) array
        Å, about the centre.
    n : int
        Completions of each. Of a search, the ends with the least f.
    generator : torch.Generator
    outer : (m, context, 3) array, optional
        Neighbours beyond the environment, in the same frame; for models with a context.
    search : Search, optional
        For models that are searched.

    Raises
    ------
    ValueError
        If the model cannot fill in, or if its context is missing.
    """
    known = np.asarray(known, float)
    context = getattr(model.representation, "context", 0)
    if context and outer is None:
        msg = f"{model.name} was trained with a context of {context} outer neighbours"
        raise ValueError(msg)
    told = np.zeros((len(known), 0, 3)) if not context else np.asarray(outer, float)
    if told.shape != (len(known), context, 3):
        msg = f"a context of {(len(known), context, 3)} is needed, got {told.shape}"
        raise ValueError(msg)
    if hasattr(model, "infill"):
        tensors = (torch.from_numpy(a).to(model.centre) for a in (known, told))
        with torch.no_grad():
            one, other = tensors
            drawn = model.infill(one, other.flatten(1), n, generator)
        drawn = drawn.double().cpu().numpy()
        drawn[:, :, : known.shape[1]] = known[:, None]
        return drawn
    if not hasattr(model, "decode_gram"):
        msg = f"{model.name} can neither draw missing atoms nor be searched for them"
        raise ValueError(msg)
    return searched(model, known, told, n, generator, search or Search.ending_in(n))
