"""Python imports this when it starts with this folder on its path: see `acceptance/removals.py`."""

import os

# Most programs that tests start are not told to do without anything, and `acceptance` is not on the path of all.
if os.environ.get("REMOVED_DEFENCE"):
    import importlib.util
    from pathlib import Path

    spec = importlib.util.spec_from_file_location("_removals", Path(__file__).parent.parent / "acceptance/removals.py")
    assert spec is not None
    assert spec.loader is not None
    removals = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(removals)
    removals.install()
