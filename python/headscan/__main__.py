"""``python -m headscan`` is the command ``headscan``."""

from __future__ import annotations

import sys

from headscan_command import main

sys.exit(main())
