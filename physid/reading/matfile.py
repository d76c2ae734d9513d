"""SciPy's reader of MAT files as a program of its own: a damaged file can crash it, and nothing else ends.

Run as `python -I matfile.py PATHS LIMIT KINDS` with the file on standard input: one line of JSON comes out, and then
the arrays as bytes. It imports nothing of physid, so that it starts fast.
"""

from __future__ import annotations

import io
import json
import sys
from typing import Any


def main() -> None:
    """Say what is in the file, what is wrong with it, or that it unpacks to more than LIMIT bytes."""
    sys.path[:] = json.loads(sys.argv[1])
    limit, kinds = int(sys.argv[2]), json.loads(sys.argv[3])
    import numpy as np
    from scipy.io import loadmat, whosmat

    data, answer, parts = sys.stdin.buffer.read(), {}, []
    opened: Any = io.BytesIO  # its type is not among those that the two functions declare
    try:
        about = [(name, [int(n) for n in shape], kind) for name, shape, kind in whosmat(opened(data))]
        chosen = [name for name, _, kind in about if kind in kinds]
        size = sum(8 * int(np.prod(shape, dtype=np.float64)) for name, shape, _ in about if name in chosen)
        answer = {"about": [(name, kind) for name, _, kind in about], "size": size}
        found: dict[str, Any] = loadmat(opened(data), variable_names=chosen) if chosen and size <= limit else {}
        arrays = [(name, np.asarray(found[name])) for name in dict.fromkeys(chosen) if name in found]
        parts = [np.ascontiguousarray(array).tobytes() for _, array in arrays]
        answer["arrays"] = [(name, array.dtype.str, array.shape) for name, array in arrays]
    except Exception as error:  # SciPy raises nearly anything for a damaged file
        answer, parts = {"error": str(error).strip() or type(error).__name__}, []
    sys.stdout.buffer.write(json.dumps(answer).encode() + b"\n" + b"".join(parts))


if __name__ == "__main__":
    main()
