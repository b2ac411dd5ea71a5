"""How often somebody may ask: token buckets in the memory of this process, never more of them than a bound."""

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from ipaddress import IPv6Address, IPv6Network, ip_address

from dicom_core.errors import TooManyRequestsError

_MOST_KEYS = 10_000
_ONE_HOST_BITS = 64
"""Of an IPv6 address: whoever has one has all with the same beginning (RFC 4291 section 2.5.4, RFC 6177)."""


def network_of(address: str) -> str:
    """What stands for an address where requests are counted: the address itself, of IPv6 its /64."""
    try:
        found = ip_address(address)
    except ValueError:  # none, as in tests and over a Unix socket
        return address
    if not isinstance(found, IPv6Address):
        return str(found)
    if found.ipv4_mapped is not None:
        return str(found.ipv4_mapped)
    return str(IPv6Network((found, _ONE_HOST_BITS), strict=False))


class RateLimit:
    """So many requests a minute for each key; a minute's worth may come at once.

    Args:
        per_minute: The limit.
        clock: Seconds that never go back.
    """

    def __init__(self, per_minute: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._per_minute = per_minute
        self._clock = clock
        self._lock = threading.Lock()
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, key: str) -> bool:
        """Whether one more request of this key is within the limit."""
        now = self._clock()
        with self._lock:
            left, since = self._left.pop(key, (float(self._per_minute), now))
            left = min(float(self._per_minute), left + (now - since) * self._per_minute / 60)
            allowed = left >= 1
            self._left[key] = (left - 1 if allowed else left, now)
            if len(self._left) > _MOST_KEYS:
                self._left.popitem(last=False)  # who did not ask for longest; a full bucket is what a new one has
        return allowed

    def check(self, key: str, sentence: str) -> None:
        """Take one.

        Raises:
            TooManyRequestsError: With ``sentence``, and after how long one more is allowed.
        """
        if not self.take(key):
            raise TooManyRequestsError(sentence, seconds=max(1, -(-60 // self._per_minute)))
