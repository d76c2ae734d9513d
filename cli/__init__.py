"""The command line: `physid COMMAND`; one file per command, loaded when it is called."""

from __future__ import annotations

from physid.cli.app import main

__all__ = ["main"]
