"""The demo's parts: the park sends what the simulator makes, the daemon is watched, the model knows what is normal."""

import asyncio
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from wendelin_stream.batch import NS, Batch, Signal
from wendelin_stream.cli import learning
from wendelin_stream.cli.child import ChildDied, Daemon
from wendelin_stream.cli.park import BLOCK_NS, Park
from wendelin_stream.cli.show import Interrupts
from wendelin_stream.config import load, plan
from wendelin_stream.models import load_model
from wendelin_stream.plugin import OperatorContext
from wendelin_stream.plugin import load as load_plugin
from wendelin_stream.sources.simulator import BLOCK, RATE, SENSORS, Turbine

DEMO = Path(__file__).parents[2] / "config/demo.yaml"


class Listener:
    """Takes what the park sends."""

    def __init__(self):
        self.frames = []

    async def send(self, tag, events):
        self.frames.append((tag, *events))


async def test_the_park_sends_each_turbine_s_samples_with_their_times():
    """Block by block, all turbines side by side, times 320 ms apart, and the last turbine with its fault."""
    park, listener = Park(count=2, seed=3, healthy=0.1, begin=1000, speed=1e6), Listener()
    await park.feed(listener, until=2 * BLOCK / RATE)
    assert [frame[0] for frame in listener.frames] == ["park.t01.drivetrain.acc", "park.t02.drivetrain.acc"] * 2
    assert [frame[1][0] for frame in listener.frames] == [1000, 1000, 1000 + BLOCK_NS, 1000 + BLOCK_NS]
    assert listener.frames[2][1][1]["data"] == Turbine(1, seed=3).block(1).tobytes()
    assert park.elapsed == 2 * BLOCK / RATE
    assert park.fault.onset == 0.1 + 10.0


async def test_the_park_keeps_its_pace():
    """At speed 16 four blocks, 1.28 s of samples, take at least 80 ms: no block leaves before its last sample."""
    park, listener = Park(count=1, seed=0, healthy=60, begin=0, speed=16.0), Listener()
    began = time.monotonic()
    await park.feed(listener, until=4 * BLOCK / RATE)
    assert time.monotonic() - began >= 4 * BLOCK / RATE / 16
    assert len(listener.frames) == 4


async def test_a_daemon_that_ends_is_reported_with_the_end_of_its_log(tmp_path, free_port):
    """A wrong configuration: exit code and message, and only of this run."""
    log = tmp_path / "daemon.log"
    log.write_text("from an earlier run\n")
    config = tmp_path / "wrong.yaml"
    config.write_text("store: {path: data}\nnonsense: 1\n")
    daemon = Daemon(["--config", str(config)], log)
    with pytest.raises(ChildDied, match=r"wrong\.yaml:2") as caught:
        await daemon.start("127.0.0.1", free_port())
    assert caught.value.code == 78
    assert "earlier run" not in str(caught.value)
    assert await daemon.stop(1.0) == 78


async def test_a_daemon_that_does_not_end_is_killed(tmp_path, monkeypatch):
    """After its time to end in order it ends at once."""
    stubborn = tmp_path / "stubborn"
    ignore = "signal.signal(signal.SIGTERM, signal.SIG_IGN); print('ready', flush=True)"
    stubborn.write_text(f"#!{sys.executable}\nimport signal\n{ignore}\nsignal.pause()\n")
    stubborn.chmod(0o755)
    monkeypatch.setattr("sys.executable", str(stubborn))
    daemon = Daemon([], tmp_path / "log")
    starting = asyncio.create_task(daemon.start("127.0.0.1", 1))
    while not (tmp_path / "log").exists() or b"ready" not in (tmp_path / "log").read_bytes():
        await asyncio.sleep(0.01)
    starting.cancel()
    await asyncio.gather(starting, return_exceptions=True)
    assert await daemon.stop(0.05) == -9


def test_the_second_interrupt_calls_again():
    """The first one asks for an orderly end, the next one does not wait."""
    calls = []

    async def scenario():
        interrupts = Interrupts()
        interrupts.again = lambda: calls.append(1)
        interrupts()
        await interrupts.wait()
        assert (interrupts.came, calls) == (True, [])
        interrupts()

    asyncio.run(scenario())
    assert calls == [1]


