// Sends events with a Fluentd client of the npm registry and prints, as JSON, what it meant and what it wrote.
//
//   node send.js @fluent-org/logger|fluent-logger --port N --mode Message|Forward|PackedForward|CompressedPackedForward
//                [--host H] [--tag T] [--time seconds|eventtime] [--frames N] [--events N] [--ack]
//
// {"wire": every byte written, "events": [{"time": [seconds, nanoseconds or null], "record": {...}}]};
// binary is {"base64": "..."}. Ends with 1 if an acknowledgement is missing or the peer does not close.
"use strict";

const net = require("net");
const { once } = require("events");
const { parseArgs } = require("util");

const ACK_TIMEOUT = 20000;
const { values: options, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    host: { type: "string", default: "127.0.0.1" },
    port: { type: "string" },
    tag: { type: "string", default: "peer" },
    mode: { type: "string", default: "PackedForward" },
    time: { type: "string", default: "seconds" },
    frames: { type: "string", default: "3" },
    events: { type: "string", default: "5" },
    ack: { type: "boolean", default: false },
  },
});

// Every byte that leaves, in order, whatever the client does above.
const wire = [];
const sockets = new Set();
const write = net.Socket.prototype.write;
net.Socket.prototype.write = function (data, ...rest) {
  if (this.remotePort !== undefined) {
    wire.push(Buffer.from(data));
    sockets.add(this);
  }
  return write.call(this, data, ...rest);
};

function record(n) {
  return {
    n,
    text: "Drehzahl ω, 25 °C",
    ratio: n / 10,
    negative: -n - 1,
    big: 2 ** 40 + n,
    nested: { list: [1, "two", null, true], empty: {} },
    data: Buffer.from(Array.from({ length: 300 }, (_, k) => (k * (n + 1)) % 256)),
  };
}

function asJson(key, value) {
  const raw = this[key];
  return Buffer.isBuffer(raw) ? { base64: raw.toString("base64") } : value;
}

// Each opens a client and gives {emit(seconds, nanoseconds or null, record) -> Promise, close() -> Promise}.
const clients = {
  "@fluent-org/logger"() {
    const { FluentClient, EventTime } = require("@fluent-org/logger");
    const client = new FluentClient(options.tag, {
      eventMode: options.mode,
      socket: { host: options.host, port: Number(options.port) },
      ...(options.ack ? { ack: { ackTimeout: ACK_TIMEOUT } } : {}),
    });
    return {
      emit: (s, ns, data) => client.emit(data, ns === null ? s * 1000 : new EventTime(s, ns)),
      close: () => client.disconnect(),
    };
  },
  "fluent-logger"() {
    const { createFluentSender, EventTime } = require("fluent-logger");
    const client = createFluentSender(options.tag, {
      eventMode: options.mode,
      host: options.host,
      port: Number(options.port),
      requireAckResponse: options.ack,
      ackResponseTimeout: ACK_TIMEOUT,
      flushInterval: 1,
      enableReconnect: false,
    });
    const failed = new Promise((_, reject) => client.on("error", reject));
    return {
      emit: (s, ns, data) => {
        const time = ns === null ? s : new EventTime(s, ns);
        const sent = new Promise((resolve, reject) =>
          client.emit(data, time, (error) => (error ? reject(error) : resolve())),
        );
        return Promise.race([sent, failed]);
      },
      close: () => new Promise((resolve) => client.end(null, null, resolve)),
    };
  },
};

async function main() {
  const client = clients[positionals[0]]();
  const events = [];
  for (let frame = 0; frame < Number(options.frames); frame++) {
    const sent = [];
    for (let k = 0; k < Number(options.events); k++) {
      const n = events.length;
      const time = [1700000000 + n, options.time === "eventtime" ? 123456789 + n : null];
      events.push({ time, record: record(n) });
      sent.push(client.emit(time[0], time[1], record(n)));
    }
    await Promise.all(sent); // resolved by the acknowledgement if one is asked for
  }
  const closed = [...sockets].map((socket) => (socket.closed ? null : once(socket.resume(), "close")));
  await client.close();
  await Promise.all(closed); // read what the peer still says: unread bytes would turn our close into a reset
  console.log(JSON.stringify({ wire: Buffer.concat(wire), events }, asJson));
}

const deadline = setTimeout(() => fail(new Error("the peer did not close the connection")), 2 * ACK_TIMEOUT);

function fail(error) {
  console.error(String(error));
  process.exit(1);
}

main().then(() => clearTimeout(deadline), fail);
