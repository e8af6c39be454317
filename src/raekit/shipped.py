"""What ships inside the package beside the code: the small models and every recipe.

In: a path that a user or a recipe names. Out: that path; or, where nothing lies there, the one of that name inside the
package. So ``recipes/nano/generator.yaml`` and ``models/nano/generator`` mean the same in a checkout and after
``pip install``, in whatever directory.
"""

from __future__ import annotations

from pathlib import Path

PACKAGE = Path(__file__).parent
FOLDERS = ("models", "recipes")
"""Folders of the package that paths may begin with."""


def find(path: Path | str) -> Path:
    """``path``, here or else inside the package; as it is, with ``~`` written out, if it is in neither."""
    here = Path(path).expanduser()
    inside = PACKAGE / here
    is_ours = bool(here.parts) and here.parts[0] in FOLDERS and inside.exists()
    return inside if is_ours and not here.exists() else here
