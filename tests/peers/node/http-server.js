'use strict';
// The HTTP backend for what nginx has no location for.
// usage: node http-server.js PORT [h2]     with h2, HTTP/2 (prior knowledge) instead of HTTP/1
//
//   /echo        the body back, chunked, with trailers: x-length, and each request
//                trailer NAME as x-echo-NAME
//   /headers     the request as JSON: method, url, version, headers (as received), body
//   /slow?ms=N   "slow" after N milliseconds
//   /say/WORD    "WORD"
//   /length?n=N  N bytes, with Content-Length
//   /old?n=N     N bytes, the end told by closing
//   /early       an interim 103, then "early"
//   /refuse      417 to Expect: 100-continue; the body is never asked for
//   /stall       never reads the body, never answers
//   /cut?n=N     N bytes of a longer body, then the stream or connection is torn
//   /last        "last", after which an HTTP/2 server says GOAWAY and closes
//   /aborted     how many requests were given up before their end
//   /mood        answers with the status that /mood?to=STATUS has set; 200 at first
//   /continues   how often 100 Continue was sent
//   Upgrade: echo   101, then every byte back

const http = require('http');
const http2 = require('http2');

const port = Number(process.argv[2]);
let continues = 0;
let aborted = 0;
let mood = 200;

function serve(request, response) {
  request.on('aborted', () => { aborted += 1; });
  const url = new URL(request.url, 'http://backend');
  const number = name => Number(url.searchParams.get(name));
  if (url.pathname.startsWith('/say/')) {
    text(response, url.pathname.slice('/say/'.length));
    return;
  }
  switch (url.pathname) {
    case '/echo': {
      let length = 0;
      const chunked = request.httpVersion !== '1.0';
      response.writeHead(200, Object.assign(
        { 'content-type': 'application/octet-stream' },
        chunked ? { trailer: 'x-length' } : {},
      ));
      request.on('data', chunk => {
        length += chunk.length;
        if (!response.write(chunk)) {
          request.pause();
          response.once('drain', () => request.resume());
        }
      });
      request.on('end', () => {
        const trailers = { 'x-length': String(length) };
        for (const [name, value] of Object.entries(request.trailers)) {
          trailers[`x-echo-${name}`] = value;
        }
        if (chunked) response.addTrailers(trailers);
        response.end();
      });
      return;
    }
    case '/headers': {
      const body = [];
      request.on('data', chunk => body.push(chunk));
      request.on('end', () => json(response, {
        method: request.method,
        url: request.url,
        version: request.httpVersion,
        headers: request.headers,
        names: request.rawHeaders.filter((_, at) => at % 2 === 0),
        body: Buffer.concat(body).toString('latin1'),
      }));
      return;
    }
    case '/slow':
      setTimeout(() => text(response, 'slow'), number('ms'));
      return;
    case '/length':
      text(response, 'x'.repeat(number('n')));
      return;
    case '/old':
      // No length, no chunks: what a server of HTTP/1.0 does.
      request.socket.end(`HTTP/1.0 200 OK\r\nX-Old: yes\r\n\r\n${'o'.repeat(number('n'))}`);
      return;
    case '/early':
      response.writeEarlyHints({ link: '</style.css>; rel=preload; as=style' });
      setTimeout(() => text(response, 'early'), 20);
      return;
    case '/stall':
      request.pause();
      return;
    case '/cut': {
      const n = number('n');
      response.writeHead(200, { 'content-length': String(n + 1000) });
      response.write('c'.repeat(n), () => setTimeout(() => {
        if (response.stream) response.stream.close(http2.constants.NGHTTP2_INTERNAL_ERROR);
        else request.socket.destroy();
      }, 20));
      return;
    }
    case '/last':
      text(response, 'last');
      if (response.stream) setImmediate(() => response.stream.session?.close());
      return;
    case '/mood':
      if (url.searchParams.has('to')) {
        mood = number('to');
        text(response, 'set');
        return;
      }
      response.writeHead(mood, { 'content-length': '4' });
      response.end('mood');
      return;
    case '/aborted':
      text(response, String(aborted));
      return;
    case '/continues':
      text(response, String(continues));
      return;
    default:
      response.writeHead(404, { 'content-length': '0' });
      response.end();
  }
}

function text(response, body) {
  response.writeHead(200, { 'content-type': 'text/plain', 'content-length': String(body.length) });
  response.end(body);
}

function json(response, value) {
  text(response, JSON.stringify(value));
}

const server = process.argv[3] === 'h2'
  ? http2.createServer({ settings: { initialWindowSize: 1 << 20 }, maxSessionMemory: 1000 }, serve)
  : http.createServer({ keepAliveTimeout: 60_000 }, serve);
server.on('checkContinue', (request, response) => {
  if (request.url === '/refuse') {
    response.writeHead(417, { 'content-length': '0', connection: 'close' });
    response.end();
    return;
  }
  continues += 1;
  response.writeContinue();
  serve(request, response);
});
server.on('upgrade', (request, socket, head) => {
  if (request.headers.upgrade !== 'echo') {
    socket.destroy();
    return;
  }
  socket.write('HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n');
  socket.write(head);
  socket.pipe(socket);
  socket.on('error', () => {});
});
server.listen({ port, host: '127.0.0.1', backlog: 4096 }, () => console.log('ready'));
