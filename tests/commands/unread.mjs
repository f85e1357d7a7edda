// A harness that never reads what `faultkit serve` writes: node unread.mjs NUMBER COMMAND ...
// Prints how many connections were reset, what else became of one, and how the server ended and after how many ms.
import { spawn } from "node:child_process";
import { once } from "node:events";
import net from "node:net";

const [number, command, ...argv] = process.argv.slice(2);
const server = spawn(command, argv, { stdio: ["ignore", "pipe", "pipe"] });
let said = "";
server.stderr.on("data", (data) => (said += data));
const [first] = await once(server.stdout, "data");
server.stdout.pause();
const port = Number(/:(\d+)\//.exec(first)[1]);

const seen = {};
const count = (what) => (seen[what] = (seen[what] ?? 0) + 1);

async function connect() {
  const socket = net.connect(port, "127.0.0.1", () => socket.write("GET / HTTP/1.1\r\nHost: here\r\n\r\n"));
  socket.setTimeout(20_000, () => socket.destroy(new Error("nothing for 20 s")));
  socket.on("error", (error) => count(error.code ?? error.message));
  await new Promise((closed) => socket.on("close", closed));
}

let left = Number(number);
await Promise.all(Array.from({ length: 32 }, async () => {
  while (left-- > 0) await connect();
}));

const told = Date.now();
server.kill("SIGTERM");
const [status, signal] = await once(server, "exit");
const milliseconds = Date.now() - told;
console.log(JSON.stringify({ seen, status, signal, milliseconds, said }));
process.exit();
