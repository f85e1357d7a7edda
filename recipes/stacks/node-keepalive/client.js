// It answers what the server says, and is otherwise idle: `node client.js`.
const net = require("node:net");

const socket = net.connect(8090, "127.0.0.1");
socket.setKeepAlive(true, 2000);
socket.on("data", (data) => {
    console.log(`the server says ${String(data).trim()}`);
    socket.write(data);
});
socket.on("error", (error) => console.log(`${error}, code ${error.code}, syscall ${error.syscall}`));
