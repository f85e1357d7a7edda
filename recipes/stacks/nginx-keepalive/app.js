// The upstream of --upstream node: `node app.js`. It answers with the port that nginx's connection came from.
const http = require("node:http");

const server = http.createServer((request, response) => {
    request.resume();
    request.on("end", () => response.end(String(request.socket.remotePort)));
});
server.keepAliveTimeout = 500;
server.listen(8081, "127.0.0.1");
