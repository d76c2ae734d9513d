"""Reproduction of the paper's tables and figures, one command each, with the paper's numbers beside ours.

    physid.reproduce.reproduce("fig6", "fig6", quick=True)

An `Exhibit` says which `Cell`s are computed and how their results become a table and a figure; each finished cell is
kept, so that an interrupted run continues. A new exhibit is a file here and a line in `physid.reproduce.catalog`.
"""

from __future__ import annotations

from physid.lazy import names as _names
from physid.reproduce.catalog import EXHIBITS, exhibit
from physid.reproduce.exhibit import Cell, Exhibit, Results, Table, Work
from physid.reproduce.run import Reproduction, reproduce

__all__ = ["EXHIBITS", "Cell", "Exhibit", "Reproduction", "Results", "Table", "Work", "exhibit", "reproduce"]

__getattr__ = _names(__name__, {})
