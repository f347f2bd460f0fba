"""The command that installs an extra, for a package installed from an index, a folder, a file or a repository.

A command that names the package alone asks an index for it. That index may lack the package, or have another release
of it; so the command repeats where the package was installed from.
"""

from __future__ import annotations

import json
from importlib import metadata
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

PACKAGE = "aichat-magic"


def install_command(extra: str = "", *, installed: metadata.Distribution | None = None) -> str:
    """Return the command that installs this package with an extra, from where it was installed.

    Args:
        extra: Name of the extra; empty: the package alone.
        installed: The installed package; default: the one of this process.

    Returns:
        One line for a shell, such as ``pip install -e "/home/ada/aichat_magic[prices]"``.

    Source: packaging.python.org, "Recording the Direct URL Origin of installed distributions".
    """
    wanted = f"[{extra}]" if extra else ""
    if installed is None:
        try:
            installed = metadata.distribution(PACKAGE)
        except metadata.PackageNotFoundError:  # run from a folder that was never installed
            return f'pip install "{PACKAGE}{wanted}"'
    # An environment of uv has no pip.
    pip = "uv pip" if (installed.read_text("INSTALLER") or "").strip() == "uv" else "pip"
    return f"{pip} install {_requirement(_origin(installed), wanted)}"


def _origin(installed: metadata.Distribution) -> dict[str, Any]:
    """Return the content of ``direct_url.json``; empty for a package from an index."""
    try:
        origin = json.loads(installed.read_text("direct_url.json") or "{}")
    except ValueError:
        return {}
    return origin if isinstance(origin, dict) and isinstance(origin.get("url"), str) else {}


def _requirement(origin: dict[str, Any], wanted: str) -> str:
    """Return what pip is to install. A folder or file that is gone is asked of the index, as nothing else is left."""
    url = str(origin.get("url", ""))
    place = Path(url2pathname(urlsplit(url).path)) if url.startswith("file:") else None
    vcs = origin.get("vcs_info")
    if not url or (place is not None and not place.exists()):
        return f'"{PACKAGE}{wanted}"'
    if isinstance(vcs, dict):
        revision = vcs.get("requested_revision") or vcs.get("commit_id")
        folder = origin.get("subdirectory")
        address = f"{vcs.get('vcs', 'git')}+{url}{f'@{revision}' if revision else ''}"
        return f'"{PACKAGE}{wanted} @ {address}{f"#subdirectory={folder}" if folder else ""}"'
    if place is None or place.is_file():
        return f'"{PACKAGE}{wanted} @ {url}"'
    folder_info = origin.get("dir_info")
    is_editable = isinstance(folder_info, dict) and folder_info.get("editable") is True
    return f'{"-e " if is_editable else ""}"{place}{wanted}"'
