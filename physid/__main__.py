"""`python -m physid`: the command line, from a bare checkout too."""

from __future__ import annotations

import sys

from physid.cli import main

if __name__ == "__main__":
    sys.exit(main())
