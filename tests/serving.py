"""Servers that answer in a thread of the test's process, and end with the test."""

import contextlib
import socket
import socketserver
import threading


class Serving:
    """A server's thread, which sleeps while nobody calls; as a context, the server ends with it.

    `serve_forever` wakes twice a second to see whether it is to end. Some hundred such threads that tests had left
    behind queued for the interpreter's lock, which a thread that computes gives away every 5 ms at most, until half a
    second's work took minutes of the processors' time.
    """

    def __init__(self, server: socketserver.BaseServer) -> None:
        self._server = server
        self._over = False
        self._thread = threading.Thread(target=self._run, daemon=True, name="serving")
        self._thread.start()

    def _run(self) -> None:
        while not self._over:
            self._server.handle_request()

    def stop(self) -> None:
        self._over = True
        wake(self._server.socket)
        self._thread.join(60)
        assert not self._thread.is_alive(), "the server does not end"
        self._server.server_close()

    def __enter__(self) -> "Serving":
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def wake(listener: socket.socket) -> None:
    """End whoever waits for a connection to a socket, who does not notice when it is closed."""
    with contextlib.suppress(OSError):
        listener.shutdown(socket.SHUT_RDWR)


def close(listener: socket.socket) -> None:
    wake(listener)
    listener.close()
