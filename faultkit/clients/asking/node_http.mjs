// Node's http, with an Agent that keeps connections alive.
import http from 'node:http';

const [limit, upload, ...urls] = process.argv.slice(2);
setInterval(() => {}, 1000); // a timer of AbortSignal's keeps no process alive
const agent = new http.Agent({ keepAlive: true });

function ask(url, body) {
  return new Promise((resolve, reject) => {
    const signal = AbortSignal.timeout(Number(limit) * 1000);
    const request = http.request(url, { agent, signal, method: body ? 'POST' : 'GET' }, (response) => {
      let size = 0;
      response.on('data', (chunk) => { size += chunk.length; });
      response.on('end', () => resolve(size));
      response.on('error', reject);
    });
    request.on('error', reject);
    request.end(body);
  });
}

for (const [at, url] of urls.entries()) {
  const body = Number(upload) && at === urls.length - 1 ? Buffer.alloc(Number(upload)) : undefined;
  console.log(await ask(url, body));
}
process.exit(0);
