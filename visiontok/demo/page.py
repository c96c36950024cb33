"""The demo's report: targets, samples, training curves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch

from visiontok.demo.digits import Digits
from visiontok.demo.photographs import Photographs
from visiontok.demo.settings import DemoConfig
from visiontok.demo.stages import clock
from visiontok.demo.targets import DemoTarget
from visiontok.demo.token_images import single_token_swaps
from visiontok.evaluation.results.report import (
    BarPlot,
    Folded,
    ImageGrid,
    ImageRow,
    LinePlot,
    Row,
    Section,
    Table,
    difference_image,
    result_table,
    to_image_arrays,
    token_image,
    write_report,
)

_PER_CLASS = 10
"""Generated digits per class on the page."""


def write_page(
    path: Path, config: DemoConfig, digits: Digits, photographs: Photographs, targets: Sequence[DemoTarget], seconds: Mapping[str, float]
) -> None:
    """Write the report atomically."""
    reached = sum(target.reached for target in targets)
    summary = (
        f"A TiTok trained to encode handwritten digits as {digits.tokenizer.layout.length} tokens, a class-conditional gpt trained on these tokens, "
        f"and photographs reconstructed with a bundled checkpoint: {reached} of {len(targets)} targets reached in {clock(sum(seconds.values()))}."
    )
    columns = ("metric", "value", "target", "")
    sections: list[Section] = [
        *_reconstructions(digits),
        _generated(digits),
        *_photographs(photographs),
        Table("Targets", columns, [*(Row(target.cells, note=target.protocol) for target in targets), *_without_target(digits)]),
        *_training(digits),
        Folded(
            "All metrics",
            [
                result_table([digits.reconstruction], title="Held-out digits and their reconstructions"),
                result_table([digits.generation], title="Generated digits"),
                result_table([digits.real], title="Real training digits, evaluated like the generated ones, as a baseline"),
                Table("Time", ("stage", "minutes"), [Row((title, clock(time))) for title, time in seconds.items()]),
            ],
        ),
    ]
    environment = digits.reconstruction.environment
    facts = {**environment.versions, **environment.hardware, "threads": str(torch.get_num_threads()), "seed": str(config.seed)}
    write_report(path, "visiontok demo", sections, summary=summary, facts=facts)


def _without_target(digits: Digits) -> list[Row]:
    """The Fréchet distances, which are only comparable with each other."""
    sides = {
        "generated digits": digits.generation,
        "held-out digits after reconstruction": digits.reconstruction,
        "real training digits, a baseline": digits.real,
    }
    distances = {side: result.value("FD[digit-classifier]") for side, result in sides.items()}
    return [
        Row((f"{value.name} of {side}", "not defined" if value.value is None else f"{value.value:.3g}", "none", ""), note=value.protocol)
        for side, value in distances.items()
    ]


def _reconstructions(digits: Digits) -> list[Section]:
    """Two held-out digits per class with their tokens, and the effect of single tokens."""
    chosen = torch.cat([torch.nonzero(digits.labels == label).flatten()[:2] for label in digits.labels.unique()])
    tokens = digits.tokens[chosen]
    vocabulary = int(tokens.layout.vocab_sizes[0])
    return [
        ImageGrid(
            "Held-out digits",
            [
                ImageRow("original", to_image_arrays(digits.images[chosen])),
                ImageRow("reconstruction", to_image_arrays(digits.tokenizer.decode(tokens))),
                ImageRow("tokens", [token_image(indices, vocabulary, cell=4) for indices in tokens.indices.numpy()]),
            ],
            width=32,
            note="Digits outside the training set. Tokens are drawn as colored squares, row by row; equal tokens have equal colors.",
        ),
        single_token_swaps(digits.tokenizer, tokens[:8:2]),
    ]


def _generated(digits: Digits) -> Section:
    accuracy = digits.generation.value("conditional_accuracy[digit-classifier]")
    by_class = accuracy.details["by_class"]
    assert isinstance(by_class, dict)
    rows = []
    for label in digits.classes.unique().tolist():
        images = to_image_arrays(digits.samples[digits.classes == label][:_PER_CLASS])
        rows.append(ImageRow(f"{label}: accuracy {float(str(by_class[str(label)])):.0%}", images))
    note = f"The first {_PER_CLASS} samples of each class, not selected; the accuracy is over all {accuracy.count // len(rows)} of a class."
    return ImageGrid("Generated digits by class", rows, width=48, note=note)


def _photographs(photographs: Photographs) -> list[Section]:
    tokens = photographs.tokens
    originals, decoded = to_image_arrays(photographs.originals), to_image_arrays(photographs.reconstructions)
    vocabulary = int(tokens.layout.vocab_sizes[0])
    captions = [f"{name}, {value:.1f} dB" for name, value in zip(photographs.names, photographs.psnr, strict=True)]
    cell = photographs.originals.shape[-1] // tokens.view().shape[-1]
    maps = [token_image(indices, vocabulary, cell=cell) for indices in tokens.view().numpy()]
    note = (
        f"Photographs outside the training set of the bundled checkpoint {photographs.model}, as {tokens.layout.length} tokens each "
        f"({tokens.layout.bits / 8 / 1024:.1f} KiB). The last row shows the tokens as colors."
    )
    rows = [
        ImageRow("original", originals),
        ImageRow("reconstruction", decoded, captions),
        ImageRow("difference, scaled by 4", [difference_image(*pair) for pair in zip(originals, decoded, strict=True)]),
        ImageRow("tokens", maps),
    ]
    return [ImageGrid("Photographs reconstructed with the bundled checkpoint", rows, width=168, note=note)]


def _training(digits: Digits) -> list[Section]:
    tokenizer, generator = digits.tokenizer_curves, digits.generator_curves
    counts = np.bincount(digits.tokens.indices.numpy().ravel(), minlength=int(digits.tokens.layout.vocab_sizes[0]))
    return [
        LinePlot(
            "Tokenizer loss",
            {"training digits": tokenizer["reconstruction"], "held-out digits": tokenizer["validation/reconstruction"]},
            x_label="step",
            y_label="MSE (lower is better)",
            log_y=True,
        ),
        BarPlot(
            "Code usage",
            np.sort(counts)[::-1],
            x_label="codes, by frequency",
            y_label="count",
            note=f"In the {len(digits.tokens)} held-out digits: {np.count_nonzero(counts)} of {len(counts)} codes occur.",
        ),
        LinePlot(
            "Generator loss",
            {"training digits": generator["bits_per_token"], "held-out digits": generator["validation/bits_per_token"]},
            x_label="step",
            y_label="bits per token (lower is better)",
        ),
    ]
