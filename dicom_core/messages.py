"""Names on the wire between dispatcher and workers. A message carries an id and nothing else: Redis is a doorbell."""

SEGMENT_QUEUE = "segment"
DELIVER_QUEUE = "deliver"
SEGMENT_TASK = "vesselq.segment_series"
"""Argument: ``job_id``. A hint that work waits; the record decides which job runs."""
DELIVER_TASK = "vesselq.deliver_result"
"""Argument: ``delivery_id``, a hint in the same way."""


def celery_settings(redis_url: str) -> dict[str, object]:
    """The Celery configuration of both ends.

    Early acknowledgement and no result backend: a message that is lost, doubled or late costs nothing, since the
    dispatcher rings again for every row that waits too long.

    Args:
        redis_url: ``redis://``, ``rediss://`` or ``unix://`` in redis-py's spelling.
    """
    return {
        "broker_url": redis_url.replace("unix://", "redis+socket://", 1),
        "task_serializer": "json",
        "accept_content": ["json"],
        "task_ignore_result": True,
        "task_acks_late": False,
        "task_default_queue": SEGMENT_QUEUE,
        "task_routes": {SEGMENT_TASK: {"queue": SEGMENT_QUEUE}, DELIVER_TASK: {"queue": DELIVER_QUEUE}},
        "worker_disable_prefetch": True,
        "worker_prefetch_multiplier": 1,
        "worker_enable_remote_control": False,
        "worker_send_task_events": False,
        "worker_hijack_root_logger": False,
        "broker_connection_retry_on_startup": True,
        "broker_connection_max_retries": None,
        "broker_transport_options": {
            "socket_timeout": 5,
            "socket_connect_timeout": 5,
            "socket_keepalive": True,
            "visibility_timeout": 3600,
            "max_retries": 1,
            "interval_start": 0,
            "interval_max": 0.2,
        },
        "task_publish_retry": False,
    }
