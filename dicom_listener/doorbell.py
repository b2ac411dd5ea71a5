"""Ringing the workers over Redis. A ring that is lost, doubled or late costs nothing but time."""

from collections.abc import Callable, Sequence

import redis
from celery import Celery
from kombu.exceptions import OperationalError

from dicom_core.errors import UnavailableError
from dicom_core.messages import celery_settings

_TIMEOUT_SECONDS = 2.0


class Doorbell:
    """The producing end of the queues."""

    def __init__(self, redis_url: str) -> None:
        self._app = Celery("vesselq", set_as_current=False)
        self._app.conf.update(celery_settings(redis_url))
        self._redis = redis.Redis.from_url(
            redis_url, socket_timeout=_TIMEOUT_SECONDS, socket_connect_timeout=_TIMEOUT_SECONDS
        )

    def unanswered(self, queue: str) -> int:
        """How many rings lie in a queue.

        Raises:
            UnavailableError: Redis does not answer.
        """
        try:
            length: int = self._redis.llen(queue)
        except redis.RedisError as error:
            raise UnavailableError(f"Redis does not answer: {error}") from error
        return length

    def ring(self, task: str, queue: str, ids: Sequence[str], rung: Callable[[str], None]) -> None:
        """Ring once for each id, in order; ``rung`` is told of each that Redis took.

        Raises:
            UnavailableError: Redis does not answer.
        """
        for identifier in ids:
            try:
                self._app.send_task(task, args=[identifier], queue=queue, ignore_result=True, retry=False)
            except (OperationalError, redis.RedisError, OSError) as error:
                raise UnavailableError(f"Redis does not answer: {error}") from error
            rung(identifier)

    def close(self) -> None:
        """Let the connections go."""
        self._app.close()
        self._redis.close()
