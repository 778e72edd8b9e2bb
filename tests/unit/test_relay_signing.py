"""What the relay sends when there are keys."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from lback_relay import Relay, RelayConfig
from lback_relay.codec import decode
from lback_relay.codec_header import signed_header
from lback_relay.config import SignalConfig
from lback_relay.errors import ConfigError
from lback_relay.keyring import KeyRing, new_key
from lback_relay.publisher import Publisher
from lback_relay.signing import Verifier
from lback_relay.testing import recording_relay

RING = KeyRing([new_key(), new_key()])


class RawPublisher(Publisher):
    """Keeps the bytes."""

    def __init__(self) -> None:
        super().__init__(lambda: pytest.fail("there is no broker"))
        self.encoded: list[bytes] = []

    def publish(self, signal: SignalConfig, encoded: bytes) -> None:
        """Keep them."""
        self.encoded.append(encoded)


def a_config(options: dict[str, Any], *, keys: KeyRing | None = RING) -> RelayConfig:
    return RelayConfig(
        signals={"order_paid": SignalConfig(name="order_paid", **options)}, keys=keys
    )


def sent(options: dict[str, Any], payload: dict[str, Any]) -> bytes:
    """Return the bytes of one signal that was relayed."""
    publisher = RawPublisher()
    relay = Relay(a_config(options), publisher=publisher)
    assert relay.relay("order_paid", "shop", payload)
    relay.close()
    (encoded,) = publisher.encoded
    return encoded


@pytest.mark.parametrize("encrypt", [False, True])
@pytest.mark.parametrize("delivery", [["queue"], ["broadcast"], ["queue", "broadcast"]])
def test_what_is_sent_is_signed_for_its_signal_and_modes(
    delivery: list[str], encrypt: bool
) -> None:
    """By the newest key, and encrypted where that is asked for."""
    encoded = sent({"delivery": delivery, "encrypt": encrypt}, {"customer": "Ada Lovelace"})
    header = signed_header(encoded)
    assert header is not None
    assert (header.key_id, header.encrypted) == (RING.ids[0], encrypt)
    assert header.delivery == tuple(delivery)
    assert (b"Ada Lovelace" in encoded) is not encrypt
    plain = Verifier(RING, max_age_s=3600).verified(encoded, "order_paid", delivery[0])
    assert decode(plain).payload == {"customer": "Ada Lovelace"}


def test_the_size_limit_is_that_of_the_envelope_itself() -> None:
    """What a signature takes comes on top, so that keys change nothing in what fits."""
    publisher = RawPublisher()
    relay = Relay(replace(a_config({}), max_payload_bytes=1000), publisher=publisher)
    assert relay.relay("order_paid", None, {"text": "x" * 5000, "rest": 1})
    relay.close()
    plain = Verifier(RING, max_age_s=3600).verified(publisher.encoded[0], "order_paid", "queue")
    assert len(plain) <= 1000
    assert decode(plain).payload["rest"] == 1


def test_a_relay_that_should_encrypt_and_can_not_does_not_start() -> None:
    """Else it would send in clear."""
    with pytest.raises(ConfigError, match=r"order_paid\.encrypt: needs keys"):
        Relay(a_config({"encrypt": True}, keys=None), publisher=RawPublisher())


@pytest.mark.parametrize("keys", [None, RING])
def test_a_projects_own_tests_need_no_keys(keys: KeyRing | None) -> None:
    """What is recorded is looked at, not sent."""

    class Dispatcher:
        def connect(self, _name: str, receiver: Any) -> None:
            self.receiver = receiver

        def disconnect(self, _name: str, _receiver: Any) -> None: ...

    dispatcher = Dispatcher()
    with recording_relay(a_config({"encrypt": True}, keys=keys), dispatcher) as recorded:
        dispatcher.receiver("shop", customer="Ada Lovelace")
    (envelope,) = recorded.envelopes
    assert envelope.payload == {"customer": "Ada Lovelace"}
