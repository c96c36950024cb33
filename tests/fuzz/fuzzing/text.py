"""Mutators of text formats: JSON, YAML, lines of JSON, model cards and command lines."""

from __future__ import annotations

import json
from random import Random
from typing import Any

import yaml

from fuzzing.raw import TEXTS, hostile_value

_JSON_RAW = {
    "RAWdigits": "9" * 5000,
    "RAWdeep": "[" * 50_000 + "]" * 50_000,
    "RAWobjects": '{"a":' * 50_000 + "1" + "}" * 50_000,
    "RAWhuge": "1e999",
    "RAWnan": "NaN",
    "RAWwhole": "3.0",
    "RAWhalf": '"\\ud800"',
    "RAWcomma": "1,",
}
_YAML_RAW = {
    "RAWdigits": "9" * 5000,
    "RAWdeep": "[" * 3000 + "]" * 3000,
    "RAWenv": "${oc.env:HOME}",
    "RAWdecode": "${oc.decode:abc}",
    "RAWself": "${name}",
    "RAWcode": "!!python/object/apply:os.system ['true']",
    "RAWdate": "2024-13-45",
    "RAWtime": "12:99:99.5",
    "RAWoctal": "0o9",
    "RAWhex": "0x",
    "RAWinf": ".inf",
    "RAWnan": ".NaN",
    "RAWbinary": "!!binary 'a'",
    "RAWint": "!!int abc",
    "RAWfloat": "!!float abc",
    "RAWset": "!!set {a, b}",
    "RAWself2": "&a [*a]",
    "RAWalias": "*gone",
    "RAWmerge": "{<<: 3}",
    "RAWkey": "{[1, 2]: 3, 1: 2, null: 4, true: 5}",
    "RAWunder": "1__000",
    "RAWhalf": '"\\ud800"',
    "RAWmissing": "???",
    "RAWtag": "!unknown {}",
}


def mutate_json(random: Random, data: bytes) -> bytes:
    """Another tree of values, some of which only the text can hold."""
    tree = _mutate_tree(random, json.loads(data), list(_JSON_RAW))
    text = json.dumps(tree)
    for token, raw in _JSON_RAW.items():
        text = text.replace(f'"{token}"', raw)
    return text.encode("utf-8", errors="surrogatepass")


def mutate_yaml(random: Random, data: bytes) -> bytes:
    """Another tree of values, or of what only YAML has: tags, aliases, interpolations and odd scalars."""
    tree = _mutate_tree(random, yaml.safe_load(data), list(_YAML_RAW))
    text = yaml.safe_dump(tree, sort_keys=False, allow_unicode=True)
    for token, raw in _YAML_RAW.items():
        text = text.replace(token, raw)
    return text.encode("utf-8", errors="surrogatepass")


def mutate_lines(random: Random, data: bytes) -> bytes:
    """One line of JSON changed, removed, repeated or cut."""
    lines = data.splitlines()
    position = random.randrange(len(lines))
    action = random.randrange(4)
    if action == 0:
        lines[position] = mutate_json(random, lines[position])
    elif action == 1:
        lines[position] = lines[position][: random.randrange(len(lines[position]))]
    elif action == 2:
        lines.insert(position, random.choice(lines))
    else:
        del lines[position]
    return b"\n".join(lines) + random.choice((b"\n", b""))


def mutate_card(random: Random, data: bytes) -> bytes:
    """Another front matter."""
    _, front, rest = data.split(b"---\n", 2)
    return b"---\n" + mutate_yaml(random, front) + b"---\n" + rest


def mutate_arguments(random: Random, data: bytes) -> bytes:
    """Another command line: a JSON list of words."""
    words: list[str] = json.loads(data)
    position = random.randrange(len(words)) if words else 0
    action = random.randrange(6)
    word = random.choice((*TEXTS, str(hostile_value(random)), "--help", "-", "--", "--no-such", "cuda:99", "."))
    if action == 0 or not words:
        words.insert(position, word)
    elif action <= 2:
        words[position] = word
    elif action == 3:
        del words[position]
    elif action == 4:
        words.insert(position, words[position])
    else:
        head, equals, _ = words[position].partition("=")
        words[position] = f"{head}{equals or '='}{word}"
    return json.dumps(words).encode()


def _mutate_tree(random: Random, tree: Any, raw: list[str]) -> Any:
    places = list(_places(tree))
    if not places or random.random() < 0.03:
        return random.choice((hostile_value(random), raw[0], [tree], {"a": tree}))
    for _ in range(random.choice((1, 1, 1, 2))):
        container, key = random.choice(places)
        if isinstance(container, list):
            if not isinstance(key, int) or key >= len(container):
                continue
        elif key not in container:
            continue
        action = random.randrange(10)
        if action <= 3:
            container[key] = hostile_value(random)
        elif action <= 5:
            container[key] = random.choice(raw)
        elif action == 6:
            other, other_key = random.choice(places)
            container[key] = json.loads(json.dumps(other[other_key])) if _holds(other, other_key) else None
        elif action == 7:
            del container[key]
        elif action == 8:
            if isinstance(container, dict):
                container[random.choice((*TEXTS, f"{key} "))] = container.pop(key)
            else:
                container.insert(key, container[key])
        else:
            value = container[key]
            container[key] = value * random.choice((-1, 2, 1000)) if isinstance(value, int | float) and not isinstance(value, bool) else [value]
    return tree


def _holds(container: Any, key: Any) -> bool:
    return key < len(container) if isinstance(container, list) else key in container


def _places(tree: Any) -> Any:
    """(container, key) of every value."""
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, value in list(items):
        yield tree, key
        yield from _places(value)
