"""``lback-signal-worker``: the process that runs remote handlers. ``cli.py`` is where it begins."""
