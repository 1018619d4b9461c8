"""``python -m prober.sandbox``."""

from __future__ import annotations

import sys

from prober.sandbox.process import main

if __name__ == "__main__":
    sys.exit(main())
