"""A data set of one's own: readings of a cooling cup, by name in `physid.load`, `physid list` and `physid fit`."""

import numpy as np

from physid import Experiment, Trajectory, fit, load
from physid.catalog import Option, number
from physid.data.catalogue import CATALOG, DataSet
from physid.models import build


def cup(*, until: float) -> Experiment:
    """The excess temperature of a cup of tea in a room, in kelvin, each minute up to `until`."""
    minutes = np.arange(0.0, until + 0.5)
    excess = 60.0 * np.exp(-0.035 * minutes) + 0.5 * np.random.default_rng(3).standard_normal(len(minutes))
    data = Trajectory(minutes, excess[:, None])
    return Experiment("cup", data, initial=[60.0], channels=("excess",), unit="K", time_unit="min", sigma=0.5)


# An installed package names it in its pyproject.toml instead: [project.entry-points."physid.datasets"].
UNTIL = Option("The last reading, in minutes.", number(5.0), 45.0)
CATALOG["cup"] = DataSet("cup", "A cup of tea that cools.", {"until": UNTIL}, cup, knowledge={"full": "exponential"})

if __name__ == "__main__":
    experiment = load("cup", until=30.0)
    print(fit(build(experiment), experiment).report())
