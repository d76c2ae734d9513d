"""The pelts of hares and lynxes that the Hudson's Bay Company took in from 1900 to 1920."""

from __future__ import annotations

from dataclasses import replace

from physid.catalog import Option, one_of
from physid.data.catalogue import DataSet
from physid.data.experiment import Experiment
from physid.datasets.measured import Record
from physid.reading import read

PELTS = Record(
    "lynx_hare",
    "hudson-bay-lynx-hare.csv",
    "https://raw.githubusercontent.com/stan-dev/example-models/2847a61097354785ceda9fba40c7f761d6664491/knitr/"
    "lotka-volterra/hudson-bay-lynx-hare.csv",
    "66d3b24d30221a5654ab48cc461ea1d3f725f8f5719016f702cfb56610b4ee63",
)
OPTIONS = {
    "initial": Option("known or free: whether the pelts of 1900 are fitted too.", one_of("known", "free"), "free")
}


def load(*, initial: str) -> Experiment:
    """Thousands of pelts a year, u hares and v lynxes [21, 2], as a measure of both populations; time in years.

    Published figures for u' = alpha u - beta u v, v' = delta u v - gamma v: with normal errors of the logarithms the
    maximum of the likelihood lies at alpha .5400, beta .02716, gamma .7966, delta .02370 a year, u(1900) 34.60,
    v(1900) 5.844, with sigma .2184 and .2201; Carpenter's posterior means are .55, .028, .80 and .024. This log-normal
    noise is that of the experiment, so that a fit finds these values where no other noise is asked for.

    Errors: as for `Record.path`.

    Source: Odum (1953), Fundamentals of Ecology, after Hewitt (1921); the table of Carpenter (2018), Predator-prey
    population dynamics: the Lotka-Volterra model in Stan.
    """
    (found,) = read(PELTS.path(), time="Year", channels=["Hare", "Lynx"], initial=initial)
    return replace(
        found,
        name="lynxhare",
        channels=("u", "v"),
        unit="thousands",
        time_unit="yr",
        source="pelts of the Hudson's Bay Company, 1900 to 1920, as tabulated by Carpenter (2018)",
        noise="lognormal",
        data_hash=PELTS.sha256,
        options={"initial": initial},
    )


ENTRY = DataSet(
    "lynxhare", "Hares and lynxes by their pelts, 1900 to 1920 (measured).", OPTIONS, load, {"full": "lotka-volterra"}
)
