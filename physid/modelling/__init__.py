"""Models: right-hand sides with unknowns and priors, where they stand, and what they observe."""

from __future__ import annotations
