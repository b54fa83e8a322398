"""Load the YAML configuration: a base file, the named file over it, then `section.key=value` overrides."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from lbsf.config.models import Config
from lbsf.errors import ConfigurationError


def load_config(path: str | Path, overrides: Sequence[str] = ()) -> Config:
    """Read a configuration file.

    A file may name another one in its top-level key `extends` (relative to itself). Its own values
    override that file's, key by key within each section.

    Args:
        path: YAML file.
        overrides: `section.key=value` strings; the value is parsed as YAML.

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
    """Return one line that names each refused key and the reason."""
    return "; ".join(
        f"{'.'.join(str(part) for part in item['loc']) or 'configuration'}: {item['msg'].removeprefix('Value error, ')}"
        + (" (unknown key)" if item["type"] == "extra_forbidden" else "")
        for item in error.errors(include_url=False)
    )


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML file's top-level mapping.

    Raises:
        ConfigurationError: the file is missing, not UTF-8, not YAML or not a mapping, or it repeats a key.
    """
    try:
        values = _load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigurationError(f"{path}: no such file") from None
    except UnicodeDecodeError as error:
        raise ConfigurationError(
            f"{path}: byte {error.start + 1} is not UTF-8: save the file with the encoding UTF-8"
        ) from None
    # YAML raises ValueError for an impossible value, such as the day 2025-02-30.
    except (OSError, yaml.YAMLError, ValueError) as error:
        where = " ".join(str(error).split()).replace('in "<unicode string>", ', "at ")
        raise ConfigurationError(f"{path}: cannot be read as YAML: {where}") from None
    if not isinstance(values, dict):
        raise ConfigurationError(f"{path}: expected `key: value` lines at the top level")
    return values


class _Loader(yaml.SafeLoader):
    """YAML's safe loader, which also refuses a repeated key in a mapping, where the last would silently win."""

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
    """Override `below` with `above`, key by key within each section; a key's value is replaced as a whole."""
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
    # YAML reads text after ` #` as a comment, but here it is part of a value, such as a folder's name.
    commented = isinstance(value, str) and " #" in text and text.strip()[0] not in "'\""
    return {section: {key: text.strip() if commented else value}}
