"""Pictures of the viewer as PNG, and the place of a page that was given none."""

from __future__ import annotations

import io
import tempfile
from pathlib import Path
from typing import Any


def encoded(image: Any) -> bytes:
    """A picture [height, width, 3] as PNG."""
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(image).save(file, format="PNG", optimize=True)
    return file.getvalue()


def new_place() -> Path:
    """A path for a page that was given none, in a new folder of the machine's temporary one."""
    return Path(tempfile.mkdtemp(prefix="physid-")) / "forecast.html"
