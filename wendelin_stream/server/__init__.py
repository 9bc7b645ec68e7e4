"""The HTTP side: ingestion, API, live sockets, page."""
