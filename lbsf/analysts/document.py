"""Writes the views and their columns into docs/analysts.md, from conf/views.

Usage: python -m lbsf.analysts.document conf/views docs/analysts.md
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from lbsf.analysts.answers import describe, with_part
from lbsf.analysts.views import load_views


def main(argv: Sequence[str]) -> int:
    """Replace the document's part `views`; return the exit code."""
    if len(argv) != 2:
        print("usage: python -m lbsf.analysts.document FOLDER FILE", file=sys.stderr)
        return 2
    folder, file = map(Path, argv)
    text = with_part(file.read_text(encoding="utf-8"), "views", describe(load_views(folder)))
    file.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
