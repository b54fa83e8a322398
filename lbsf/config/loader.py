"""One YAML loader: a base file, the named file laid over it, then `section.key=value` overrides."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from lbsf.config.models import Config
from lbsf.errors import ConfigurationError


def load_config(path: str | Path, overrides: Sequence[str] = ()) -> Config:
    """Reads a configuration file.

    A file may name another in its top-level key `extends` (relative to itself); its own values are
    laid over that file's, key by key within each section.

    Args:
        path: YAML file.
        overrides: `section.key=value` strings; the value is read as YAML.

    Raises:
        ConfigurationError: a file is missing or not YAML, or a key or value is refused; the message
            names every refused key.
    """
    values = _read(Path(path))
    for override in overrides:
        values = _merge(values, _parse_override(override))
    try:
        return Config.model_validate(values)
    except ValidationError as error:
        raise ConfigurationError(f"{path}: {describe(error)}") from None


def describe(error: ValidationError) -> str:
    """One line that names each refused key and why."""
    return "; ".join(
        f"{'.'.join(str(part) for part in item['loc']) or 'configuration'}: {item['msg'].removeprefix('Value error, ')}"
        + (" (unknown key)" if item["type"] == "extra_forbidden" else "")
        for item in error.errors(include_url=False)
    )


def read_yaml(path: Path) -> dict[str, Any]:
    """A YAML file's top-level mapping.

    Raises:
        ConfigurationError: it is missing, not UTF-8, not YAML or no mapping, or a key stands twice in it.
    """
    try:
        values = _load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigurationError(f"{path}: no such file") from None
    except UnicodeDecodeError as error:
        raise ConfigurationError(
            f"{path}: byte {error.start + 1} is not UTF-8: save the file with the encoding UTF-8"
        ) from None
    # A ValueError is a value that is none, such as the day 2025-02-30.
    except (OSError, yaml.YAMLError, ValueError) as error:
        where = " ".join(str(error).split()).replace('in "<unicode string>", ', "at ")
        raise ConfigurationError(f"{path}: cannot be read as YAML: {where}") from None
    if not isinstance(values, dict):
        raise ConfigurationError(f"{path}: expected `key: value` lines at the top level")
    return values


class _Loader(yaml.SafeLoader):
    """YAML's safe loader that refuses a key which stands twice in one mapping, where the last would win in silence."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[tuple[str, str]] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if (key.tag, key.value) in seen:
                    raise yaml.constructor.ConstructorError(None, None, f"key {key.value} stands twice", key.start_mark)
                seen.add((key.tag, key.value))
        return super().construct_mapping(node, deep)


def _load(text: str) -> Any:
    return yaml.load(text, Loader=_Loader)  # noqa: S506 - a safe loader


def _read(path: Path, seen: tuple[Path, ...] = ()) -> dict[str, Any]:
    if path.resolve() in seen:
        raise ConfigurationError(f"{path}: extends itself")
    values = read_yaml(path)
    parent = values.pop("extends", None)
    if parent is None:
        return values
    return _merge(_read(path.parent / str(parent), (*seen, path.resolve())), values)


def _merge(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    """Lays `above` over `below` key by key within each section; a key's value is replaced whole."""
    merged = dict(below)
    for section, values in above.items():
        if isinstance(values, dict) and isinstance(below.get(section), dict):
            merged[section] = {**below[section], **values}
        else:
            merged[section] = values
    return merged


def _parse_override(override: str) -> dict[str, Any]:
    path, separator, text = override.partition("=")
    section, dot, key = path.strip().partition(".")
    if not (separator and section and dot and key):
        raise ConfigurationError(f"--set {override}: expected section.key=value")
    try:
        value = _load(text)
    except (yaml.YAMLError, ValueError):
        raise ConfigurationError(f"--set {override}: the value is not YAML") from None
    # YAML would take what follows ` #` for a comment; here it is part of a name, such as a folder's.
    commented = isinstance(value, str) and " #" in text and text.strip()[0] not in "'\""
    return {section: {key: text.strip() if commented else value}}
