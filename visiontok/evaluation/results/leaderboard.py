"""The leaderboard: every result of a folder in one Markdown page, with published figures in tables of their own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import get_args

from visiontok import registry
from visiontok.base.errors import EvaluationError
from visiontok.base.files import contents, replacing
from visiontok.base.json_text import read_json
from visiontok.base.markdown import code, escaped
from visiontok.evaluation.metrics.value import Cut, MetricValue
from visiontok.evaluation.results.result import Result
from visiontok.losses.perceptual import LpipsNet

_COLUMNS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "rate": ("tokens_per_sample", "bits_per_pixel.nominal", "bits_per_second.nominal"),
        "psnr": ("psnr.mean_db",),
        "ssim": ("ssim",),
        **{f"lpips.{net}": () for net in get_args(LpipsNet)},
        "frechet": (),
        "codebook": ("codebook.usage",),
        "tokdense": (),
    }
)
"""What a row shows of a result, where it holds it: metric -> names of its values, none for all."""

_OTHER_KINDS = ("rate-distortion",)
"""Files that may be among the results and have pages of their own."""

_HEAD = """# Evaluation

`suites/` holds the suites: one YAML file each (samples, protocol, metrics, seeds). `results/` holds the results: one JSON file per suite and model,
with the values of single samples in Parquet files beside it, written by

    visiontok evaluate SUITE --model MODEL -o eval/results

A result names the weights by their SHA-256 and the samples by a fingerprint of their values, and carries its protocol with every number.
`docs/evaluation.md` says what each metric means.

## Leaderboard

Written by `visiontok leaderboard` from the files in `results/`; do not edit it by hand. Results share a table only if they are about the same
samples. In brackets: the confidence interval over samples.
"""


def write_leaderboard(results: Path, page: Path) -> None:
    """Write the page of a folder of results, whole or not at all."""
    text = leaderboard(results)
    with replacing(page) as temporary:
        temporary.write_text(text, encoding="utf-8")


def leaderboard(results: Path) -> str:
    """The page; it depends on nothing but the results and the registry.

    Raises:
        EvaluationError: if there is no such folder.
        ConfigError: if a file in it is no result.
    """
    if not results.is_dir():
        raise EvaluationError(f"there is no folder {results}; evaluate something with: visiontok evaluate photos --model vqgan-photos-f4")
    found = [Result.load(path) for path in contents(results) if path.suffix == ".json" and _kind(path) not in _OTHER_KINDS]
    tables: dict[tuple[str, str, str], list[Result]] = {}
    for result in found:
        tables.setdefault((str(result.suite.get("name", "unnamed")), result.data.in_words, result.data.samples_sha256), []).append(result)
    parts = [_HEAD, *(_table(suite, group) for (suite, _, _), group in sorted(tables.items(), key=lambda item: item[0]))]
    if not found:
        parts.append("There are no results yet.\n")
    published = _published(found)
    return "\n".join([*parts, *([published] if published else [])])


def _kind(path: Path) -> object:
    """The kind of result that a file declares; None if it declares none, which `Result.load` then reports."""
    content = read_json(path)
    return content.get("kind") if isinstance(content, dict) else None


def _table(suite: str, results: Sequence[Result]) -> str:
    data = results[0].data
    values = [value for result in results for value in result.values]
    names = list(
        dict.fromkeys(
            value.name for metric, shown in _COLUMNS.items() for value in values if value.metric == metric and (not shown or value.name in shown)
        )
    )
    rows = [row for result in results for row in _rows(result, names)]
    units = {value.name: value.unit for value in values}
    heads = [f"{name} ({units[name]})" if units[name] and units[name] not in name else name for name in names]
    description = str(results[0].suite.get("description", ""))
    lines = [
        f"### {escaped(suite)}",
        "",
        f"{escaped(description)} {data.in_words}, SHA-256 {code(data.samples_sha256[:16])}.",
        "",
        "| " + " | ".join(["model", *map(escaped, heads), "weights", "evaluated"]) + " |",
        "|" + "---|" * (len(heads) + 3),
        *("| " + " | ".join(row) + " |" for row in rows),
        "",
    ]
    return "\n".join(lines)


def _rows(result: Result, names: Sequence[str]) -> list[list[str]]:
    """One row per cut of the tokens."""
    rows = []
    for cut in dict.fromkeys(value.cut for value in result.values):
        values: dict[str, MetricValue] = {}
        for value in result.values:
            if value.cut == cut:
                values.setdefault(value.name, value)
        cells = [
            code(result.title) + (f", first {cut.in_words}" if cut != Cut() else ""),
            *(escaped(values[name].text) if name in values else "" for name in names),
        ]
        weights = code(result.model.weights_sha256[:12]) if result.model else ""
        rows.append([*cells, weights, escaped(result.run.finished[:10])])
    return rows


def _published(results: Sequence[Result]) -> str:
    """What others published about these models."""
    known = registry.checkpoints()
    models = dict.fromkeys(result.model.name for result in results if result.model and result.model.name in known)
    figures = [(model, figure) for model in models for figure in known[model][1].published]
    if not figures:
        return ""
    rows = [f"| `{model}` | {figure.metric} | {figure.value:g} | {figure.dataset} | {figure.source} |" for model, figure in figures]
    head = ["### Published, not computed here", "", "| model | metric | value | data | source |", "|---|---|---|---|---|"]
    return "\n".join([*head, *rows, ""])
