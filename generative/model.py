"""What every generative model is: a distribution of samples given a condition.

A model sees samples and conditions in the units of its representation. The base shifts and
scales them to mean 0 and deviation 1, as measured on training data, and back; what an author
of a model writes (`_loss`, `_sample`, `_log_prob`) lives in scaled numbers only.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from . import choices
from .representation import Batch, Representation
from .score import Score

MODELS: dict[str, type["Model"]] = {}  #: filled by the classes themselves, keyed by `name`

#: the module of each model that comes with the package, imported when it is asked for
HOMES = {
    "gaussian": "gaussian",
    "mlp": "mlp",
    "cvae": "cvae",
    "cvae-two-stage": "cvae",
    "cinn": "cinn",
    "cinn-latent": "cinn",
    "flow": "flow",
    "gram-vae": "gram.vae",
    "gram-diffusion": "gram.diffusion",
    "gram-equivariant": "gram.spherical",
    "gram-graph": "gram.graph",
    "repap": "repap.model",
}


def model_class(name: str) -> type["Model"]:
    """Return the class of a model, of ours or one that registered itself.

    Raises
    ------
    ValueError
        If there is none of that name.
    """
    if name in HOMES:
        import_module(f".{HOMES[name]}", __package__)
    if name not in MODELS:
        msg = f"no model {name!r}; there are {', '.join(sorted({*HOMES, *MODELS}))}"
        raise ValueError(msg)
    return MODELS[name]


@dataclass(frozen=True, kw_only=True)
class Options:
    """The sizes and choices of a model; the command line uses the same names.

    Subclasses check themselves in `__post_init__`, and list in `PRESETS` what differs from
    the defaults, "published" for the recipe of a publication.
    """

    PRESETS: ClassVar[dict[str, dict[str, Any]]] = {}
    #: what `generative.train.Training` and the representation are to be with a preset, or,
    #: under "default", without one
    TRAINING: ClassVar[dict[str, dict[str, Any]]] = {}
    REPRESENTATION: ClassVar[dict[str, dict[str, Any]]] = {}

    @classmethod
    def preset(cls, name: str | None, **changes: Any) -> "Options":
        """Return the options of a preset, some of them changed.

        Raises
        ------
        ValueError
            If there is no such preset or option, or a value is of another kind.
        """
        if name is not None and name not in cls.PRESETS:
            msg = f"no preset {name!r}; there are {', '.join(cls.PRESETS) or 'none'}"
            raise ValueError(msg)
        choices.check(cls, changes)
        return cls(**{**(cls.PRESETS[name] if name else {}), **changes})

    def describe(self) -> dict[str, Any]:
        """Return the options, ready for JSON."""
        return asdict(self)


class Model(nn.Module, ABC):
    """A distribution p(sample | condition) with learnable parameters.

    Subclasses are final. They set `name` and `options_type`, and implement `_loss` and
    `_sample`; those that know their density, or a bound of it, implement `_log_prob` as well.

    Parameters
    ----------
    options : Options
        Of the class's own kind.
    representation : Representation
        Its shape and condition size are those of the model.

    Attributes
    ----------
    centre, spread : (*shape) tensors
        Of the samples; `condition_centre`, `condition_spread` (condition_size,) likewise.
    condition_low, condition_high : (condition_size,) tensors
        The least and the largest of each number of a condition in training.
    """

    name: ClassVar[str]
    options_type: ClassVar[type[Options]]
    sees: ClassVar[str] = "geometry"  #: the kind of representation that it is made for
    standardised: ClassVar[bool] = True  #: False: `_loss` sees samples as they are
    centre: Tensor
    spread: Tensor
    condition_centre: Tensor
    condition_spread: Tensor
    condition_low: Tensor
    condition_high: Tensor

    def __init_subclass__(cls) -> None:
        if "name" in cls.__dict__:
            MODELS[cls.name] = cls

    def __init__(self, options: Options, representation: Representation) -> None:
        super().__init__()
        self.options = options
        self.representation = representation
        self.shape = tuple(representation.shape)
        self.condition_size = representation.condition_size
        self.register_buffer("centre", torch.zeros(self.shape))
        self.register_buffer("spread", torch.ones(self.shape))
        self.register_buffer("condition_centre", torch.zeros(self.condition_size))
        self.register_buffer("condition_spread", torch.ones(self.condition_size))
        anything = torch.full((self.condition_size,), torch.inf)
        self.register_buffer("condition_low", -anything)
        self.register_buffer("condition_high", anything)

    # -- what users call

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """Return the scalar to minimize as "loss", and parts worth logging beside it."""
        return self._loss(self._scaled(batch.x), self._scaled_condition(batch.condition))

    @torch.no_grad()
    def sample(self, condition: Tensor, n: int, generator: torch.Generator) -> Tensor:
        """Draw `n` samples for each condition.

        Parameters
        ----------
        condition : (m, condition_size) tensor
        n : int
        generator : torch.Generator
            On the device of the model.

        Returns
        -------
        (m, n, *shape) tensor
        """
        drawn = self._sample(self._scaled_condition(condition), n, generator)
        return drawn * self.spread + self.centre

    def draw(
        self, condition: Tensor, n: int, generator: torch.Generator, **how: Any
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Draw as `sample` does, in ways that are the model's own, and tell how it went.

        Parameters
        ----------
        condition, n, generator
            As of `sample`.
        how : dict
            Choices of drawing, with defaults; most models have none.

        Returns
        -------
        samples : (m, n, *shape) tensor
        notes : dict of (m, n) tensor
            Numbers worth keeping beside each sample.

        Raises
        ------
        ValueError
            If there is no such choice.
        """
        if how:
            msg = f"{self.name} draws in one way; it has no choice {', '.join(sorted(how))}"
            raise ValueError(msg)
        return self.sample(condition, n, generator), {}

    @torch.no_grad()
    def log_prob(self, x: Tensor, condition: Tensor) -> Score:
        """Return log p(x | condition) in nats, in the units of the representation.

        Parameters
        ----------
        x : (m, *shape) tensor
        condition : (m, condition_size) tensor

        Raises
        ------
        TypeError
            If the model has no density, nor a bound of it.
        """
        score = self._log_prob(self._scaled(x), self._scaled_condition(condition))
        return score.shifted(-self.spread.double().log().sum().to(score.value))

    @property
    def has_density(self) -> bool:
        """Return whether `log_prob` gives anything."""
        return type(self)._log_prob is not Model._log_prob

    def standardise(self, batches: Iterator[Batch]) -> None:
        """Take mean, deviation and range of samples and conditions from training data.

        A number that does not vary keeps its scale: it is shifted, never divided by zero.
        """
        moments = [_Moments(self.shape), _Moments((self.condition_size,))]
        for batch in batches:
            moments[0].add(batch.x)
            moments[1].add(batch.condition)
        if self.standardised:
            self.centre.copy_(moments[0].mean)
            self.spread.copy_(moments[0].deviation())
        self.condition_centre.copy_(moments[1].mean)
        self.condition_spread.copy_(moments[1].deviation())
        self.condition_low.copy_(moments[1].low)
        self.condition_high.copy_(moments[1].high)

    def finish(self, batches: Iterator[Batch]) -> None:  # noqa: B027, most models need none
        """Learn what comes after the parameters, from training data: stored latents, say."""

    def save(self, folder: Path, **about: Any) -> None:
        """Write everything that `load` needs into a folder; see `generative.files`."""
        from .files import save

        save(self, folder, **about)

    # -- what models implement, in scaled numbers

    @abstractmethod
    def _loss(self, x: Tensor, c: Tensor) -> dict[str, Tensor]:
        """Return "loss", the mean over the batch, and its parts."""

    @abstractmethod
    def _sample(self, c: Tensor, n: int, generator: torch.Generator) -> Tensor:
        """Return (m, n, *shape)."""

    def _log_prob(self, x: Tensor, c: Tensor) -> Score:  # noqa: ARG002
        msg = f"{self.name} has no density; it can only be sampled"
        raise TypeError(msg)

    def _scaled(self, x: Tensor) -> Tensor:
        return (x - self.centre) / self.spread

    def _scaled_condition(self, c: Tensor) -> Tensor:
        return (c - self.condition_centre) / self.condition_spread


