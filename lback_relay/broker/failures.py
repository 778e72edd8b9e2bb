"""What Redis's errors mean to the relay. The texts name the broker by its masked URL."""

from __future__ import annotations

import re
from typing import Final

import redis

from lback_relay.errors import BrokerError, BrokerUnavailable

# Errors of scripts bear the code somewhere in their text; Redis 6.2 puts a sentence before it.
_AWAY: Final = re.compile(r"\b(READONLY|LOADING|CLUSTERDOWN|MASTERDOWN|BUSY)\b")
# The last two are what servers and fakeredis say of a stream that is not there.
_NO_GROUP: Final = re.compile(r"\b(NOGROUP|UNBLOCKED)\b|no such key|requires the key to exist")
_OUT_OF_MEMORY: Final = "command not allowed when used memory"
# The last is what a server says of a long command from somebody it does not know.
_UNAUTHENTICATED: Final = re.compile(r"\b(NOAUTH|WRONGPASS)\b|unauthenticated")
_FORBIDDEN: Final = re.compile(r"\bNOPERM\b|has no permissions|user executing the script can't")
_URL: Final = "the broker URL (LBACK_RELAY_URL)"


class GroupLost(BrokerError):
    """The stream or its group is not there."""


class WrongServer(BrokerUnavailable):
    """It answers, but can't serve now: a replica after a failover, or still loading."""


def translate(error: Exception, place: str) -> BrokerError:
    """Return what is to be raised from a client's error.

    Args:
        error: what the client raised, or put among the replies of a pipeline.
        place: the broker's masked URL.
    """
    text = _without_arguments(str(error)).rstrip(".")  # more of the sentence may follow
    # The class is a subclass of ConnectionError's, so it comes first.
    if isinstance(error, redis.AuthenticationError) or _UNAUTHENTICATED.search(text):
        return BrokerError(f"broker {place} {_authentication(text)}")
    if isinstance(error, redis.exceptions.NoPermissionError) or _FORBIDDEN.search(text):
        return BrokerError(
            f"broker {place} forbids this user a command, key or channel; extend the user's ACL: "
            f"{text}"
        )
    if isinstance(error, redis.ReadOnlyError | redis.BusyLoadingError) or _AWAY.search(text):
        return WrongServer(f"broker {place} can't serve now: {text}")
    if isinstance(error, redis.ConnectionError | redis.TimeoutError | OSError):
        return BrokerUnavailable(f"broker {place} does not answer: {text}")
    return _refusal(text, place)


def _refusal(text: str, place: str) -> BrokerError:
    """Return the error for a command that was refused, on a connection that works."""
    if _OUT_OF_MEMORY in text:
        return BrokerError(
            f"broker {place} has reached its maxmemory and writes nothing; raise maxmemory or let "
            "the workers catch up"
        )
    if _NO_GROUP.search(text):
        return GroupLost(f"broker {place} has lost a stream or group: {text}")
    return BrokerError(f"broker {place} refuses: {text}")


def _authentication(text: str) -> str:
    if "required" in text or "unauthenticated" in text:
        return f"wants a password; put user and password into {_URL}"
    if "without any password" in text:
        return f"has no password set; take it out of {_URL}"
    return f"refuses user or password; check both in {_URL}"


def _without_arguments(text: str) -> str:
    """Cut what a server quotes of a command it does not know: a payload or a password."""
    return text.partition(", with args beginning with")[0]