def healthy_rows(n, seed=0):
    """Features of which the last is the sum of two others."""
    rows = np.random.default_rng(seed).normal(size=(n, 12))
    rows[:, -1] = rows[:, 0] + rows[:, 1]
    return rows


def test_the_model_s_score_rises_with_what_is_unusual(store, put):
    """Fitted to healthy rows, saved, loaded by digest, run by `predict`: a growing change gives a growing score."""
    names = tuple(f"f{k}" for k in range(12))
    signal = Signal(np.dtype("<f8"), names, rate=1)
    health = learning.write_health(store, learning.fit(healthy_rows(200)))
    (spec,) = load([health], store=store).models.values()
    model = load_model(spec.name, spec.path, spec.sha256)
    predict = load_plugin("operators", "predict")
    operator = predict(predict.Config(model=spec.name), OperatorContext(model=lambda name: model))
    assert operator.output(signal).channels == ("score",)
    rows = healthy_rows(101, seed=1)
    rows[-1] += 100.0
    levels = rows[:1] + np.outer(np.arange(5) * 5.0, np.eye(12)[-1])  # one feature leaves its relation to the others
    (scores,) = [item.rows[:, 0] for item in operator.on_batch(Batch(signal, np.concatenate([rows, levels])))]
    assert scores[100] > scores[:100].max()
    assert np.all(np.diff(scores[101:]) > 0)


def test_the_demo_s_configurations_belong_together(tmp_path):
    """config/demo.yaml with the empty health.yaml of the start, and with the learned one: both are right, and the score
    comes out of the features of the six sensors."""
    empty = learning.write_config(tmp_path, "{}\n")
    first = load([DEMO, empty], store=tmp_path)
    assert not plan(first, {}, load_model).errors
    health = learning.write_health(tmp_path, learning.fit(np.random.default_rng(0).normal(size=(120, 42))))
    second = load([DEMO, health], store=tmp_path)
    result = plan(second, {}, load_model)
    assert not result.errors
    (flow,) = result.outputs["health"]
    assert str(flow.names) == "park.*.drivetrain.acc.features.health"
    assert flow.signal.channels == ("score",)
    (codec,) = [policy.codec.options for policy in first.policies.values()]
    assert tuple(codec.channels) == SENSORS
    assert codec.rate == RATE


def test_only_the_healthy_time_of_this_run_is_learned_from(store, put, t0):
    """Rows of each features stream from a time to before another; a stream that is not there yet has none."""
    put("a.features", np.arange(10.0)[:, None], Signal(np.dtype("<f8"), ("f",), rate=1))
    a, b = learning.features_between(store, ["a.features", "b.features"], t0 + 2 * NS, t0 + 5 * NS)
    assert a[:, 0].tolist() == [2.0, 3.0, 4.0]
    assert len(b) == 0


def test_newest_time_and_latest_values(store, put, t0, tmp_path):
    """What the next run continues behind, and what the status shows."""
    assert learning.newest_time(tmp_path / "new") is None
    assert learning.newest_time(store) is None
    put("a.health", np.array([[1.0], [2.5]]), Signal(np.dtype("<f8"), ("score",), rate=1))
    assert learning.newest_time(store) == t0 + NS
    assert learning.latest(store, ["a.health", "b.health"]) == {"a.health": 2.5}


def test_all_scored_means_to_the_last_whole_second(store, put, t0):
    """Features of ten seconds need scores of ten seconds, give or take the window that is under way."""
    one = Signal(np.dtype("<f8"), ("f",), rate=1)
    put("a.features", np.zeros((10, 1)), one)
    assert not learning.all_scored(store, ["a.features"], t0 + 10 * NS)
    put("a.features.health", np.zeros((8, 1)), one)
    assert not learning.all_scored(store, ["a.features"], t0 + 10 * NS)
    put("b.features", np.zeros((10, 1)), one)
    put("b.features.health", np.zeros((10, 1)), one)
    assert learning.all_scored(store, ["b.features"], t0 + 10 * NS)
    assert not learning.all_scored(store, ["b.features"], t0 + 12 * NS)
