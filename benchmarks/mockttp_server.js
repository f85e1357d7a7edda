// The peer in mockttp: it resets a connection at its first HTTP request. Prints its port. Ends by a signal.
const server = require("mockttp").getLocal({ recordTraffic: false });

server
    .forAnyRequest()
    .thenResetConnection()
    .then(() => server.start())
    .then(() => console.log(server.port));
