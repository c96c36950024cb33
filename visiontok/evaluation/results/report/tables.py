"""Tables of results, with what others published beside them and marked as such."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from visiontok.evaluation.features import EXTRACTORS
from visiontok.evaluation.metrics.value import MetricValue
from visiontok.evaluation.results.report.sections import Row, Table
from visiontok.evaluation.results.result import Result
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


def result_table(results: Sequence[Result], *, title: str, published: Mapping[str, Sequence[PublishedFigure]] | None = None) -> Table:
    """One line per metric, one column per result; each line can show its protocol.

    Args:
        results: of one suite.
        title: heading.
        published: name of a model -> figures of others, below, each with its source; never averaged or compared with the measured ones.
    """
    names = [result.model.name if result.model else "samples" for result in results]
    places = list(dict.fromkeys(value.place for result in results for value in result.values))
    rows = []
    for place in places:
        values = [next((value for value in result.values if value.place == place), None) for result in results]
        known = next(value for value in values if value is not None)
        rows.append(Row([_title(known), *("–" if value is None else value.text for value in values)], note=known.protocol))
    for name in dict.fromkeys(names):
        rows += [_published(figure, names.index(name), len(names)) for figure in (published or {}).get(name, ())]
    return Table(title, ["metric", *names], rows, note=_note(results))


def length_table(result: Result, *, published: Sequence[PublishedFigure] = ()) -> Table:
    """One line per metric, one column per number of tokens.

    Args:
        result: of a suite with lengths.
        published: figures of others, below, each with its source.
    """
    lengths = list(dict.fromkeys(value.length for value in result.values))
    rows = []
    for name, part in dict.fromkeys((value.name, value.part) for value in result.values):
        values = {value.length: value for value in result.values if (value.name, value.part) == (name, part)}
        known = next(iter(values.values()))
        cells = [values[length].text if length in values else "–" for length in lengths]
        rows.append(Row([_title(known.model_copy(update={"length": None})), *cells], note=known.protocol))
    rows += [_published(figure, len(lengths) - 1, len(lengths)) for figure in published]
    columns = ["metric", *("all tokens" if length is None else f"{length} tokens" for length in lengths)]
    return Table(result.model.name if result.model else "samples", columns, rows, note=_note([result]))


def _title(value: MetricValue) -> str:
    name = _TITLES.get(value.name, value.name) + (f" of {value.part}" if value.part else "")
    name += f" ({value.unit})" if value.unit and not name.startswith("Bits") else ""
    return name + (f" at {value.length} tokens" if value.length is not None else "")


def _published(figure: PublishedFigure, column: int, columns: int) -> Row:
    cells = [f"{figure.value:g}" if place == column else "" for place in range(columns)]
    return Row([f"{figure.metric} on {figure.dataset}", *cells], published=figure.source)


def _note(results: Sequence[Result]) -> str:
    data = results[0].data
    intervals = [value.interval for result in results for value in result.values if value.interval is not None]
    note = f"{data.images} images of {data.size[0]} × {data.size[1]} pixels ({data.identity})."
    if intervals:
        drawn = intervals[0].bootstrap
        note += f" In brackets: {drawn.confidence:.0%} interval by percentile bootstrap over images, {drawn.resamples} resamples."
    return note
