"""What a server accepts, so that no request costs more than its share."""

from dataclasses import dataclass

__all__ = ["Limits"]


@dataclass(frozen=True)
class Limits:
    """Limits of requests.

    Parameters
    ----------
    body_bytes
        Of a request.
    body_seconds
        That a body may take to arrive.
    send_seconds
        That a client may leave a part of its answer unread.
    rows
        Of a table that is sent, or drawn.
    choices
        Answers to one text.
    waiting
        Requests that are held at once, those that are answered among them; one more is told to come
        again.
    retry_seconds
        When to come again.
    messages
        Of a conversation.
    texts
        That one request may ask about.
    """

    body_bytes: int = 8 << 20
    body_seconds: float = 30.0
    send_seconds: float = 30.0
    rows: int = 10_000
    choices: int = 16
    waiting: int = 32
    retry_seconds: int = 1
    messages: int = 1_000
    texts: int = 256
