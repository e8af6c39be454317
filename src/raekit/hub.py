"""Where a model lies: a directory here, or a repository of the Hugging Face hub that is fetched once.

In: what the user typed after ``--model``. Out: a directory. A whole model may hold several artefacts side by side
(``generator/``, ``autoencoder/``), as training runs and the bundled model do; :func:`part` finds the one that is meant.
"""

from __future__ import annotations

import re
from pathlib import Path

from raekit import shipped
from raekit.errors import UserError
from raekit.liveness import bounded_elsewhere

HUB_ID = re.compile(r"\w[\w.-]*/\w[\w.-]*")
CONFIG_FILE = "config.json"

FETCHED = ("*.json", "*.safetensors", "*.txt", "*.md")
"""What a repository is fetched for; never pickles."""


def local_model(model: str | Path, revision: str | None = None) -> Path:
    """The directory of ``model``: here, else inside the package, else fetched from the hub if it is an ``owner/name``.

    Args:
        model: a directory, or a hub id (text only: a ``Path`` is always a directory).
        revision: branch, tag or commit of the hub repository; by default its main branch.

    Returns:
        A directory, or a path where there is none (whoever reads it says so in its own words).

    Raises:
        UserError: the hub has no such repository or revision, or cannot be reached and the cache holds no copy; or a
            revision was named for a directory.
    """
    if not isinstance(model, str | Path):
        raise UserError(f"model: {model!r} is no path; give a directory, or the id of a hub repository as text")
    path = shipped.find(model)
    is_hub_id = isinstance(model, str) and HUB_ID.fullmatch(model) is not None
    if path.is_dir() or not is_hub_id:
        if revision is not None:
            raise UserError(f"revision: {revision!r} is for a hub repository, but model {str(model)!r} is a directory")
        return path
    return _fetched(str(model), revision)


def part(directory: Path, name: str) -> Path:
    """``directory`` if it is an artefact itself, else its sub-directory ``name`` if that is one, else ``directory``."""
    inside = directory / name
    has_own = (directory / CONFIG_FILE).is_file()
    return inside if not has_own and (inside / CONFIG_FILE).is_file() else directory


def _fetched(model: str, revision: str | None) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError, RepositoryNotFoundError, RevisionNotFoundError

    named = f"model {model!r}" + (f" at revision {revision!r}" if revision else "")
    try:
        with bounded_elsewhere():  # the hub's client gives up on a server that is silent
            return Path(snapshot_download(model, revision=revision, allow_patterns=list(FETCHED)))
    except RevisionNotFoundError:
        raise UserError(
            f"{named}: the repository has no such revision; name one of its branches, tags or commits"
        ) from None
    except RepositoryNotFoundError:
        raise UserError(
            f"{named}: no such directory here and no such repository on the hub, or it is not open to you; check the "
            "name, or log in with `hf auth login`"
        ) from None
    except LocalEntryNotFoundError:
        raise UserError(
            f"{named}: no such directory here, no copy in the hub's cache, and the hub cannot be reached (no network, "
            f"or HF_HUB_OFFLINE is set); run `hf download {model} --local-dir DIR` where there is a network and give "
            "that directory"
        ) from None
    except OSError as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"{named}: cannot be fetched ({reason}); try again, or give a directory") from None
