"""Declarative key maps from the authors' state dicts to ours.

A pattern is a dotted key in which `{}` stands for one component and a final `{*}` for any rest:

    {"encoder.transformer.{}.ln_1.{*}": "encoder.blocks.{}.norm1.{*}", "quantize.embed_prob": None}

A pattern that maps to None is ignored by name. Everything else must match exactly one pattern. Tensors that the authors keep apart and we
keep as one, such as query, key and value projections, are renamed first and then joined:

    {"blocks.{}.attn.qkv.{*}": ("blocks.{}.attn.q.{*}", "blocks.{}.attn.k.{*}", "blocks.{}.attn.v.{*}")}
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from visiontok.base.errors import CheckpointError


@dataclass(frozen=True)
class KeyMap:
    """Patterns from theirs to ours, tried in order; the first match wins.

    Attributes:
        patterns: what every key becomes.
        joined: by target pattern, the renamed tensors that are concatenated along their first axis.
        reordered: by target pattern, the order in which we keep the equal chunks of their first axis: 0 is theirs that comes first.
    """

    patterns: Mapping[str, str | None]
    joined: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    reordered: Mapping[str, tuple[int, ...]] = field(default_factory=dict)

    def __call__(self, state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Rename every tensor.

        Raises:
            CheckpointError: listing keys that no pattern matches; if two keys end under one name, or a part of a joined tensor is missing.
        """
        renamed: dict[str, Tensor] = {}
        unmapped = []
        for key, tensor in state_dict.items():
            matched, target = self._rename(key)
            if not matched:
                unmapped.append(key)
            elif target is not None:
                if target in renamed:
                    raise CheckpointError(f"two tensors of the checkpoint map to {target!r}; the second is {key!r}")
                renamed[target] = tensor
        if unmapped:
            raise CheckpointError(f"{_listed(unmapped)} of the checkpoint are not in this model: {', '.join(sorted(unmapped)[:20])}")
        for target, parts in self.joined.items():
            _join(renamed, target, parts)
        for target, order in self.reordered.items():
            for key in [key for key in renamed if matches(target, key)]:
                chunks = renamed[key].chunk(len(order))
                renamed[key] = torch.cat([chunks[number] for number in order])
        return renamed

    def covers(self, key: str) -> bool:
        """Whether a pattern matches the key, be it to rename or to ignore it."""
        return self._rename(key)[0]

    def _rename(self, key: str) -> tuple[bool, str | None]:
        for pattern, target in self.patterns.items():
            match = _compile(pattern).fullmatch(key)
            if match:
                return True, None if target is None else _fill(target, match.groups())
        return False, None


def check_state_dict(expected: Mapping[str, Tensor], given: Mapping[str, Tensor], *, source: str) -> None:
    """Compare a state dict with a model's. Floats of 16, 32 and 64 bits may stand for each other, and so may integers.

    Raises:
        CheckpointError: listing missing and unexpected keys, wrong shapes and other kinds of dtype, all at once.
    """
    missing = sorted(set(expected) - set(given))
    unexpected = sorted(set(given) - set(expected))
    shapes = [
        f"{key} is {tuple(given[key].shape)}, expected {tuple(expected[key].shape)}"
        for key in sorted(set(expected) & set(given))
        if expected[key].shape != given[key].shape
    ]
    dtypes = [
        f"{key} is {given[key].dtype}, expected {expected[key].dtype}"
        for key in sorted(set(expected) & set(given))
        if _kind(expected[key].dtype) != _kind(given[key].dtype)
    ]
    problems = []
    if missing:
        problems.append(f"{_listed(missing)} missing: {', '.join(missing[:20])}")
    if unexpected:
        problems.append(f"{_listed(unexpected)} unknown to the model: {', '.join(unexpected[:20])}")
    if shapes:
        problems.append(f"{_listed(shapes)} of another shape: {'; '.join(shapes[:20])}")
    if dtypes:
        problems.append(f"{_listed(dtypes)} of another dtype: {'; '.join(dtypes[:20])}")
    if problems:
        wrapper = next((prefix for prefix in ("module.", "_orig_mod.") if given and all(key.startswith(prefix) for key in given)), None)
        advice = "Check that the configuration belongs to these weights" if wrapper is None else f"Every name begins with {wrapper!r}: take it off"
        raise CheckpointError(f"the weights of {source} do not fit the model. {'. '.join(problems)}. {advice}.")


def matches(pattern: str, key: str) -> bool:
    """Whether a dotted key fits a pattern."""
    return _compile(pattern).fullmatch(key) is not None


def _join(renamed: dict[str, Tensor], target: str, parts: tuple[str, ...]) -> None:
    """Replace the tensors named by `parts` by their concatenation, wherever the first of them occurs."""
    for key in list(renamed):
        match = _compile(parts[0]).fullmatch(key)
        if match:
            names = [_fill(part, match.groups()) for part in parts]
            missing = [name for name in names if name not in renamed]
            if missing:
                raise CheckpointError(f"the checkpoint has {names[0]!r} but not {', '.join(missing)}, which belong together (our names)")
            renamed[_fill(target, match.groups())] = torch.cat([renamed.pop(name) for name in names])


def _kind(dtype: torch.dtype) -> str:
    """Dtypes of one kind are converted without a scale: those of 8 bits and fewer need one."""
    if dtype in (torch.float16, torch.bfloat16, torch.float32, torch.float64):
        return "float"
    return "integer" if dtype in (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64) else str(dtype)


def _listed(items: list[str]) -> str:
    return f"{len(items)} tensor{'s' if len(items) != 1 else ''}" + (" (first 20 shown)" if len(items) > 20 else "")


def _compile(pattern: str) -> re.Pattern[str]:
    return re.compile(re.escape(pattern).replace(r"\{\*\}", "(.+)").replace(r"\{\}", r"([^.]+)"))


def _fill(target: str, groups: tuple[str, ...]) -> str:
    parts = iter(groups)
    return re.sub(r"\{\*?\}", lambda _: next(parts), target)
