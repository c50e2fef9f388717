"""The scripts of examples/ run as their docstrings say, in a small size."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"


@pytest.mark.slow
def test_the_figure_of_families_is_drawn(tmp_path):
    image = pytest.importorskip("PIL.Image", reason="needs pillow")
    out = tmp_path / "families.png"
    command = [sys.executable, EXAMPLES / "families_figure.py", out, "--steps", "20"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    pixels = image.open(out).convert("L")
    assert min(pixels.size) > 1000
    assert pixels.getextrema()[0] < 60 < 250 < pixels.getextrema()[1]


@pytest.mark.slow
def test_the_story_on_chest_x_rays(tmp_path):
    pytest.importorskip("PIL", reason="needs pillow")
    if not (Path(os.environ.get("CONJOIN_DATA", "")) / "images" / "pneumoniamnist").is_dir():
        pytest.skip("needs images/pneumoniamnist in the folder that CONJOIN_DATA names")
    out = tmp_path / "panel.png"
    done = subprocess.run(
        [sys.executable, EXAMPLES / "pneumonia.py", "--seconds", "15", "--out", out],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert out.stat().st_size > 1000
    assert all(
        words in done.stdout for words in ("AUC", "unfamiliar", "healthy twin", "no medical device")
    )
