"""Recording runs of silicon at a temperature.

A glass or melt is made once from the seed. Every run starts from it with velocities and random
forces of its own, is kept at its temperature for a while that is thrown away, and is then
recorded. In a liquid such runs soon have nothing in common; in a solid they are independent
vibrations of the same glass, and another seed is another glass.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from generative.trajectories import Trajectory

from .dynamics import Quench, Stopped, hold
from .engine import SILICON, TIMESTEP_PS, Engine

_TICK = 50  # frames between two looks at `stop`


@dataclass(frozen=True, kw_only=True)
class Recording:
    """What is recorded of which glass or melt.

    Attributes
    ----------
    quench : Quench
        How it is made; it ends at the temperature of the recording.
    frames : int
        Of each run.
    interval : float
        Between frames, fs; a multiple of the time step of 1 fs.
    runs : int
    settle : float
        At the temperature before the first frame, ps.

    Raises
    ------
    ValueError
        If a number makes no sense.
    """

    quench: Quench
    frames: int = 40_000
    interval: float = 10.0
    runs: int = 1
    settle: float = 50.0

    def __post_init__(self):
        if self.frames < 2 or self.runs < 1:
            msg = f"a run has 2 frames at least, got {self.frames} frames, {self.runs} runs"
            raise ValueError(msg)
        steps = self.interval / 1000 / TIMESTEP_PS
        if not (math.isfinite(steps) and steps >= 1 and abs(steps - round(steps)) < 1e-9):
            step = 1000 * TIMESTEP_PS
            msg = f"interval must be a multiple of {step:g} fs, got {self.interval}"
            raise ValueError(msg)

    @property
    def picoseconds(self) -> float:
        """Return how long all of it takes."""
        one = self.settle + self.frames * self.interval / 1000
        return self.quench.picoseconds + self.runs * one

    def run(
        self,
        progress: Callable[[float], None] = lambda _: None,
        stop: Callable[[], bool] = lambda: False,
    ) -> list[Trajectory]:
        """Make the glass or melt, and record all runs.

        Parameters
        ----------
        progress : callable
            Given the picoseconds just done.
        stop : callable

        Raises
        ------
        Stopped
            If `stop` returned true.
        """
        runs = []
        with self.quench.engine() as engine:
            self.quench.run(engine, progress, stop)
            start = engine.positions()
            for number in range(self.runs):
                rng = np.random.default_rng((self.quench.seed, 1 + number))
                engine.move(start)
                engine.draw_velocities(self.quench.temperature, rng)
                both = self.quench.temperature, self.quench.temperature
                hold(engine, *both, self.settle, rng, progress, stop)
                runs.append(self._record(engine, number, progress, stop))
        return runs

    def _record(
        self,
        engine: Engine,
        number: int,
        progress: Callable[[float], None],
        stop: Callable[[], bool],
    ) -> Trajectory:
        steps = round(self.interval / 1000 / TIMESTEP_PS)
        positions = np.empty((self.frames, self.quench.atoms, 3))
        energy, temperature = np.empty(self.frames), np.empty(self.frames)
        engine.commands("run 0 post no")
        for frame in range(self.frames):
            # without the set-up of a run: nothing has changed since the last piece
            engine.commands(f"run {steps} pre no post no")
            positions[frame] = engine.positions()
            energy[frame] = engine.thermo("pe")
            temperature[frame] = engine.thermo("temp")
            if frame % _TICK == _TICK - 1:
                progress(_TICK * self.interval / 1000)
                if stop():
                    raise Stopped
        measured = {"run": number, "mean_temperature": float(temperature.mean())}
        return Trajectory(
            positions=positions,
            cell=np.eye(3) * self.quench.edge,
            periodic=np.ones(3, bool),
            numbers=np.full(self.quench.atoms, SILICON),
            energy=energy,
            interval=self.interval,
            provenance=self.quench.describe(engine) | {"settle": self.settle} | measured,
        )
