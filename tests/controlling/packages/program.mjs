// What toxiproxy-node-client does with a server, and what its user's sockets see.

import assert from "node:assert/strict";
import net from "node:net";
import toxiproxyNodeClient from "toxiproxy-node-client";

const { Toxiproxy } = toxiproxyNodeClient;
const [port, upstream] = process.argv.slice(2);
const server = new Toxiproxy(`http://localhost:${port}`);

const connect = proxy => new Promise((done, fail) => {
  const socket = net.connect(Number(proxy.listen.split(":").pop()), "127.0.0.1", () => done(socket));
  socket.once("error", fail);
});

const roundTrip = async socket => {
  const began = performance.now();
  socket.write("x");
  await new Promise((done, fail) => {
    socket.once("data", done);
    socket.once("error", fail);
  });
  return performance.now() - began;
};

assert.match(await server.getVersion(), /2\.\d+\.\d+/);
const proxy = await server.createProxy({ name: "echo", listen: "localhost:0", upstream });
assert.match(proxy.listen, /^127\.0\.0\.1:\d+$/);
assert.equal((await server.get("echo")).upstream, upstream);
await assert.rejects(server.createProxy({ name: "echo", listen: "localhost:0", upstream }), /409|already exists/);
await assert.rejects(server.get("none"), /404|not found/);

const socket = await connect(proxy);
assert.ok(await roundTrip(socket) < 100);
const toxic = await proxy.addToxic({ type: "latency", attributes: { latency: 200, jitter: 0 } });
assert.deepEqual([toxic.name, toxic.type, toxic.stream, toxic.toxicity], ["latency_downstream", "latency", "downstream", 1]);
assert.deepEqual({ ...toxic.attributes }, { latency: 200, jitter: 0 });
assert.ok(await roundTrip(socket) >= 199);
await assert.rejects(proxy.addToxic({ type: "latency", attributes: {} }), /409|already exists/);
const changed = await toxic.update({ attributes: { latency: 400 }, toxicity: 1 });
assert.equal(changed.attributes.latency, 400);
assert.ok(await roundTrip(socket) >= 399);
await toxic.remove();
assert.ok(await roundTrip(socket) < 100);
await assert.rejects(proxy.getToxic("latency_downstream"), /404|not found/);

for (const [type, attributes] of Object.entries({
  bandwidth: { rate: 1000 }, slow_close: { delay: 1 }, timeout: { timeout: 0 },
  slicer: { average_size: 10, size_variation: 5, delay: 0 }, limit_data: { bytes: 1 },
})) {
  const made = await proxy.addToxic({ type, attributes, stream: "upstream" });
  assert.deepEqual({ ...made.attributes }, attributes);
  assert.equal((await proxy.getToxic(made.name)).name, `${type}_upstream`);
  await made.remove();
}

await proxy.addToxic({ type: "reset_peer", attributes: { timeout: 0 } });
const reset = await connect(proxy);
reset.write("x");
const error = await new Promise(done => reset.once("error", done).once("close", () => done(null)));
assert.equal(error?.code, "ECONNRESET");

const disabled = await proxy.update({ enabled: false, listen: proxy.listen, upstream });
assert.equal(disabled.enabled, false);
await assert.rejects(connect(proxy), { code: "ECONNREFUSED" });
await server.reset();
const after = await server.get("echo");
assert.equal(after.enabled, true);
await assert.rejects(proxy.getToxic("reset_peer_downstream"), /404|not found/);
assert.equal(after.listen, proxy.listen);

const populated = await server.populate([
  { name: "a", listen: "localhost:0", upstream }, { name: "b", listen: "localhost:0", upstream },
]);
assert.deepEqual(Object.keys(populated).sort(), ["a", "b"]);
assert.deepEqual(Object.keys(await server.getAll()).sort(), ["a", "b", "echo"]);
for (const one of Object.values(await server.getAll())) await one.remove();
assert.deepEqual(await server.getAll(), {});
socket.destroy();
