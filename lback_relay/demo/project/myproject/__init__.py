"""The shop: its routes, its WSGI application, and what its workers do."""
