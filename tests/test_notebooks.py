"""Every notebook runs top to bottom, in the terminal as the README says, on the real embedded model."""

import os
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

NOTEBOOKS = sorted((Path(__file__).parents[1] / "notebooks").glob("*.ipynb"))
# A line that each must show, so that a notebook which silently does nothing is seen.
SHOWN = {
    "quickstart": "The capital of Japan is Tokyo.",
    "conversations": "Removed 1 turn from 'main'",
    "providers": "IS ANYBODY THERE?",
    "dataframes": "body_mass_g: 100% right",
}


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_runs_top_to_bottom(path: Path, model_cache: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "IPython", str(path)],
        env={**os.environ, "HOME": str(tmp_path), "IPYTHONDIR": str(tmp_path), "AICHAT_MODEL_DIR": str(model_cache)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert SHOWN[path.stem] in done.stdout


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_is_stored_clean(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    for cell in notebook.cells:
        assert not cell.get("outputs")
        assert cell.get("execution_count") is None
