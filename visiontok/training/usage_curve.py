"""The curve of codebook usage over a run, as an image beside its samples."""

from __future__ import annotations

import json
from pathlib import Path

from visiontok.base.files import replacing

_PREFIX = "usage/"


def draw_usage(metrics: Path, image: Path) -> None:
    """Draw the usage of every codebook in `metrics.jsonl` as PNG; nothing for models without a codebook."""
    curves: dict[str, list[tuple[int, float]]] = {}
    for line in metrics.read_text(encoding="utf-8", errors="replace").splitlines():
        values = json.loads(line)
        for name, value in values.items():
            if name.startswith(_PREFIX):
                curves.setdefault(name.removeprefix(_PREFIX), []).append((values["step"], value))
    if not curves:
        return
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # takes half a second
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 3), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    for name, points in curves.items():
        axes.plot(*zip(*points, strict=True), label=name, marker="o" if len(points) == 1 else None)
    axes.set(xlabel="step", ylabel="share of codes in use", ylim=(0, 1.05))
    if len(curves) > 1:
        axes.legend(frameon=False)
    with replacing(image) as temporary:
        figure.savefig(temporary, dpi=100, metadata={"Software": None})
