"""What a test needs beyond the extra `test`: it is skipped where that is missing, with the command that mends it."""

from __future__ import annotations

from importlib.util import find_spec

import pytest

MEND = 'Mend it: python -m pip install -e ".[alltests]"'


def lacking(*packages: str) -> str:
    """Why a test cannot run here and what mends it; empty when all packages are installed."""
    absent = [package for package in packages if find_spec(package) is None]
    return f"not installed: {', '.join(absent)}. {MEND}" if absent else ""


def needs(*packages: str) -> pytest.MarkDecorator:
    """Skip the test where a package is missing."""
    reason = lacking(*packages)
    return pytest.mark.skipif(bool(reason), reason=reason)
