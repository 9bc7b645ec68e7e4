"""Sends events with the Fluentd client of PyPI and prints, as JSON, what it meant and what it wrote: see send.js.

python send.py --port N [--tag T] [--time seconds|eventtime] [--frames N]
"""

import argparse
import base64
import json

from fluent.sender import EventTime, FluentSender


class Tapped(FluentSender):
    """Keeps every byte that leaves."""

    wire = b""

    def _send_data(self, bytes_):
        super()._send_data(bytes_)
        self.wire += bytes_


def record(n: int) -> dict:
    return {
        "n": n,
        "text": "Drehzahl ω, 25 °C",
        "ratio": n / 10,
        "negative": -n - 1,
        "limits": [2**64 - 1, -(2**63)],
        "nested": {"list": [1, "two", None, True], "empty": {}},
        "data": bytes(k * (n + 1) % 256 for k in range(300)),
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--tag", default="peer")
    parser.add_argument("--time", choices=("seconds", "eventtime"), default="seconds")
    parser.add_argument("--frames", type=int, default=15)
    options = parser.parse_args()
    events = []
    with Tapped(options.tag, host="127.0.0.1", port=options.port) as sender:
        for n in range(options.frames):
            seconds, nanoseconds = 1_700_000_000 + n, 123_456_789 + n if options.time == "eventtime" else None
            time = seconds if nanoseconds is None else EventTime(seconds, nanoseconds)
            if not sender.emit_with_time(None, time, record(n)):
                raise SystemExit(f"not sent: {sender.last_error}")
            events.append({"time": [seconds, nanoseconds], "record": record(n)})
    print(json.dumps({"wire": sender.wire, "events": events}, default=encoded))


def encoded(data: bytes) -> dict[str, str]:
    return {"base64": base64.b64encode(data).decode()}


main()
