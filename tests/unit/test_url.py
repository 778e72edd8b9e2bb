"""Broker URLs: what is accepted, what is said otherwise, and that no password is shown."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lback_relay.url import check_url, has_password, mask_url

SECRET = "s3cr3tW0rd"


@pytest.mark.parametrize(
    "url",
    [
        "redis://127.0.0.1:6379/0",
        "redis://redis",
        "redis://redis/",
        "redis://user:word@redis:6380/15?protocol=3&health_check_interval=10",
        "redis://:a@b@redis",
        "redis://:p%2Fw%40@redis",
        "rediss://[::1]:6380/1?ssl_cert_reqs=none&ssl_ca_certs=/etc/ca.pem",
        "unix:///run/redis/redis.sock?db=2",
        "unix://:word@/run/redis.sock",
        "unix:///run/a@b/redis.sock",
        "embedded://",
        "embedded:///tmp/data",
        "memory://",
        "memory://name",
    ],
)
def test_a_usable_url_has_no_problems(url: str) -> None:
    """Every scheme with what it may carry."""
    assert check_url(url) == []


@pytest.mark.parametrize(
    ("url", "said"),
    [
        (None, "not NoneType"),
        (6379, "not int"),
        ("", "is empty"),
        ("redis://h/0\n", "line break"),
        ("redis://my host", "a space"),
        ("localhost:6379", "no scheme"),
        ("://h", "no scheme"),
        ("rdis://h", "did you mean 'redis://'?"),
        ("REDIS://h", "did you mean 'redis://'?"),
        ("http://h", "none of redis://"),
        ("redis://", "names no host"),
        ("redis://:6379", "names no host"),
        ("redis://h:port", "no number from 1 to 65535"),
        ("redis://h:70000", "no number from 1 to 65535"),
        ("redis://h:0", "port 0"),
        ("redis://h/zero", "no database number"),
        ("redis://h/0/1", "no database number"),
        ("redis://h?db=one", "db that is no number"),
        ("redis://h?socket_timeout=1", "relay sets itself"),
        ("redis://h?decode_responses=1", "relay sets itself"),
        ("redis://h?pasword=x", "did you mean 'password'?"),
        ("redis://h?zzz=x", "does not know"),
        ("redis://h?ssl_cert_reqs=none", "needs rediss://"),
        ("redis://h#0", "'#'"),
        ("redis://:pa/ss@h", "percent-encode"),
        ("redis://:pa[ss@h", "percent-encode"),
        ("unix://", "names no socket"),
        ("unix://run/redis.sock", "absolute path"),
        ("embedded://host", "takes no host"),
        ("embedded://?x=1", "takes no user"),
        ("memory://u@x", "takes no user"),
    ],
)
def test_a_wrong_url_is_told_with_the_remedy(url: object, said: str) -> None:
    """One sentence that says what to change."""
    assert any(said in problem for problem in check_url(url)), check_url(url)


@pytest.mark.parametrize(
    ("url", "masked"),
    [
        ("redis://h:6379/0", "redis://h:6379/0"),
        (f"redis://:{SECRET}@h:6379/0", "redis://:***@h:6379/0"),
        (f"redis://user:{SECRET}@h", "redis://user:***@h"),
        (f"redis://{SECRET}@h", "redis://***@h"),
        (f"redis://h?password={SECRET}&db=1", "redis://h?password=***&db=1"),
        (f"rediss://h?ssl_password={SECRET}", "rediss://h?ssl_password=***"),
        (f"redis://h?{SECRET}", "redis://h?***"),
        (f"redis://h#{SECRET}", "redis://h#***"),
        (f"redis://:x/{SECRET}@h", "redis://***"),
        (f"redis://:x[{SECRET}@h", "redis://***"),
        (f"redis://:{SECRET}", "redis://:***"),
        (f"unix://:{SECRET}@/run/x", "unix://:***@/run/x"),
        (f"{SECRET}://h", "***://***"),
        (SECRET, "***"),
        ("localhost:6379", "localhost:6379"),
        (None, "<NoneType>"),
    ],
)
def test_a_masked_url_shows_where_but_no_password(url: object, masked: str) -> None:
    """Also where the password stands in a wrong place."""
    assert mask_url(url) == masked


@pytest.mark.parametrize(
    "template",
    [
        "redis://:{}@h",
        "redis://u:{}@h:1/0",
        "redis://h?password={}",
        "rediss://h?ssl_password={}",
        "unix://:{}@/run/x",
    ],
)
@given(odd=st.text(alphabet="/?#@[]:& %\n", max_size=4))
def test_no_password_is_ever_shown(template: str, odd: str) -> None:
    """Whatever odd characters it holds, unescaped, in the sentences or in the masked URL."""
    url = template.format(f"{SECRET}{odd}{SECRET}")
    assert SECRET not in mask_url(url)
    assert SECRET not in " ".join(check_url(url))


@given(st.text())
def test_any_text_can_be_checked_and_masked(text: str) -> None:
    """Neither function raises."""
    for url in (text, f"redis://{text}", f"unix://{text}"):
        check_url(url)
        mask_url(url)
        has_password(url)


@pytest.mark.parametrize(
    ("url", "secret"),
    [
        ("redis://h", False),
        ("redis://h?db=1", False),
        ("unix:///run/a@b", False),
        ("redis://:x@h", True),
        ("redis://x@h", True),
        ("redis://h?password=x", True),
        ("redis://:a/b@h", True),
        ("redis://:a[b@h", True),
    ],
)
def test_a_password_is_found_where_it_may_stand(url: str, secret: bool) -> None:
    """The settings file must not hold any of these."""
    assert has_password(url) is secret