class _Moments:
    """Mean, variance and range of a stream, by pairwise updates (Chan et al. 1979)."""

    def __init__(self, shape: tuple[int, ...]):
        self.count = 0
        self.mean = torch.zeros(shape, dtype=torch.float64)
        self.square = torch.zeros(shape, dtype=torch.float64)
        self.high = torch.full(shape, -torch.inf, dtype=torch.float64)
        self.low = -self.high

    def add(self, rows: Tensor) -> None:
        rows, n = rows.double().cpu(), len(rows)
        mean = rows.mean(0)
        self.low, self.high = self.low.minimum(rows.amin(0)), self.high.maximum(rows.amax(0))
        step, total = mean - self.mean, self.count + n
        self.square += ((rows - mean) ** 2).sum(0) + step**2 * (self.count * n / total)
        self.mean += step * (n / total)
        self.count = total

    def deviation(self) -> Tensor:
        """Return the standard deviation; 1 where it is only rounding."""
        deviation = (self.square / max(self.count, 1)).sqrt()
        scale = torch.maximum(
            self.mean.abs(), deviation.max() if deviation.numel() else deviation
        )
        return torch.where(deviation > 1e-6 * scale, deviation, torch.ones_like(deviation))


def load(folder: Path) -> Model:
    """Read back a model written by `Model.save`, on the CPU and ready to sample."""
    from .files import load

    return load(folder)
