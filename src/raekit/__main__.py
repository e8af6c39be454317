"""``python -m raekit``: the same command line as ``raekit``."""

from __future__ import annotations

from raekit.cli.app import main

if __name__ == "__main__":
    main()
