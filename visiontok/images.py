"""Reading pictures safely: every mode that files come in becomes 8-bit RGB with right colours, or an error that names the file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image


def read_image(source: Image.Image | np.ndarray | str | Path | bytes) -> Image.Image:
    raise NotImplementedError
