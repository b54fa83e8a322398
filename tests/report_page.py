"""Reads the report back: its tables as rows of text, its elements with an id."""

from __future__ import annotations

from html.parser import HTMLParser

VOID = {"meta", "br", "hr", "img", "link"}


class Page(HTMLParser):
    """tables: id -> rows of cells; texts: id -> text; unclosed: tags left open at the end."""

    def __init__(self, text: str):
        super().__init__()
        self.tables: dict[str, list[list[str]]] = {}
        self.texts: dict[str, str] = {}
        self.attributes: list[tuple[str, str]] = []
        self.unclosed: list[str] = []
        self._ids: list[str | None] = []
        self._table = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += [(name, value or "") for name, value in attrs]
        if tag in VOID:
            return
        name = dict(attrs).get("id")
        self.unclosed.append(tag)
        self._ids.append(name)
        if tag == "table":
            self._table = name or ""
            self.tables[self._table] = []
        elif tag == "tr":
            self.tables[self._table].append([])
        elif tag in ("td", "th"):
            self.tables[self._table][-1].append("")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        assert self.unclosed.pop() == tag, f"</{tag}> closes another element"
        self._ids.pop()

    def handle_data(self, data: str) -> None:
        if any(tag in ("td", "th") for tag in self.unclosed):
            self.tables[self._table][-1][-1] += data.strip()
        if self._ids and self._ids[-1]:
            self.texts[self._ids[-1]] = self.texts.get(self._ids[-1], "") + data.strip()
