"""The base of every configuration: frozen, checked, round-trips through JSON, names components and never import paths."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from typing_extensions import Self

from visiontok.base.errors import ConfigError
from visiontok.base.json_text import read_json
from visiontok.base.names import close_names

Positive = Annotated[int, Field(gt=0)]
Probability = Annotated[float, Field(ge=0, lt=1)]  # of a dropout and the like, which never drop everything
"""A count or a size: an integer of at least 1."""


Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
"""Of a file, in hexadecimal digits."""


if TYPE_CHECKING:  # type checkers read the fields of each configuration, but not through a metaclass of ours
    from pydantic._internal._model_construction import ModelMetaclass as _Explained
else:

    class _Explained(type(BaseModel)):  # pydantic's metaclass has no public name
        """Errors of a constructor are those of `parse`."""

        def __call__(cls, *args: Any, **values: Any) -> Any:
            try:
                return super().__call__(*args, **values)
            except ValidationError as error:
                raise ConfigError(_explain(cls, error, f"the call of {cls.__name__}")) from error


class Config(BaseModel, metaclass=_Explained):
    """A frozen pydantic model that rejects unknown keys and whose errors are one readable paragraph.

    Raises:
        ConfigError: if it is built from unknown, missing or invalid fields.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, allow_inf_nan=False)

    @classmethod
    def parse(cls, values: Mapping[str, Any], *, source: str = "configuration") -> Self:
        """Validate `values`.

        Raises:
            ConfigError: with one line per offending key; `source` says where the values came from.
        """
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            raise ConfigError(_explain(cls, error, source)) from error
        except (OverflowError, RecursionError) as error:  # numbers and depths that no file holds, see `plain_values`
            raise ConfigError(f"{source} is not a valid {cls.__name__}: {error}") from error

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read a JSON file written by `save`.

        Raises:
            ConfigError: naming the file, if it cannot be read or see `parse`.
        """
        return cls.parse(read_json(path), source=str(path))

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values; `parse(config.to_dict()) == config`."""
        return self.model_dump(mode="json")

    def replace(self, **changes: Any) -> Self:
        """A validated copy with some fields changed; a nested mapping changes fields of a nested configuration."""
        return type(self).parse(merge(self.to_dict(), changes), source=f"changes to {type(self).__name__}")


def merge(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of `base` with `changes` over it, mapping by mapping."""
    merged = dict(base)
    for key, value in changes.items():
        if isinstance(value, Mapping) and isinstance(merged.get(key), Mapping):
            merged[key] = merge(merged[key], value)
        else:
            merged[key] = value
    return merged


def _explain(cls: type[Config], error: ValidationError, source: str) -> str:
    lines, listed = [], False
    for detail in error.errors():
        path = ".".join(str(part) for part in detail["loc"])
        if detail["type"] == "extra_forbidden":
            lines.append(f"{path}: unknown key (value {detail['input']!r}){_suggestion(cls, detail['loc'])}")
            listed = True
        elif detail["type"] in ("literal_error", "union_tag_invalid"):
            lines.append(f"{path}: {detail['msg']} (got {detail['input']!r}){_meant(detail)}")
        elif isinstance(detail["input"], Mapping):  # the message says which of its values are wrong
            lines.append(": ".join(filter(None, [path, detail["msg"].removeprefix("Value error, ")])))
        else:
            lines.append(f"{path}: {detail['msg'].removeprefix('Value error, ')} (got {detail['input']!r})")
    known = f". Known top-level keys: {', '.join(cls.model_fields)}." if listed else ""
    return f"{source} is not a valid {cls.__name__}: {'; '.join(lines)}{known}"


def _suggestion(cls: type[BaseModel], path: tuple[int | str, ...]) -> str:
    """Known keys similar to the unknown one at `path`."""
    *parents, key = path
    models = [cls]
    for part in parents:
        fields = [model.model_fields[str(part)] for model in models if str(part) in model.model_fields]
        inside = [inner for field in fields for inner in config_types_in(field.annotation)]
        tagged = [model for model in models if any(part in get_args(field.annotation) for field in model.model_fields.values())]
        models = inside or tagged or models  # the tag of a union chooses a member; an index leads no deeper
    known = [name for model in models for name in model.model_fields]
    close = close_names(str(key), known, count=2, cutoff=0.6)
    if close:
        return f", did you mean {' or '.join(close)}?"
    return f", known here: {', '.join(known)}" if parents and known else ""


def _meant(detail: Mapping[str, Any]) -> str:
    """Expected values similar to the given one."""
    context = detail["ctx"]
    given = context.get("tag", detail["input"])  # of a union, the tag that chooses the member
    close = close_names(str(given), re.findall("'([^']*)'", context.get("expected_tags", context.get("expected", ""))), count=2, cutoff=0.6)
    return f", did you mean {' or '.join(close)}?" if close else ""


def config_types_in(annotation: Any) -> Iterator[type[BaseModel]]:
    """The models that an annotation such as `tuple[A, ...] | B | None` mentions."""
    if get_origin(annotation) is None and isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from config_types_in(argument)
