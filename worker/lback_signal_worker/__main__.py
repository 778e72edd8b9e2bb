"""``python -m lback_signal_worker``: the same as the command ``lback-signal-worker``."""

from lback_signal_worker.cli import main

main(prog_name="lback-signal-worker")
