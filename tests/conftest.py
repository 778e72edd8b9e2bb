"""Fixtures that every test may ask for; they live in ``tests/support``."""

from __future__ import annotations

from support.brokers import broker, namespace, redis_url, server_urls, tested

__all__ = ["broker", "namespace", "redis_url", "server_urls", "tested"]
