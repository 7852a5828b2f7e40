'use strict';
// A Dubbo provider. Frames: dubbo.js; bodies: hessian.js. usage: node dubbo-server.js PORT
//
//   echo(...)         { args, attachments, interface, method }, with an attachment "seen"
//   plain(value)      value, without attachments
//   shuffle(value)    value after 0–20 ms, so that replies overtake each other
//   slow(ms, value)   value after so long
//   nothing(), nothingWithAttachments()   null
//   fail(text), failWithAttachments(text) a java.lang.RuntimeException
//   status(n, text)   a reply of status n
//   emptyStatus(n)    the same with an empty body
//   note(text)        to be called one way: remembered
//   stats()           { connections, most, accepted, requests, oneways, heartbeats, answers, port }
//   beat()            sends a heartbeat to its caller's connection; whether it was answered
//   readonly()        announces that the server takes no more requests on this connection
//   hang()            never answers

const net = require('net');
const { DecoderV2 } = require('hessian.js');
const { desc2classArray } = require('dubbo-remoting/lib/utils');
const dubbo = require('./dubbo');

const port = Number(process.argv[2]);
const count = { connections: 0, most: 0, accepted: 0, requests: 0, oneways: 0, heartbeats: 0, answers: 0, port };
const notes = [];
let beats = 1n << 40n;

// A request's body. dubbo-remoting reads no null version, so only its reading of
// the type descriptor is used here; all of it is at work in the story "compat".
function read(message) {
  const input = new DecoderV2(message.body);
  const [ , path, version, method, types ] = Array.from({ length: 5 }, () => input.read());
  const args = desc2classArray(types).map(() => input.read());
  return { path, version, method, args, attachments: input.read() };
}

function serve(socket) {
  count.connections += 1;
  count.accepted += 1;
  count.most = Math.max(count.most, count.connections);
  const waiting = new Map();
  socket.setNoDelay(true);
  socket.on('error', () => {});
  socket.on('close', () => { count.connections -= 1; });
  dubbo.frames(socket, message => {
    const { id, flags } = message;
    if (!(flags & dubbo.REQUEST)) {
      count.answers += 1;
      const answered = waiting.get(id);
      waiting.delete(id);
      if (answered) answered(true);
      return;
    }
    if (flags & dubbo.EVENT) {
      count.heartbeats += 1;
      if (flags & dubbo.TWO_WAY) socket.write(dubbo.heartbeatReply(id));
      return;
    }
    let call;
    try {
      call = read(message);
    } catch (error) {
      // As Dubbo's own servers do: a body that cannot be read is a bad request.
      if (flags & dubbo.TWO_WAY) socket.write(dubbo.failure(id, 40, String(error)));
      return;
    }
    const [ first, second ] = call.args;
    const reply = value => socket.write(dubbo.response(id, { value }));
    if (!(flags & dubbo.TWO_WAY)) {
      count.oneways += 1;
      notes.push(first);
      return;
    }
    count.requests += 1;
    switch (call.method) {
      case 'echo':
        socket.write(dubbo.response(id, {
          value: {
            args: call.args,
            attachments: call.attachments,
            interface: call.path,
            method: call.method,
          },
          attachments: { seen: 'yes', 'größe': 'groß' },
        }));
        break;
      case 'plain': reply(first); break;
      case 'shuffle': setTimeout(() => reply(first), Math.random() * 20); break;
      case 'slow': setTimeout(() => reply(second), first); break;
      case 'nothing': reply(null); break;
      case 'nothingWithAttachments':
        socket.write(dubbo.response(id, { value: null, attachments: { seen: 'yes' } }));
        break;
      case 'fail': socket.write(dubbo.response(id, { exception: first })); break;
      case 'failWithAttachments':
        socket.write(dubbo.response(id, { exception: first, attachments: { seen: 'yes' } }));
        break;
      case 'status': socket.write(dubbo.failure(id, first, second)); break;
      case 'emptyStatus': {
        const bytes = dubbo.failure(id, first, '').subarray(0, 16);
        bytes.writeUInt32BE(0, 12);
        socket.write(bytes);
        break;
      }
      case 'note': notes.push(first); reply(null); break;
      case 'stats': reply(Object.assign({ notes }, count)); break;
      case 'beat': {
        const beat = beats++;
        const timer = setTimeout(() => { waiting.delete(beat); reply(false); }, 5000);
        waiting.set(beat, () => { clearTimeout(timer); reply(true); });
        socket.write(dubbo.heartbeat(beat));
        break;
      }
      case 'readonly': {
        // The event of a server on its way out: a one-way request with the body "R".
        const bytes = dubbo.heartbeat(beats++);
        bytes[2] &= ~dubbo.TWO_WAY;
        const event = Buffer.concat([ bytes.subarray(0, 12), Buffer.from([ 0, 0, 0, 2, 0x01, 0x52 ]) ]);
        socket.write(Buffer.concat([ event, dubbo.response(id, { value: true }) ]));
        break;
      }
      case 'hang': break;
      default: socket.write(dubbo.failure(id, 70, `no method ${call.method}`));
    }
  });
}

net.createServer(serve).listen({ port, host: '127.0.0.1', backlog: 4096 }, () => console.log('ready'));
