"""Exit codes of fits and trainings, by their status."""

from __future__ import annotations

EXIT_CODES = {"converged": 0, "not converged": 3, "diverged": 4, "interrupted": 130, "time limit": 124}
