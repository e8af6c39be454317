"""Renew the tables of docs/scaling.md: what the published sizes would take on 8 to 512 GPUs. Takes a minute.

python scripts/write_scaling.py
"""

from __future__ import annotations

from pathlib import Path

from raekit.training.planning.scaling import renewed

if __name__ == "__main__":
    root = Path(__file__).parents[1]
    page = root / "docs/scaling.md"
    page.write_text(renewed(page.read_text(encoding="utf-8"), root / "recipes/stage2"), encoding="utf-8")
    print(f"wrote {page}")
