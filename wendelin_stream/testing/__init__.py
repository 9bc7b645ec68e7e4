"""Conformance kits and scripted sources, for authors of plugins."""
