"""The fields of a configuration class as rows of a table: dotted name, type, default."""

from __future__ import annotations

import json
import types
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import annotated_types
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from visiontok.base.config import config_types_in
from visiontok.cli.facts import shortened

_SIGNS = {annotated_types.Gt: (">", "gt"), annotated_types.Ge: (">=", "ge"), annotated_types.Lt: ("<", "lt"), annotated_types.Le: ("<=", "le")}
_PLAIN = {int: "int", float: "float", bool: "bool", str: "str", Path: "path", type(None): "null", Any: "any"}


def field_rows(config: type[BaseModel]) -> list[tuple[str, str, str]]:
    """One row per field, those of nested configurations below it; a class that appears again refers to the field where its own fields stand."""
    return list(_rows(config, "", {}))


def _rows(config: type[BaseModel], prefix: str, seen: dict[type[BaseModel], str]) -> Iterator[tuple[str, str, str]]:
    for name, field in config.model_fields.items():
        path = f"{prefix}{name}"
        members = list(config_types_in(field.annotation))
        tagged = field.discriminator or next((name for name in map(_discriminator, _parts(field.annotation)) if name), None)
        known = {member: seen[member] for member in members if member in seen}
        kind = _type(field.annotation, field.metadata)
        yield path, kind if not known else f"{kind} (see {', '.join(dict.fromkeys(known.values()))})", _default(field)
        for member in members:
            if member not in known:
                own = f"{path}[{_tag(member, tagged)}]" if isinstance(tagged, str) else path
                seen[member] = own
                yield from _rows(member, f"{own}.", seen)


def _type(annotation: Any, metadata: list[Any]) -> str:
    """`int > 0`, `"pixels" | "codes"`, `list of int > 0`, the name of a configuration class."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    bounds = " and ".join(f"{_SIGNS[type(each)][0]} {getattr(each, _SIGNS[type(each)][1])}" for each in metadata if type(each) in _SIGNS)
    if origin is Annotated:
        inner = [each for extra in arguments[1:] for each in (extra.metadata if isinstance(extra, FieldInfo) else [extra])]
        return _type(arguments[0], [*inner, *metadata])
    if origin in (Union, types.UnionType):
        return " | ".join(_type(each, metadata if each is not type(None) else []) for each in arguments)
    if origin is Literal:
        return " | ".join(json.dumps(each) for each in arguments)
    if origin in (tuple, list, frozenset, set):
        if origin is tuple and arguments[-1] is not Ellipsis:
            return f"[{', '.join(_type(each, []) for each in arguments)}]"
        return f"list of {_type(arguments[0], [])}"
    if origin is not None and issubclass(origin, Mapping):
        return f"mapping of {_type(arguments[0], [])} to {_type(arguments[1], [])}"
    return " ".join(filter(None, [_PLAIN.get(annotation, getattr(annotation, "__name__", str(annotation))), bounds]))


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True, validated_data={})
    if not isinstance(value, BaseModel):
        return shortened(value)
    tag = [] if field.discriminator is None else [f"{field.discriminator}: {_tag(type(value), str(field.discriminator))}"]
    changed = [f"{name}: {shortened(shown)}" for name, shown in _changes(value).items() if name != field.discriminator]
    return ", ".join([*tag, *changed]) or "its own defaults"


def _changes(value: BaseModel) -> dict[str, Any]:
    """The fields of a default that are not the defaults of its class."""
    values = value.model_dump(mode="json")
    plain = {name: field.get_default(call_default_factory=True, validated_data={}) for name, field in type(value).model_fields.items()}
    return {name: values[name] for name in values if getattr(value, name) != plain[name]}


def _parts(annotation: Any) -> Iterator[Any]:
    for argument in get_args(annotation):
        yield argument
        yield from _parts(argument)


def _discriminator(part: Any) -> Any:
    return part.discriminator if isinstance(part, FieldInfo) else None


def _tag(member: type[BaseModel], discriminator: str) -> str:
    return str(get_args(member.model_fields[discriminator].annotation)[0])
