"""The server's process: one socket, one model, an end without loose ends."""

import logging
import socket
from collections.abc import Callable
from typing import Any

import uvicorn

from conjoin.serving.refusals import LOG

__all__ = ["run"]

GRACE_SECONDS = 10  # that answers may still take once the server is told to end
CONNECTIONS_PER_PLACE = 4
BACKLOG = 128
MAX_HEADER_BYTES = 1 << 16


def run(app: Any, host: str, port: int, say: Callable[[str], None], quiet: bool = False) -> None:
    """Answer until the process is told to end.

    Parameters
    ----------
    app
        Of ``create_app``.
    host, port
        Where; port 0 is any free one.
    say
        Is told the address, once it is taken.
    quiet
        Whether requests leave no line in the log.

    Raises
    ------
    ValueError
        If the address is not free.
    """
    LOG.setLevel(logging.ERROR if quiet else logging.INFO)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            taken.bind((host, port))
            taken.listen(BACKLOG)  # whoever is told the address may call at once
        except OSError as error:
            raise ValueError(
                f"The address {host}:{port} can't be taken: {error.strerror}."
            ) from None
        named = f"[{host}]" if ":" in host else host
        say(f"http://{named}:{taken.getsockname()[1]}")
        config = uvicorn.Config(
            app,
            access_log=False,
            log_level="error",
            server_header=False,
            timeout_graceful_shutdown=GRACE_SECONDS,
            limit_concurrency=CONNECTIONS_PER_PLACE * app.limits.waiting,
            h11_max_incomplete_event_size=MAX_HEADER_BYTES,
            http="h11",
            ws="none",
        )
        uvicorn.Server(config).run(sockets=[taken])
