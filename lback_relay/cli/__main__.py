"""``python -m lback_relay.cli`` is ``lback-relay``."""

from lback_relay.cli import main

main(prog_name="lback-relay")
