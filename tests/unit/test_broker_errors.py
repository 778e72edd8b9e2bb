"""What Redis's errors become, in the words of each version of server and client."""

from __future__ import annotations

import pytest
import redis

from lback_relay.broker.failures import GroupLost, WrongServer, translate
from lback_relay.errors import BrokerError, BrokerUnavailable

PLACE = "redis://:***@h:1/0"
OOM_6 = (
    "Error running script (call to f_1): @user_script:12: @user_script: 12: -OOM command not "
    "allowed when used memory > 'maxmemory'."
)


@pytest.mark.parametrize(
    ("error", "kind", "said"),
    [
        (redis.ConnectionError("Connection refused."), BrokerUnavailable, "does not answer"),
        (redis.TimeoutError("Timeout reading"), BrokerUnavailable, "does not answer"),
        (OSError("broken pipe"), BrokerUnavailable, "does not answer: broken pipe"),
        (redis.BusyLoadingError("Redis is loading"), WrongServer, "can't serve now"),
        (redis.ReadOnlyError("You can't write"), WrongServer, "can't serve now"),
        (redis.ResponseError("@user_script: -READONLY You can't"), WrongServer, "can't serve now"),
        (redis.ResponseError("CLUSTERDOWN Hash slot"), WrongServer, "can't serve now"),
        (redis.ResponseError("MASTERDOWN Link with"), WrongServer, "can't serve now"),
        (redis.ResponseError("BUSY Redis is busy running"), WrongServer, "can't serve now"),
        (redis.AuthenticationError("Authentication required."), BrokerError, "wants a password"),
        (redis.ResponseError("NOAUTH Authentication required."), BrokerError, "wants a password"),
        (
            redis.ResponseError("Protocol error: unauthenticated bulk length"),
            BrokerError,
            "wants a password",
        ),
        (redis.AuthenticationError("invalid username-password pair"), BrokerError, "check both"),
        (redis.ResponseError("WRONGPASS invalid"), BrokerError, "refuses user or password"),
        (
            redis.AuthenticationError(
                "AUTH <password> called without any password configured for the default user."
            ),
            BrokerError,
            "has no password set; take it out",
        ),
        (
            redis.exceptions.NoPermissionError("this user has no permissions to run 'xadd'"),
            BrokerError,
            "extend the user's ACL: this user has no permissions to run 'xadd'",
        ),
        (
            redis.ResponseError("The user executing the script can't run this command"),
            BrokerError,
            "forbids this user",
        ),
        (redis.ResponseError(OOM_6), BrokerError, "has reached its maxmemory"),
        (redis.OutOfMemoryError("command not allowed when used memory > 'maxmemory'."),
         BrokerError, "has reached its maxmemory"),
        (redis.ResponseError("NOGROUP No such key"), GroupLost, "lost a stream or group"),
        (redis.ResponseError("UNBLOCKED the stream key"), GroupLost, "lost a stream or group"),
        (redis.ResponseError("DB index is out of range"), BrokerError, "refuses: DB index is out"),
    ],
)  # fmt: skip
def test_an_error_is_told_by_what_it_means(
    error: Exception, kind: type[BrokerError], said: str
) -> None:
    """With the masked URL, in one line; outages are apart from refusals."""
    failure = translate(error, PLACE)
    assert type(failure) is kind
    assert str(failure).startswith(f"broker {PLACE} ")
    assert said in str(failure)


def test_what_a_server_quotes_of_an_unknown_command_is_cut() -> None:
    """It could be a payload, or a password."""
    text = "unknown command 'AUTH', with args beginning with: 'hunter2' "
    assert "hunter2" not in str(translate(redis.ResponseError(text), PLACE))
