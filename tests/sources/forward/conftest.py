"""A source on a free loopback port with an ingest behind it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from wendelin_stream.plugin import SourceContext
from wendelin_stream.sources.forward import ForwardConfig, ForwardSource
from wendelin_stream.testing.forward import Client, Ingest

Serve = Callable[..., AbstractAsyncContextManager[Ingest]]


@pytest.fixture
def make_source(tmp_path: Path) -> Callable[..., ForwardSource]:
    def make(**options: Any) -> ForwardSource:
        config = ForwardConfig(**{"listen": "127.0.0.1:0"} | options)
        return ForwardSource(config, SourceContext("fluent", tmp_path))

    return make


@pytest.fixture
def serve(make_source) -> Serve:
    @asynccontextmanager
    async def start(*, commits: bool = True, judge=lambda received: None, **options: Any) -> AsyncIterator[Ingest]:
        async with Ingest(make_source(**options), commits=commits, judge=judge) as ingest:
            yield ingest

    return start


@pytest.fixture
def connect():
    async def to(ingest: Ingest) -> Client:
        return await Client.connect(ingest.source.addresses[0])

    return to
