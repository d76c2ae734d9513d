"""Models by name: those of physid, which `physid.models` fills in, and those of installed packages."""

from __future__ import annotations

from physid.catalog import Registry
from physid.modelling.model import Model

MODELS: Registry[type[Model]] = Registry(
    "model", group="physid.models", of=Model, classes=True, filled_by="physid.models"
)
