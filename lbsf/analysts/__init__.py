"""Views over the tables for analysts, and queries with their answers."""

from lbsf.analysts.answers import Answer, answer, as_markdown, describe, with_part
from lbsf.analysts.views import View, load_views, publish

__all__ = ["Answer", "View", "answer", "as_markdown", "describe", "load_views", "publish", "with_part"]
