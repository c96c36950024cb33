"""From a valid input to a damaged one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import PurePosixPath
from random import Random

from fuzzing.archives import mutate_npy, mutate_npz, mutate_pickle, mutate_safetensors, mutate_tar, mutate_torch
from fuzzing.entry import Entry, Files, Special
from fuzzing.parquet import mutate_parquet
from fuzzing.raw import hostile_name, mutate_bytes
from fuzzing.text import mutate_arguments, mutate_card, mutate_json, mutate_lines, mutate_yaml

Mutator = Callable[[Random, bytes], bytes]

BY_SUFFIX: dict[str, Sequence[Mutator]] = {
    ".bin": (mutate_torch, mutate_pickle),
    ".ckpt": (mutate_torch, mutate_pickle),
    ".json": (mutate_json,),
    ".jsonl": (mutate_lines,),
    ".md": (mutate_card,),
    ".npy": (mutate_npy,),
    ".npz": (mutate_npz, mutate_torch),
    ".parquet": (mutate_parquet,),
    ".pt": (mutate_torch, mutate_pickle),
    ".safetensors": (mutate_safetensors,),
    ".tar": (mutate_tar,),
    ".ts": (mutate_torch,),
    ".yaml": (mutate_yaml,),
}
"""Mutators that know a format; where they cannot parse what they are given, its bytes are changed."""


def case(entry: Entry, bases: Sequence[Files], seed: int, number: int) -> Files:
    """Input `number` of a seed; the first ones are the valid inputs."""
    if number < len(bases):
        return dict(bases[number])
    random = Random(f"{entry.name}/{seed}/{number}")
    files = dict(random.choice(bases))
    for _ in range(random.choice((1, 1, 1, 2, 4))):
        names = [name for name in files if entry.mutable is None or entry.mutable(name)]
        if not names:
            break
        if random.random() < 0.06 and not names[0].endswith(".args"):
            _mutate_folder(random, files, random.choice(names))
            continue
        name = random.choice(names)
        content = files[name]
        if isinstance(content, bytes):
            files[name] = mutate_content(random, name, content, [other for base in bases for other in base.values() if isinstance(other, bytes)])
    return files


def mutate_content(random: Random, name: str, content: bytes, others: Sequence[bytes]) -> bytes:
    """Another content of one file."""
    suffix = PurePosixPath(name).suffix
    known = BY_SUFFIX.get(suffix, ())
    if suffix == ".args":  # what the entry itself parses
        return mutate_arguments(random, content)
    if known and random.random() < 0.7:
        try:
            return random.choice(known)(random, content)
        except Exception:  # it was damaged before
            return mutate_bytes(random, content, others)
    return mutate_bytes(random, content, others)


def _mutate_folder(random: Random, files: Files, name: str) -> None:
    action = random.randrange(5)
    if action == 0:
        del files[name]
    elif action == 1:
        files[name] = random.choice(list(Special))
    elif action == 2:
        files[name] = files[random.choice(list(files))]
    else:
        path = PurePosixPath(name)
        renamed = str(path.with_name(hostile_name(random, path.suffix)))
        files[renamed] = files[name] if action == 3 else files.pop(name)
