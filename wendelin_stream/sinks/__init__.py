"""Doors out: readers of a stream with a durable cursor that hand it to the outside."""
