"""The demo's page: what was reached, what it looks like, how it was trained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch

from visiontok.demo.bars import Bar
from visiontok.demo.digits import Digits
from visiontok.demo.photographs import Photographs
from visiontok.demo.settings import DemoConfig
from visiontok.demo.stages import clock
from visiontok.demo.token_pictures import what_single_tokens_change
from visiontok.evaluation.results.report import (
    BarPlot,
    Folded,
    LinePlot,
    PictureRow,
    Pictures,
    Row,
    Section,
    Table,
    difference_picture,
    result_table,
    to_pictures,
    token_picture,
    write_report,
)

_PER_CLASS = 10
"""Generated digits that the page shows of each class."""


def write_page(path: Path, config: DemoConfig, digits: Digits, photographs: Photographs, bars: Sequence[Bar], seconds: Mapping[str, float]) -> None:
    """Write the page, whole or not at all."""
    reached = sum(bar.reached for bar in bars)
    summary = (
        f"A TiTok learned to write a handwritten digit into {digits.tokenizer.layout.length} tokens, a gpt learned to write such tokens, "
        f"and a bundled checkpoint put photographs into tokens: {reached} of {len(bars)} bars reached in {clock(sum(seconds.values()))}."
    )
    sections: list[Section] = [
        Table("What was reached", ("", "measured", "bar", ""), [*(Row(bar.cells, note=bar.protocol) for bar in bars), *_without_bar(digits)]),
        *_reconstructions(digits),
        _generated(digits),
        *_photographs(photographs),
        *_training(digits),
        Folded(
            "All numbers",
            [
                result_table([digits.reconstruction], title="Held-out digits and their reconstructions"),
                result_table([digits.generation], title="Generated digits"),
                result_table([digits.real], title="Real training digits, measured as the generated ones: a yardstick for their distance"),
                Table("Where the time went", ("stage", "minutes"), [Row((title, clock(time))) for title, time in seconds.items()]),
            ],
        ),
    ]
    environment = digits.reconstruction.environment
    facts = {**environment.versions, **environment.hardware, "threads": str(torch.get_num_threads()), "seed": str(config.seed)}
    write_report(path, "visiontok: pictures to tokens and back", sections, summary=summary, facts=facts)


def _without_bar(digits: Digits) -> list[Row]:
    """The Fréchet distances; only beside one another do they say anything."""
    sides = {
        "generated digits": digits.generation,
        "held-out digits after reconstruction": digits.reconstruction,
        "real training digits, a yardstick": digits.real,
    }
    distances = {side: result.value("FD[digit-classifier]") for side, result in sides.items()}
    return [
        Row((f"{value.name} of {side}", "not defined" if value.value is None else f"{value.value:.3g}", "none", ""), note=value.protocol)
        for side, value in distances.items()
    ]


def _reconstructions(digits: Digits) -> list[Section]:
    """Two held-out digits of every class, their tokens, and what single tokens change."""
    chosen = torch.cat([torch.nonzero(digits.labels == label).flatten()[:2] for label in digits.labels.unique()])
    tokens = digits.tokens[chosen]
    vocabulary = int(tokens.layout.vocab_sizes[0])
    return [
        Pictures(
            "Held-out digits",
            [
                PictureRow("original", to_pictures(digits.images[chosen])),
                PictureRow("reconstruction", to_pictures(digits.tokenizer.decode(tokens))),
                PictureRow("tokens", [token_picture(ids, vocabulary, cell=4) for ids in tokens.indices.numpy()]),
            ],
            width=32,
            note="Scans that training never saw. A digit's tokens are drawn as coloured squares, row by row; equal ids have equal colours.",
        ),
        what_single_tokens_change(digits.tokenizer, tokens[:8:2]),
    ]


def _generated(digits: Digits) -> Section:
    agreement = digits.generation.value("agreement[digit-classifier].asked_class")
    by_class = agreement.details["by_class"]
    assert isinstance(by_class, dict)
    rows = []
    for label in digits.classes.unique().tolist():
        pictures = to_pictures(digits.samples[digits.classes == label][:_PER_CLASS])
        rows.append(PictureRow(f"{label}: {float(str(by_class[str(label)])):.0%} recognised", pictures))
    note = f"The first {_PER_CLASS} of each class, none left out; the shares are over all {agreement.count // len(rows)} of a class."
    return Pictures("Generated digits, by the class that was asked for", rows, width=48, note=note)


def _photographs(photographs: Photographs) -> list[Section]:
    tokens = photographs.tokens
    originals, decoded = to_pictures(photographs.originals), to_pictures(photographs.reconstructions)
    vocabulary = int(tokens.layout.vocab_sizes[0])
    captions = [f"{name}, {value:.1f} dB" for name, value in zip(photographs.names, photographs.psnr, strict=True)]
    cell = photographs.originals.shape[-1] // tokens.view().shape[-1]
    maps = [token_picture(ids, vocabulary, cell=cell) for ids in tokens.view().numpy()]
    note = (
        f"The bundled checkpoint {photographs.model} never saw these photographs. It writes each into {tokens.layout.length} tokens "
        f"({tokens.layout.bits / 8 / 1024:.1f} KiB); the colours of the last row are their ids."
    )
    rows = [
        PictureRow("original", originals),
        PictureRow("reconstruction", decoded, captions),
        PictureRow("difference, 4 times", [difference_picture(*pair) for pair in zip(originals, decoded, strict=True)]),
        PictureRow("tokens", maps),
    ]
    return [Pictures("Photographs through the bundled checkpoint", rows, width=168, note=note)]


def _training(digits: Digits) -> list[Section]:
    tokenizer, generator = digits.tokenizer_curves, digits.generator_curves
    counts = np.bincount(digits.tokens.indices.numpy().ravel(), minlength=int(digits.tokens.layout.vocab_sizes[0]))
    return [
        LinePlot("Loss of the tokenizer", {"mean squared error": tokenizer["reconstruction"]}, x_label="step", y_label="MSE", log_y=True),
        BarPlot(
            "How often each code is used",
            np.sort(counts)[::-1],
            x_label="codes, the most frequent first",
            y_label="times",
            note=f"In the {len(digits.tokens)} held-out digits: {np.count_nonzero(counts)} of {len(counts)} codes occur.",
        ),
        LinePlot("Loss of the generator", {"bits per token": generator["bits_per_token"]}, x_label="step", y_label="bits per token"),
    ]
