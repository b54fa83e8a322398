"""What the Spark session prints when Spark's process is gone."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator

import pytest
from pyspark.accumulators import AccumulatorServer, _start_update_server

from lbsf.session import ignore_lost_connections

TOKEN = "secret"


@pytest.fixture
def server() -> Iterator[AccumulatorServer]:
    started = _start_update_server(TOKEN)
    yield started
    started.shutdown()


def connect_and_leave(server: AccumulatorServer, token: str) -> None:
    """Authenticate as Spark's process does, and end the connection; return when the server has handled that."""
    with socket.create_connection(server.server_address, timeout=10) as connection:
        connection.sendall(token.encode() + struct.pack("!i", 0))
        if token == TOKEN:
            assert connection.recv(1) == b"\x01"
        connection.shutdown(socket.SHUT_WR)
        assert connection.recv(1) == b""


def test_a_lost_connection_is_not_printed_but_other_errors_are(
    server: AccumulatorServer, capsys: pytest.CaptureFixture[str]
) -> None:
    connect_and_leave(server, TOKEN)
    assert "EOFError" in capsys.readouterr().err
    ignore_lost_connections(server)
    connect_and_leave(server, TOKEN)
    assert capsys.readouterr().err == ""
    connect_and_leave(server, "wrong!")
    assert "token to the AccumulatorServer is not correct" in capsys.readouterr().err
