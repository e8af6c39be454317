"""Write recipes/schema.json, by which editors check recipes while they are typed.

python scripts/write_schema.py
"""

from __future__ import annotations

import json

from raekit import shipped
from raekit.training.recipe import json_schema

if __name__ == "__main__":
    path = shipped.PACKAGE / "recipes/schema.json"
    path.write_text(json.dumps(json_schema(), indent=1) + "\n", encoding="utf-8")
    print(f"wrote {path}")
