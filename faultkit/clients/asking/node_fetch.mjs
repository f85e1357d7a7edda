// Node's fetch (undici), with its global dispatcher, which keeps connections alive.
const [limit, upload, ...urls] = process.argv.slice(2);
setInterval(() => {}, 1000); // a timer of AbortSignal's keeps no process alive
for (const [at, url] of urls.entries()) {
  const body = Number(upload) && at === urls.length - 1 ? Buffer.alloc(Number(upload)) : undefined;
  const signal = AbortSignal.timeout(Number(limit) * 1000);
  const response = await fetch(url, { method: body ? 'POST' : 'GET', body, signal });
  console.log((await response.arrayBuffer()).byteLength);
}
process.exit(0);
