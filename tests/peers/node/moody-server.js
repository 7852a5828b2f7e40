'use strict';
// An HTTP server that does not always serve. usage: node moody-server.js PORT [h2]
//
// Every request names what it is about, ?key=K; the server counts how often K came, and for
// the first n of them (?n=N) does as its path says, then answers 200 with
// { port, count, body }:
//
//   /refuse   answers with ?status=S
//   /grpc     answers with grpc-status ?status=S, and no body
//   /reset    ends the connection (HTTP/2: the stream) without an answer
//   /stall    never answers
//   /late     answers after ?ms=M
//   /seen     answers at once with how often K came, which does not count

const http = require('http');
const http2 = require('http2');

const port = Number(process.argv[2]);
const counts = new Map();

function serve(request, response) {
  const url = new URL(request.url, 'http://moody');
  const ask = name => url.searchParams.get(name);
  const key = ask('key');
  const pieces = [];
  request.on('data', piece => pieces.push(piece));
  request.on('error', () => {});
  request.on('end', () => {
    const answer = () => {
      const body = JSON.stringify({
        port,
        count: counts.get(key) || 0,
        body: Buffer.concat(pieces).toString('latin1'),
        tenant: request.headers['x-tenant'],
      });
      response.writeHead(200, { 'content-length': String(body.length) });
      response.end(body);
    };
    if (url.pathname === '/seen') return answer();
    counts.set(key, (counts.get(key) || 0) + 1);
    if (counts.get(key) > Number(ask('n'))) return answer();
    switch (url.pathname) {
      case '/refuse':
        response.writeHead(Number(ask('status')), { 'content-length': '6' });
        return response.end('moody\n');
      case '/grpc':
        response.writeHead(200, { 'content-type': 'application/grpc', 'grpc-status': ask('status') });
        return response.end();
      case '/reset':
        if (response.stream) return response.stream.session.destroy();
        return request.socket.destroy();
      case '/late':
        return setTimeout(answer, Number(ask('ms')));
      default:
        return undefined;
    }
  });
}

const server = process.argv[3] === 'h2' ? http2.createServer(serve) : http.createServer(serve);
server.keepAliveTimeout = 600_000;
server.requestTimeout = 0;
server.listen(port, '127.0.0.1', () => console.log('ready'));
