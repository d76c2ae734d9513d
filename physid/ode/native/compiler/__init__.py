"""The compiler of the native engine: from f as recorded to a loaded C library."""

from __future__ import annotations
