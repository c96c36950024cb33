"""Dataclasses of tensors as PyTorch pytrees, so that `torch.export`, `torch.compile` and `tree_map` look into them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields
from typing import Any, TypeVar

from torch.utils import _pytree as pytree

from visiontok.base.config import Config

T = TypeVar("T")


def registered(**static: type) -> Callable[[type[T]], type[T]]:
    """Register a dataclass, whose fields become the children of a pytree node; those that are None are omitted.

    Nodes are rebuilt without the checks of the constructor: while a program is traced, the children need not be tensors.

    Args:
        static: fields that are no children but belong to the structure, and their types: a `Config` or one of JSON's own types.
    """

    def register(cls: type[T]) -> type[T]:
        names = [field.name for field in fields(cls) if field.name not in static]  # type: ignore[arg-type]

        def flatten(value: Any) -> tuple[list[Any], tuple[Any, ...]]:
            held = [name for name in names if getattr(value, name) is not None]
            children = [getattr(value, name) for name in held]
            context = (tuple(held), *(getattr(value, name) for name in static))
            return [dict(child) if isinstance(child, Mapping) else child for child in children], context

        def flatten_with_keys(value: Any) -> tuple[list[Any], tuple[Any, ...]]:
            children, context = flatten(value)
            return [(pytree.GetAttrKey(name), child) for name, child in zip(context[0], children, strict=True)], context

        def unflatten(children: Iterable[Any], context: tuple[Any, ...]) -> T:
            held, *parts = context
            value = object.__new__(cls)
            for name in names:
                object.__setattr__(value, name, None)
            for name, child in zip([*held, *static], [*children, *parts], strict=True):
                object.__setattr__(value, name, child)
            return value

        def dump(context: tuple[Any, ...]) -> list[Any]:
            return [list(context[0]), *(part.to_dict() if isinstance(part, Config) else part for part in context[1:])]

        def load(parts: list[Any]) -> tuple[Any, ...]:
            kinds = static.values()
            return (tuple(parts[0]), *(kind.parse(part) if issubclass(kind, Config) else part for part, kind in zip(parts[1:], kinds, strict=True)))

        pytree.register_pytree_node(
            cls,
            flatten,
            unflatten,
            serialized_type_name=f"{cls.__module__}.{cls.__name__}",
            to_dumpable_context=dump,
            from_dumpable_context=load,
            flatten_with_keys_fn=flatten_with_keys,
        )
        return cls

    return register
