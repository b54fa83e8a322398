"""Trees and regressions this small only lose time to threads."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from threadpoolctl import threadpool_limits

from lbsf.baselines import boosting


@pytest.fixture(autouse=True)
def _one_thread(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setitem(boosting.SETTINGS, "num_threads", 1)
    with threadpool_limits(limits=1):
        yield
