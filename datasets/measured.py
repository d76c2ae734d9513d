"""Measured records kept by others: found under PHYSID_DATA, in the cache, or fetched once; known by their sha256."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from physid.arrays import Array
from physid.data.experiment import Experiment, Trajectory
from physid.data.inputs import Inputs
from physid.datasets.fetch import cache_folder, content, data_folder, download, kept
from physid.errors import InputError, MissingError


@dataclass(frozen=True)
class Record:
    """One file: the folder that holds it under PHYSID_DATA, its name, where it is published, its sha256."""

    folder: str
    name: str
    url: str
    sha256: str

    def path(self) -> Path:
        """The file, checked.

        Errors: InputError when the file has another content; MissingError when it is nowhere and cannot be fetched.
        """
        root = data_folder()
        places = [cache_folder() / self.folder / self.name]
        if root is not None:
            places.insert(0, root / self.folder / self.name)
        found = next((place for place in places if kept(place)), None)
        if found is None:
            try:
                return download(self.url, places[-1], sha256=self.sha256)
            except MissingError as error:
                raise MissingError(
                    f"{error} Or name a folder by PHYSID_DATA and put the file there as {self.folder}/{self.name}."
                ) from error
        digest = hashlib.sha256(content(found)).hexdigest()
        if digest != self.sha256:
            raise InputError(
                f"{found} has sha256 {digest}, not {self.sha256}: it is another file, or a damaged one. Put the "
                "original there, or remove it to have it fetched."
            )
        return found


def driven(
    name: str, time: Array, measured: Array, drive: tuple[str, Array], channel: tuple[str, str], **about: Any
) -> Experiment:
    """One channel (name, unit) that was `measured` [T] at times in s, driven by one input (name, samples [T])."""
    return Experiment(
        name=name,
        train=Trajectory(torch.from_numpy(time), torch.from_numpy(measured[:, None].copy())),
        channels=channel[:1],
        unit=channel[1],
        time_unit="s",
        inputs=Inputs.through(time, drive[1], [drive[0]]),
        integrator={"solver": "rk4"},
        **about,
    )
