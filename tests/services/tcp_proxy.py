"""A TCP proxy before a real server that passes all on, until it is told to fail."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from typing import Self


class TcpProxy:
    """Listens on ``port`` of the loopback before ``upstream``.

    The next ``refuse`` connections are closed at once; with ``hang`` none is answered; after ``cut_after`` bytes
    from the server, where that is set, a connection is broken off.
    """

    def __init__(self, upstream: int) -> None:
        self.upstream = upstream
        self.refuse = 0
        self.hang = False
        self.cut_after: int | None = None
        self.connections = 0
        self._open: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        for one in (self._listener, *self._open):
            one.close()

    def cut(self) -> None:
        """Break off the connections that are open now."""
        for one in self._open:
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                self.connections += 1
                if self.refuse:
                    self.refuse -= 1
                    client.close()
                    continue
                self._open.append(client)
                if not self.hang:
                    server = socket.create_connection(("127.0.0.1", self.upstream))
                    self._open.append(server)
                    threading.Thread(target=self._pass, args=(client, server, None), daemon=True).start()
                    threading.Thread(target=self._pass, args=(server, client, self.cut_after), daemon=True).start()

    def _pass(self, giver: socket.socket, taker: socket.socket, left: int | None) -> None:
        with suppress(OSError):
            while part := giver.recv(65536):
                taker.sendall(part if left is None else part[:left])
                if left is not None:
                    left -= len(part)
                    if left <= 0:
                        break
        for one in (giver, taker):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
