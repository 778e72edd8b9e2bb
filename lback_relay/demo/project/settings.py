# ruff: noqa: INP001 - a project's root is no package
"""The settings of a small shop that is built with Lback.

What differs between machines, and every secret, comes from the environment; the defaults are for
development.
"""

import os
from pathlib import Path

# In lower case: Lback takes every upper-case name for a setting.
root = Path(__file__).resolve().parent

ROOT_URLCONF = "myproject.urls"
DEBUG = True
LOGGING_LEVEL = "WARNING"
INSTALLED_APPS: list[str] = []

# The first one is also the host in the links that Lback mails.
ALLOWED_HOSTS = [os.environ.get("SHOP_HOST", "127.0.0.1:8000")]

SECRET_KEY = os.environ.get("SECRET_KEY", "only-for-development")
JWT_SECRET_KEY = os.environ.get("JWT_SECRET_KEY", "only-for-development-too")

DB_ENGINE = "sqlite3"
DB_NAME = os.environ.get("SHOP_DB", str(root / "shop.sqlite3"))

SMTP_SERVER = os.environ.get("SMTP_SERVER", "127.0.0.1")
SMTP_PORT = int(os.environ.get("SMTP_PORT", "1025"))
EMAIL_USERNAME = os.environ.get("EMAIL_USERNAME", "shop@example.org")
EMAIL_PASSWORD = os.environ.get("EMAIL_PASSWORD", "only-for-development")
SENDER_NAME = "Shop"

MIDDLEWARES = [
    "lback.middlewares.sqlalchemy_middleware.SQLAlchemySessionMiddleware",
    "lback.middlewares.session_middleware.SessionMiddleware",
    "lback.middlewares.body_parsing_middleware.BodyParsingMiddleware",
]

# The demo registers users both with and without the relay; your project needs no such switch.
if os.environ.get("SHOP_RELAY", "on") == "on":
    # First, so that it runs after the database middleware's last commit. The broker's address
    # is in the environment: LBACK_RELAY_URL.
    MIDDLEWARES.insert(0, "lback_relay.lback.RelayMiddleware")
    RELAY_SIGNALS = ["user_registered"]
    RELAY_EMAIL = True
