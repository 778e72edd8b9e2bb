"""The demo behind ``lback-relay demo``; each module imports its extras where it is used."""
