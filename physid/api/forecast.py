"""ViewableForecast: a forecast that shows itself in space."""

from __future__ import annotations

from dataclasses import fields
from typing import Any, Self

from physid.data.experiment import Experiment
from physid.predict.forecast import Forecast


class ViewableForecast(Forecast):
    """The forecast of a fit or a network, as `forecast` returns it to a user."""

    @classmethod
    def of_result(cls, found: Forecast) -> Self:
        """The same forecast, with what can be done with it."""
        return cls(**{one.name: getattr(found, one.name) for one in fields(found)})

    def view(self, experiment: Experiment | None = None, **settings: Any) -> object:
        """Show the forecast in space, beside what `experiment` measured: a window, a page, or the path of one.

        Settings: bodies, theme, size, camera; see physid.viewer.show.
        """
        from physid.viewer import show, tracks_of

        return show(tracks_of(self, experiment), **settings)
