"""What the services' internal listener tells gateways in other processes."""

from __future__ import annotations

OPENAPI_PATH = "/internal/openapi"
"""``GET``, for gateways: the public API of all services behind the listener, one OpenAPI document."""
REALTIME = "realtime-service"
"""Whoever speaks ``/ws``."""
EVERY_SERVICE = "*"
"""In a list of upstreams: all services that are not named in it."""
