"""From a tag to a stream: the first policy that matches decides."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from wendelin_stream.config.model import Policy
from wendelin_stream.store import encode_name


@dataclass(frozen=True, slots=True)
class Route:
    """Where a tag goes, and by which policy."""

    stream: str
    policy: Policy


def route(policies: Iterable[Policy], tag: str) -> Route | None:
    """The way of a tag, None if no policy lets it in.

    Policies match the percent-encoded tag, so that a pattern never has to quote. Raises BadData for a tag that is
    empty or too long for a stream name.
    """
    name = encode_name(tag)
    for policy in policies:
        if policy.match.matches(name):
            return Route(policy.stream.fill(name), policy)
    return None
