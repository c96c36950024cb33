"""The model card: what a model is, its evaluation results with their protocol, and how to load it. It invents nothing."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import yaml

from visiontok.base.errors import CheckpointError
from visiontok.base.markdown import escaped
from visiontok.base.yaml_text import parse_yaml
from visiontok.core.card import CardResult, ModelCard
from visiontok.core.model import weights_sha256
from visiontok.core.tokenizer import Tokenizer
from visiontok.generators.base import DrafterModel, Generator
from visiontok.registry import Family
from visiontok.tokens import TokenLayout

AnyModel: TypeAlias = Tokenizer[Any] | Generator[Any] | DrafterModel[Any]

NOT_EVALUATED = "Not evaluated."
_RESULTS = "## Results"


def render_card(card: ModelCard, model: AnyModel, *, name: str, family: Family) -> str:
    """The text of README.md: YAML front matter (`visiontok list` and `info` read it) and Markdown.

    Args:
        card: what the maker says.
        model: what the card is about.
        name: what `from_pretrained` takes.
        family: of the model.

    Raises:
        CheckpointError: if a result is that of other weights.
    """
    if card.results:
        check_results(card.results, weights_sha256(model.state_dict()), name=name)
    known = _facts(model)
    modality = model.layout.modality
    matter = {
        "license": card.license,
        "library_name": "visiontok",
        "tags": list(dict.fromkeys(["visiontok", family.name, family.kind, modality])),
        "visiontok": {"summary": card.summary.partition("\n\n")[0], **known, "results": _in_matter(card.results)},
    }
    sections = [
        f"# {escaped(name)}",
        card.summary or f"A {family.name} {family.kind} for {modality} tokens.",
        f"Family `{family.name}`: {family.summary.rstrip('.')}." + (f" Paper: {family.paper}" if family.paper else ""),
        "## How to load it\n\n```python\n" + _snippet(name, model) + "```",
        "## Tokens\n\n" + _tokens(known, model.layout),
        f"{_RESULTS}\n\n{_table(card.results)}",
        "## Trained on\n\n" + (card.trained_on or "Not stated."),
        *([f"## Recipe\n\n{_fenced(card.recipe)}"] if card.recipe else []),
        "## Limitations\n\n" + (card.limitations or "Not stated."),
        f"## License\n\nWeights: {escaped(card.license)}.",
    ]
    return f"---\n{_yaml(matter)}---\n\n" + "\n\n".join(sections) + "\n"


def with_results(text: str, results: Sequence[CardResult], *, source: str) -> str:
    """The text of a card with further results in its front matter and its results section; all else stays.

    Args:
        text: of the card.
        results: take the place of those of the same metric on the same data by the same protocol.
        source: of the text, for messages.

    Raises:
        CheckpointError: if its front matter is not that of a model card.
    """
    try:
        _, front, body = text.split("---\n", 2)
        matter = parse_yaml(front, source="its front matter")
        earlier = {_subject(result): result for result in map(CardResult.parse, matter["visiontok"]["results"])}
        results = list({**earlier, **{_subject(result): result for result in results}}.values())
        matter["visiontok"] = {**matter["visiontok"], "results": _in_matter(results)}
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{source} is not a model card of visiontok ({error!r}); save the model again") from error
    section = f"{_RESULTS}\n\n{_table(results)}\n"
    replaced, found = re.subn(rf"^{_RESULTS}\n.*?(?=^## |\Z)", lambda _: f"{section}\n", body, count=1, flags=re.MULTILINE | re.DOTALL)
    if not found:
        replaced = body.rstrip() + "\n\n" + section
    return f"---\n{_yaml(matter)}---\n{replaced}"


def renamed(text: str, name: str) -> str:
    """The text of a card that says `name` where it said by which name the model can be loaded.

    Args:
        text: of a card of `render`.
        name: what `from_pretrained` takes.
    """
    title = re.search(r"^# (.+)$", text, re.MULTILINE)
    if title is None:
        return text
    text = text.replace(title[0], f"# {name}", 1)
    return text.replace(f'from_pretrained("{title[1]}")', f'from_pretrained("{name}")')


def check_results(results: Sequence[CardResult], weights: str, *, name: str) -> None:
    """Refuse results of another model.

    Args:
        results: to be shown on the card.
        weights: SHA-256 of the model's weights.
        name: of the model.

    Raises:
        CheckpointError: naming the metric and both sums.
    """
    for result in results:
        if result.weights_sha256 not in (None, weights):
            raise CheckpointError(
                f"the result {result.metric} on {result.dataset} is that of other weights ({str(result.weights_sha256)[:12]}) than those of {name} "
                f"({weights[:12]}); evaluate this model"
            )


def _subject(result: CardResult) -> tuple[str, str, str]:
    """What a result is about; of two with the same subject, the later counts."""
    return result.metric, result.dataset, result.protocol


def _in_matter(results: Sequence[CardResult]) -> list[dict[str, Any]]:
    return [{key: value for key, value in result.to_dict().items() if key != "weights_sha256"} for result in results]


def _yaml(matter: Mapping[str, Any]) -> str:
    text: str = yaml.safe_dump(matter, sort_keys=False, allow_unicode=True)
    return text


def _facts(model: AnyModel) -> dict[str, Any]:
    """What `visiontok list` and `info` show. Models of sound of any length have a number of tokens per second, not per sample."""
    layout = model.layout
    sizes = [] if layout.is_continuous else sorted({int(size) for size in layout.vocab_sizes})
    timed = layout.is_variable and layout.rate is not None
    codebooks = {segment.codebooks for segment in layout.segments}
    facts = {
        "tokens": layout.length if sizes and not timed else None,
        "vocab_size": sizes[0] if len(sizes) == 1 else None,
        "codebooks": max(codebooks) if len(codebooks) == 1 and max(codebooks) > 1 else None,
        "frame_rate": _frame_rate(layout),
        "bits": round(layout.bits, 3) if sizes and not timed else None,
        "bits_per_second": round(layout.bits_per_second, 3) if sizes and timed else None,
        "signal": _signal(model),
        "tokenizer": None if isinstance(model, Tokenizer) or model.config.tokenizer is None else model.config.tokenizer.name,
        "parameters": model.num_parameters,
    }
    return {name: value for name, value in facts.items() if value is not None}


def _frame_rate(layout: TokenLayout) -> float | None:
    """Positions per second, where all segments have the same number."""
    if layout.rate is None:
        return None
    rates = {layout.positions_per_second(segment.name) for segment in layout.segments if segment.stride is not None}
    return rates.pop() if len(rates) == 1 else None


def _signal(model: AnyModel) -> dict[str, Any]:
    """The fields of `registry.SignalFacts` that follow from the model."""
    layout = model.layout
    facts: dict[str, Any] = {"modality": layout.modality}
    if layout.modality in ("image", "video"):
        facts["size"] = list(layout.signal_shape[-2:])
    if layout.modality == "video":
        facts["num_frames"] = layout.signal_shape[0]
        facts["fps"] = layout.rate
    if layout.modality == "audio" and layout.rate is not None:
        facts["sample_rate"] = round(layout.rate)
    if isinstance(model, Tokenizer) and layout.modality in ("audio", "features"):
        facts["channels"] = model.preprocessing.spec.channels
    return {name: value for name, value in facts.items() if value is not None}


def _snippet(name: str, model: AnyModel) -> str:
    load = f"import visiontok\n\nmodel = visiontok.from_pretrained({json.dumps(name, ensure_ascii=False)})\n"
    if isinstance(model, Tokenizer):
        spec = model.preprocessing.spec
        reads_text = model.text is not None
        if spec.is_rgb and spec.modality == "image":
            signal = '"image.png"'
        else:
            signal, load = "signal", load + f"signal = ...  # {spec.shape}, for example as a tensor\n"
        if reads_text:
            load += 'model.attach_text_encoder()\ntext = "what the image shows"\n'
        options = ", text=text" if reads_text else ""
        load += f"tokens = model.encode({signal}{options})\n"
        return load + (f"reconstruction = model.decode(tokens{options})\n" if model.can_decode else "")
    if isinstance(model, DrafterModel):
        strategy = "from visiontok.generators.decoding import TreeSampler\n\n"
        return strategy + load + "sampler = TreeSampler(model, generator.sampler())  # of the generator for which it was trained\n"
    condition = model.config.condition.type
    if condition == "none":
        return load + "tokens = model.generate(num_samples=4)\n"
    if condition == "classes":
        return "import torch\n" + load + "tokens = model.generate(torch.tensor([0, 1, 2]))  # classes\n"
    value = {"text": "text=...", "tokens": "tokens=..."}[condition]
    return "from visiontok.generators.condition import Condition\n\n" + load + f"tokens = model.generate(Condition({value}))\n"


def _tokens(known: Mapping[str, Any], layout: TokenLayout) -> str:
    shapes = "; ".join(f"{segment.name}: {' x '.join(map(str, segment.shape))}" for segment in layout.segments)
    covers = f"for a signal of {' x '.join(map(str, layout.signal_shape))} ({shapes})"
    parameters = f"{known['parameters']:,} parameters." + (
        f" Trained on the tokens of {escaped(known['tokenizer'])}." if "tokenizer" in known else ""
    )
    if layout.is_continuous:
        return f"Continuous latents {covers}. {parameters}"
    vocabulary = f" from a vocabulary of {known['vocab_size']}" if "vocab_size" in known else ""
    if "bits_per_second" in known:
        rate = f"{known['frame_rate']:g} positions per second" if "frame_rate" in known else "Positions at several rates"
        codebooks = f" of {known['codebooks']} tokens" if "codebooks" in known else ""
        return f"{rate}{codebooks}{vocabulary}, {known['bits_per_second']:g} bits per second. {parameters}"
    return f"{known['tokens']} tokens{vocabulary}, {known['bits']:g} bits, {covers}. {parameters}"


def _table(results: Sequence[CardResult]) -> str:
    if not results:
        return NOT_EVALUATED
    rows = [(_named(r), f"{r.value:.6g}{f' {r.unit}' if r.unit else ''}", r.dataset, r.protocol) for r in results]
    lines = ["| " + " | ".join(escaped(text) for text in row) + " |" for row in rows]
    return "\n".join(["| metric | value | data | protocol |", "|---|---|---|---|", *lines])


def _named(result: CardResult) -> str:
    """`PSNR ↑ (psnr.mean_db)`."""
    arrow = {"higher": " ↑", "lower": " ↓", "neither": ""}[result.better]
    return f"{result.title}{arrow} ({result.metric})" if result.title else f"{result.metric}{arrow}"


def _fenced(text: str) -> str:
    """YAML as a block of code that nothing inside can end."""
    fence = "`" * max(3, 1 + max((len(run) for run in re.findall("`+", text)), default=0))
    return f"{fence}yaml\n{text.rstrip()}\n{fence}"
