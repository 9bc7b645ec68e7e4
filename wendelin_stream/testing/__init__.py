"""Conformance kits and scripted sources, for authors of plugins: `operators.OperatorTests` and others.

They need the packages of the extra `test`.
"""
