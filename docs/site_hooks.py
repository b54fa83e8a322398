"""Hooks of the documentation site (mkdocs.yml)."""

from __future__ import annotations

import posixpath
import re
from typing import Any

import griffe

# A docstring's example, up to the next blank line.
_EXAMPLE = re.compile(r"(?m)^>>> (?:.*\n?)(?:(?!\s*$).*\n?)*")
_LINK = re.compile(r"\[(?P<text>[^\]]*)\]\((?P<target>\.\./[^)\s]+)\)")


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Turn links to files outside docs/, which the site does not hold, into the names of these files."""
    folder = posixpath.dirname(page.file.src_uri)

    def replacement(match: re.Match[str]) -> str:
        path = posixpath.normpath(posixpath.join("docs", folder, match["target"].partition("#")[0]))
        if path.startswith("docs/"):
            return match[0]
        return f"{match['text'].strip('`')} (`{path}`)"

    return _LINK.sub(replacement, markdown)


class Examples(griffe.Extension):
    """Show the examples of docstrings as code."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Put a fence around each run of lines that begins with `>>>`."""
        if obj.docstring is not None:
            obj.docstring.value = _EXAMPLE.sub(lambda m: f"```pycon\n{m[0].rstrip()}\n```\n", obj.docstring.value)
