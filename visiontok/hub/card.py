"""The model card: what a model is, what was measured and how, and how to load it. Nothing in it that nobody measured or said."""

from __future__ import annotations

from typing import Any, TypeAlias

import yaml

from visiontok.base.config import Config
from visiontok.core.text_tokenizer import TextTokenizer
from visiontok.core.tokenizer import Tokenizer
from visiontok.generators.base import Generator
from visiontok.registry import Family
from visiontok.tokens import TokenLayout

AnyModel: TypeAlias = Tokenizer[Any] | Generator[Any]


class Measurement(Config):
    """One number and what it means.

    Attributes:
        metric: for example "PSNR".
        value: as measured.
        unit: "dB", "bits", or nothing.
        dataset: what it was measured on.
        protocol: how, in words: split, size, resizing, number of samples.
    """

    metric: str
    value: float
    unit: str = ""
    dataset: str
    protocol: str


class ModelCard(Config):
    """What only its maker knows about a model; the rest of the card follows from the model.

    Attributes:
        name: by which it can be loaded; None for the folder or repository that it is saved to.
        license: SPDX identifier in lower case, as hubs want it.
        summary: one paragraph.
        trained_on: data and recipe, in words.
        limitations: what it is not good for.
        measured: numbers with their protocol.
    """

    name: str | None = None
    license: str = "unknown"
    summary: str = ""
    trained_on: str = ""
    limitations: str = ""
    measured: tuple[Measurement, ...] = ()


def render(card: ModelCard, model: AnyModel, *, name: str, family: Family) -> str:
    """The text of README.md: YAML front matter (`visiontok list` and `info` read it) and Markdown.

    Args:
        card: what the maker says.
        model: what the card is about.
        name: what `from_pretrained` takes.
        family: of the model.
    """
    known = _facts(model)
    modality = model.layout.modality
    matter = {
        "license": card.license,
        "library_name": "visiontok",
        "tags": list(dict.fromkeys(["visiontok", family.name, family.kind, modality])),
        "visiontok": {**known, "measured": [entry.to_dict() for entry in card.measured]},
    }
    sections = [
        f"# {name}",
        card.summary or f"A {family.name} {family.kind} for {modality} tokens.",
        f"Family `{family.name}`: {family.summary.rstrip('.')}." + (f" Paper: {family.paper}" if family.paper else ""),
        "## How to load it\n\n```python\n" + _snippet(name, model) + "```",
        "## Tokens\n\n" + _tokens(known, model.layout),
        "## Measured\n\n" + (_table(card.measured) or "Nothing was measured."),
        "## Trained on\n\n" + (card.trained_on or "Not stated."),
        "## Limitations\n\n" + (card.limitations or "Not stated."),
        f"## License\n\nWeights: {card.license}.",
    ]
    return f"---\n{yaml.safe_dump(matter, sort_keys=False, allow_unicode=True)}---\n\n" + "\n\n".join(sections) + "\n"


def _facts(model: AnyModel) -> dict[str, Any]:
    layout = model.layout
    sizes = [] if layout.is_continuous else sorted({int(size) for size in layout.vocab_sizes})
    return {
        "tokens": layout.length if sizes else None,
        "vocab_size": sizes[0] if len(sizes) == 1 else None,
        "bits": round(layout.bits, 3) if sizes else None,
        "signal": _signal(layout),
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
    }


def _signal(layout: TokenLayout) -> dict[str, Any]:
    """The fields of `registry.SignalFacts` that the layout tells."""
    facts: dict[str, Any] = {"modality": layout.modality}
    if layout.modality in ("image", "video"):
        facts["size"] = list(layout.signal_shape[-2:])
    if layout.modality == "video":
        facts["num_frames"] = layout.signal_shape[0]
    return facts


def _snippet(name: str, model: AnyModel) -> str:
    load = f'import visiontok\n\nmodel = visiontok.from_pretrained("{name}")\n'
    if isinstance(model, TextTokenizer):
        load += 'model.attach_text_encoder()\ntext = "what the picture shows"\n'
        return load + 'tokens = model.encode("picture.png", text=text)\nreconstruction = model.decode(tokens, text=text)\n'
    if isinstance(model, Tokenizer):
        return load + 'tokens = model.encode("picture.png")\nreconstruction = model.decode(tokens)\n'
    if model.config.num_classes:
        return "import torch\n" + load + "tokens = model.generate(torch.tensor([0, 1, 2]))  # classes\n"
    return load + "tokens = model.generate(num_samples=4)\n"


def _tokens(known: dict[str, Any], layout: TokenLayout) -> str:
    shapes = "; ".join(f"{segment.name}: {' x '.join(map(str, segment.shape))}" for segment in layout.segments)
    covers = " x ".join(map(str, layout.signal_shape))
    if known["tokens"] is None:
        return f"Continuous latents ({shapes}) for a signal of {covers}. {known['parameters']:,} parameters."
    vocabulary = f" from a vocabulary of {known['vocab_size']}" if known["vocab_size"] else ""
    return f"{known['tokens']} ids{vocabulary}, {known['bits']:g} bits, for a signal of {covers} ({shapes}). {known['parameters']:,} parameters."


def _table(measured: tuple[Measurement, ...]) -> str:
    if not measured:
        return ""
    rows = [f"| {m.metric} | {m.value:g}{f' {m.unit}' if m.unit else ''} | {m.dataset} | {m.protocol} |" for m in measured]
    return "\n".join(["| metric | value | data | protocol |", "|---|---|---|---|", *rows])
