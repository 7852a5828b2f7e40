'use strict';
// A SOFARPC provider: the server of sofa-rpc-node on the frames of sofa-bolt-node.
// usage: node bolt-server.js PORT
//
// com.polyport.Echo 1.0, in hessian2:
//   echo(...)         its arguments
//   plain(value)      value
//   shuffle(value)    value after 0–20 ms, so that replies overtake each other
//   slow(ms, value)   value after so long
//   fail(text)        throws
//   status(n, text)   a reply of status n
//   note(text)        to be called one way: remembered (the package answers it all the same)
//   stats()           { connections, most, accepted, requests, heartbeats, answers, notes, port }
//   beat()            sends a heartbeat to its caller's connection; whether it was answered
//   goaway()          announces that the server takes no more requests on this connection
//   block()           the texts of its request's header block
//   patience()        how long its caller waits, as the request says
//   hang()            never answers
// com.polyport.ProtoEcho 1.0, in protobuf (bolt.js):
//   where({ text })   { text, port, tenant, headers }: the request property of that name, and all texts

const { server: { RpcServer } } = require('sofa-rpc-node');
const bolt = require('./bolt');

const port = Number(process.argv[2]);
const count = { connections: 0, most: 0, accepted: 0, requests: 0, heartbeats: 0, answers: 0, port };
const notes = [];
const sleep = ms => new Promise(resolve => setTimeout(resolve, ms));
const quiet = { info() {}, warn() {}, error() {}, debug() {} };
let beats = 1 << 29;

class Server extends RpcServer {
  // What the package's services cannot do is done on the frame's own connection.
  async _handleRequest(request, connection) {
    const { methodName: method, args } = request.data;
    const send = (status, value) => connection.send(request, { status, isError: status !== 0, ...value });
    count.requests += 1;
    switch (method) {
      case 'status': return send(args[0], { errorMsg: args[1] });
      case 'block': return send(0, { appResponse: bolt.block(connection.heard) });
      case 'patience': return send(0, { appResponse: bolt.patience(connection.heard) });
      case 'hang': return undefined;
      case 'goaway': {
        connection.socket.write(bolt.goAway());
        return send(0, { appResponse: true });
      }
      case 'beat': {
        const beat = beats++;
        const answered = new Promise(resolve => {
          connection._decoder.on('heartbeat_ack', ack => { if (ack.packetId === beat) resolve(true); });
          setTimeout(() => resolve(false), 5000).unref();
        });
        connection._encoder.writeHeartbeat(beat, {});
        return send(0, { appResponse: await answered });
      }
      case 'where': {
        const props = request.data.requestProps;
        const headers = Object.fromEntries(Object.entries(props).filter(([ , value ]) => typeof value === 'string'));
        return send(0, { appResponse: { text: args[0].text, port, tenant: props.tenant || '', headers } });
      }
      default: return super._handleRequest(request, connection);
    }
  }
}

const server = new Server({ port, logger: quiet, proto: bolt.proto });
server.on('error', () => {});
server.on('connection', connection => {
  count.connections += 1;
  count.accepted += 1;
  count.most = Math.max(count.most, count.connections);
  connection.socket.setNoDelay(true);
  // Before the decoder gets it: a request that comes alone is what came last.
  connection.socket.prependListener('data', chunk => { connection.heard = chunk; });
  connection.on('close', () => { count.connections -= 1; });
  connection._decoder.on('heartbeat', () => { count.heartbeats += 1; });
  connection._decoder.on('heartbeat_ack', () => { count.answers += 1; });
});
server.addService({ interfaceName: bolt.ECHO }, {
  async echo(...args) { return args; },
  async plain(value) { return value; },
  async shuffle(value) { await sleep(Math.random() * 20); return value; },
  async slow(ms, value) { await sleep(ms); return value; },
  async fail(text) { throw new Error(text); },
  async note(value) { notes.push(value); return null; },
  async stats() { return Object.assign({ notes }, count); },
});
// Any number of services by other names, for routes to tell apart.
for (const interfaceName of [ 'com.stock.Items', 'com.polyport.Gone' ]) {
  server.addService({ interfaceName }, {
    async plain(value) { return value; },
    async note(value) { notes.push(value); return null; },
    async stats() { return Object.assign({ notes }, count); },
  });
}
server.start().then(() => console.log('ready'));
