"""Which envelopes a worker runs: with keys those that are signed by one of them, else any.

Without keys a signature is not looked at, so that senders may begin to sign before all workers can
verify, and the worker warns. Knows no thread and no broker. Durations are seconds.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final

from lback_relay.codec import decode, decode_body
from lback_relay.codec_header import PLAIN_HEAD, signed_header
from lback_relay.config import RelayConfig
from lback_relay.envelope import Envelope
from lback_relay.errors import ConfigError
from lback_relay.signing import Verifier, signer_of

logger = logging.getLogger(__name__)

Decode = Callable[[bytes, str, str], Envelope]

NOT_SIGNED: Final = "envelopes are not verified"


class Verification:
    """What a worker does with an envelope before it is decoded. For any thread.

    Args:
        verifier: verifies; None takes all envelopes as they come.

    Attributes:
        decode: takes the bytes and the signal and the mode of where they were found; returns the
            envelope; raises EnvelopeError for those that must not run, or can't be read.
    """

    def __init__(self, verifier: Verifier | None) -> None:
        self._verifier = verifier
        self._warned = False
        self.decode: Decode = self._unverified if verifier is None else _verifying(verifier)

    @property
    def rejected(self) -> int:
        """How many envelopes were refused because of their signature, or for want of one."""
        return 0 if self._verifier is None else self._verifier.rejected

    def described(self) -> str:
        """Return what a log may say of it: keys by their ids alone."""
        if self._verifier is None:
            return NOT_SIGNED
        return f"envelopes are verified with {', '.join(self._verifier.ring.ids)}"

    def _unverified(self, encoded: bytes, signal: str, _mode: str) -> Envelope:
        # Four bytes are compared for each envelope; all else happens once.
        if encoded[:4] == PLAIN_HEAD:
            return decode_body(encoded[4:])
        if not self._warned and signed_header(encoded):
            self._warned = True
            logger.warning(
                "envelopes of %s are signed, and this worker has no keys: it runs what anybody has "
                "written; set LBACK_RELAY_KEYS as it is where they are sent",
                signal, extra={"relay_signal": signal},
            )  # fmt: skip
        return decode(encoded)


def _verifying(verifier: Verifier) -> Decode:
    body = verifier.body
    return lambda encoded, signal, mode: decode_body(body(encoded, signal, mode))


def verification_of(config: RelayConfig) -> Verification:
    """Return what a worker of this config does.

    Raises:
        ConfigError: a signal is encrypted, and keys or the package for it are missing.
    """
    problems: list[str] = []
    for name, signal in config.signals.items():
        if signal.encrypt:
            try:
                signer_of(config, name)
            except ConfigError as error:
                problems += error.problems
    if problems:
        raise ConfigError(list(dict.fromkeys(problems)))
    if config.keys is None:
        return Verification(None)
    return Verification(Verifier(config.keys, max_age_s=config.max_age_s))
