"""The daemon: ingest, pipelines, supervision, systemd."""
