"""fakeredis's TCP server, as ``embedded://``'s last resort: ``python -c <this text> PORT``.

It is run as text, not as a file: the folder of this file would come first on the path, and
``redis.py`` in it hides the package of that name.
"""

from __future__ import annotations

import sys
from typing import Any

import redis


def main(port: int) -> None:
    """Serve on 127.0.0.1 until killed."""
    import fakeredis

    server: Any = fakeredis.TcpFakeServer(("127.0.0.1", port), server_type="redis")
    base: Any = server.RequestHandlerClass

    class Handler(base):  # type: ignore[misc]
        """Answers an error and stays connected, as Redis does; fakeredis hangs up."""

        def setup(self) -> None:
            super().setup()
            read = self.current_client.read_response

            def read_response(**options: Any) -> Any:
                try:
                    return read(**options)
                except redis.ResponseError as error:
                    return error

            self.current_client.read_response = read_response

    server.RequestHandlerClass = Handler
    server.serve_forever()


if __name__ == "__main__":
    main(int(sys.argv[1]))
