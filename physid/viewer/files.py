"""Files of the viewer: written beside their place and moved there in one step."""

from __future__ import annotations

import io
import tempfile
from pathlib import Path
from typing import Any

from physid.errors import InputError
from physid.store import put


def encoded(image: Any) -> bytes:
    """A picture [height, width, 3] as PNG."""
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(image).save(file, format="PNG", optimize=True)
    return file.getvalue()


def new_place() -> Path:
    """A path for a page that was given none, in a new folder of the machine's temporary one."""
    return Path(tempfile.mkdtemp(prefix="physid-")) / "forecast.html"


def write(path: Path, data: bytes) -> Path:
    """Write a file beside its place and move it there in one step; InputError when that fails."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        put(path, data)
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error.strerror}. Choose another place.") from error
    return path
