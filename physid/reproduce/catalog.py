"""Catalogue of exhibits: a name, and the module and attribute where it stands."""

from __future__ import annotations

from physid.catalog import Registry
from physid.reproduce.exhibit import Exhibit

EXHIBITS: Registry[Exhibit] = Registry(
    "exhibit",
    places={
        "fig4": "physid.reproduce.vanderpol:FIG4",
        "fig5": "physid.reproduce.convolution:FIG5",
        "fig6": "physid.reproduce.toy:FIG6",
        "fig7": "physid.reproduce.image_runs:FIG7",
        "fig8": "physid.reproduce.orbits:FIG8",
        "fig9": "physid.reproduce.vanderpol:FIG9",
        "fig10": "physid.reproduce.hopper:FIG10",
        "fig11": "physid.reproduce.hopper:FIG11",
        "fig12": "physid.reproduce.hopper:FIG12",
        "fig21-23": "physid.reproduce.orbits:FIG21",
        "table1": "physid.reproduce.cost:TABLE1",
        "table2": "physid.reproduce.image_errors:EXHIBIT2",
        "table3": "physid.reproduce.image_runs:EXHIBIT3",
        "table4": "physid.reproduce.hopper:TABLE4",
        "table5": "physid.reproduce.table5:TABLE5",
        "table6": "physid.reproduce.image_errors:EXHIBIT6",
        "table7": "physid.reproduce.image_errors:EXHIBIT7",
    },
)


def exhibit(name: str) -> Exhibit:
    """The exhibit of that name. Errors: InputError with the nearest name where there is none."""
    return EXHIBITS.lookup(name)
