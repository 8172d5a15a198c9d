"""Settings and limits of a server."""

import math
from dataclasses import dataclass

from export.serving.hosts import check_name

LOOPBACK = ("127.0.0.1", "localhost", "::1")


@dataclass(frozen=True)
class Limits:
    """Limits of one request, checked before anything is decoded."""

    max_body_bytes: int = 32_000_000
    """Of one request, base64 included."""
    max_bodies_bytes: int = 256_000_000
    """Of all requests in progress."""
    max_records: int = 64
    """Of one request."""
    max_text_characters: int = 100_000
    """Of one text."""
    max_pixels: int = 16_000_000
    """Of one image; decoding takes some 12 bytes per pixel."""
    max_pixels_per_request: int = 64_000_000
    """Of all its images."""
    max_samples: int = 6_000_000
    """Of one clip, times its channels: a minute of stereo at 48 kHz."""
    max_values: int = 1_000_000
    """Of a request's JSON."""
    max_tensor_values: int = 5_000_000
    """Of a JSON that holds tensors."""


@dataclass(frozen=True)
class Settings:
    """Settings of a server.

    >>> Settings(host="0.0.0.0").allowed_hosts is None, Settings().allowed_hosts
    (True, ('127.0.0.1', 'localhost', '::1'))

    Raises:
        ValueError: if a value is out of its range.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    """0 takes a free one."""
    token: str | None = None
    """Bearer token of every request except those for the page and for health; None asks for none."""
    hosts: tuple[str, ...] = ()
    """Names of this server besides those of this machine, in ``Host`` and, with their port if there is one, in the
    ``Origin`` of its page."""
    max_batch: int = 32
    """Records per batch; 1 switches batching off."""
    max_wait_ms: float = 5.0
    """Largest wait of a record for others that are arriving; a single one does not wait."""
    max_queue: int = 256
    """Records that are admitted at a time; beyond them: 429."""
    timeout_seconds: float = 10.0
    """From a request's first byte to its response; beyond it: 408 while it is being sent, else 504."""
    drain_seconds: float = 1.0
    """From a SIGTERM, which ends readiness, until no more connections are accepted."""
    name: str | None = None
    """Name of the model in the Open Inference Protocol; None takes the bundle's."""
    limits: Limits = Limits()

    def __post_init__(self) -> None:
        least = {"max_batch": 1, "max_wait_ms": 0, "max_queue": 1, "drain_seconds": 0, "port": 0}
        for name, smallest in least.items():
            if not smallest <= getattr(self, name) < math.inf:
                raise ValueError(f"{name} is {getattr(self, name)}; give at least {smallest}, and a finite number")
        if not 0 < self.timeout_seconds < math.inf:
            raise ValueError(f"timeout_seconds is {self.timeout_seconds}; give seconds above 0, for example 10")
        for name in self.hosts:
            check_name(name)
        # a header drops white space at its end, so that no request could match it
        if self.token is not None and (
            len(self.token) < 16 or not self.token.isascii() or self.token != self.token.strip()
        ):
            raise ValueError(
                f"the token has {len(self.token)} characters; give at least 16 of ASCII without white space around "
                "them, for example the output of: openssl rand -hex 32"
            )

    @property
    def allowed_hosts(self) -> tuple[str, ...] | None:
        """Allowed names in the ``Host`` header; None allows any."""
        if self.host not in LOOPBACK and not self.hosts:
            return None
        return tuple(dict.fromkeys((*LOOPBACK, self.host, *self.hosts)))
