"""Data: experiments, the inputs that drove them, series, and what is held out of them."""

from __future__ import annotations
