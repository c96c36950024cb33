"""Tables of results, with what others published beside them and marked as such."""

from __future__ import annotations

from collections.abc import Sequence

from visiontok.evaluation.features import EXTRACTORS
from visiontok.evaluation.report.sections import Row, Table
from visiontok.evaluation.result import Result
from visiontok.registry import PublishedFigure

_TITLES = {
    "mse": "MSE",
    "psnr.mean_db": "PSNR, mean over images",
    "psnr.pooled": "PSNR of the pooled error",
    "ssim": "SSIM",
    "ms_ssim": "MS-SSIM",
    **{f"accuracy[{judge}].{side}": f"Classified rightly by {judge}: {side}" for judge in EXTRACTORS for side in ("originals", "reconstructions")},
    **{f"agreement[{judge}]": f"Same class by {judge} before and after" for judge in EXTRACTORS},
    **{f"agreement[{judge}].asked_class": f"Asked-for class seen by {judge}" for judge in EXTRACTORS},
    "codebook.usage": "Codebook usage",
    "codebook.perplexity": "Codebook perplexity",
    "codebook.entropy.plugin": "Codebook entropy",
    "codebook.entropy.miller_madow": "Codebook entropy, Miller-Madow",
    "tokens_per_image": "Tokens per image",
    "bits_per_image.nominal": "Bits per image, nominal",
    "bits_per_image.entropy": "Bits per image at that entropy",
    "bits_per_pixel.nominal": "Bits per pixel, nominal",
}
"""How a reader wants to see the names; those that are not here speak for themselves."""


def result_table(results: Sequence[Result], *, title: str, published: Sequence[PublishedFigure] = ()) -> Table:
    """One line per metric, one column per result; each line can show its protocol.

    Args:
        results: of one suite.
        title: heading.
        published: figures of others, below, each with its source; never averaged or compared with the measured ones.
    """
    labels = list(dict.fromkeys((value.name, value.part) for result in results for value in result.values))
    rows = []
    for label in labels:
        values = [next((value for value in result.values if (value.name, value.part) == label), None) for result in results]
        known = next(value for value in values if value is not None)
        name = _TITLES.get(known.name, known.name) + (f" of {known.part}" if known.part else "")
        name += f" ({known.unit})" if known.unit and not name.startswith("Bits") else ""
        rows.append(Row([name, *("–" if value is None else value.text for value in values)], note=known.protocol))
    for figure in published:
        cells = [f"{figure.metric} on {figure.dataset}", f"{figure.value:g}", *("" for _ in results[1:])]
        rows.append(Row(cells, published=figure.source))
    names = [result.model.name if result.model else "samples" for result in results]
    data = results[0].data
    intervals = [value.interval for result in results for value in result.values if value.interval is not None]
    note = f"{data.images} images of {data.size[0]} × {data.size[1]} pixels ({data.identity})."
    if intervals:
        drawn = intervals[0].bootstrap
        note += f" In brackets: {drawn.confidence:.0%} interval by percentile bootstrap over images, {drawn.resamples} resamples."
    return Table(title, ["metric", *names], rows, note=note)
