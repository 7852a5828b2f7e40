'use strict';
// Dubbo 2 frames, written from the format's description; what is inside the
// bodies is hessian.js's work. Nothing here knows of Polyport.

const hessian = require('hessian.js');

const HEADER = 16;
const REQUEST = 0x80;
const TWO_WAY = 0x40;
const EVENT = 0x20;
const HESSIAN2 = 2;

const OK = 20;
const RESULT = { exception: 0, value: 1, none: 2 };
const WITH_ATTACHMENTS = 3;

function frame(flags, status, id, body) {
  const header = Buffer.alloc(HEADER);
  header.writeUInt16BE(0xdabb, 0);
  header[2] = flags;
  header[3] = status;
  header.writeBigUInt64BE(BigInt(id), 4);
  header.writeUInt32BE(body.length, 12);
  return Buffer.concat([ header, body ]);
}

function body(write) {
  const encoder = new hessian.EncoderV2();
  write(encoder);
  return Buffer.from(encoder.get());
}

// call: { interface, version, method, types, args, attachments, oneway }
function request(id, call) {
  return frame(REQUEST | (call.oneway ? 0 : TWO_WAY) | HESSIAN2, 0, id, body(out => {
    out.writeString('2.0.2');
    out.writeString(call.path || call.interface);
    if (call.version === null) out.writeNull();
    else out.writeString(call.version === undefined ? '0.0.0' : call.version);
    out.writeString(call.method);
    out.writeString(call.types);
    for (const arg of call.args) out.write(arg);
    out.write(Object.assign({ path: call.interface, interface: call.interface }, call.attachments));
  }));
}

// reply: { exception } or { value } (null is the null result), and { attachments }
function response(id, reply) {
  return frame(HESSIAN2, OK, id, body(out => {
    const extra = reply.attachments ? WITH_ATTACHMENTS : 0;
    if (reply.exception !== undefined) {
      out.writeInt(RESULT.exception + extra);
      out.write({ $class: 'java.lang.RuntimeException', $: { detailMessage: reply.exception } });
    } else if (reply.value === null || reply.value === undefined) {
      out.writeInt(RESULT.none + extra);
    } else {
      out.writeInt(RESULT.value + extra);
      out.write(reply.value);
    }
    if (reply.attachments) out.write(reply.attachments);
  }));
}

function failure(id, status, message) {
  return frame(HESSIAN2, status, id, body(out => out.writeString(message)));
}

const heartbeat = id => frame(REQUEST | TWO_WAY | EVENT | HESSIAN2, 0, id, Buffer.from('N'));
const heartbeatReply = id => frame(EVENT | HESSIAN2, OK, id, Buffer.from('N'));

// Calls `each` with { flags, status, id, body, bytes } of every frame that comes.
function frames(socket, each) {
  let unread = Buffer.alloc(0);
  socket.on('data', chunk => {
    unread = unread.length ? Buffer.concat([ unread, chunk ]) : chunk;
    let at = 0;
    while (unread.length - at >= HEADER) {
      if (unread.readUInt16BE(at) !== 0xdabb) {
        socket.destroy(new Error(`no Dubbo frame: ${unread.subarray(at, at + 40).toString('latin1')}`));
        return;
      }
      const end = at + HEADER + unread.readUInt32BE(at + 12);
      if (unread.length < end) break;
      each({
        flags: unread[at + 2],
        status: unread[at + 3],
        id: unread.readBigUInt64BE(at + 4),
        body: unread.subarray(at + HEADER, end),
        bytes: unread.subarray(at, end),
      });
      at = end;
    }
    unread = unread.subarray(at);
  });
}

// { status, value, exception, message, attachments } of a reply frame.
function decodeResponse(message) {
  const input = new hessian.DecoderV2(message.body);
  if (message.status !== OK) return { status: message.status, message: input.read() };
  const kind = input.read();
  const reply = { status: OK, kind };
  switch (kind % WITH_ATTACHMENTS) {
    case RESULT.exception: reply.exception = input.read(); break;
    case RESULT.value: reply.value = input.read(); break;
    default: reply.value = null;
  }
  if (kind >= WITH_ATTACHMENTS) reply.attachments = input.read();
  return reply;
}

module.exports = {
  REQUEST, TWO_WAY, EVENT, OK,
  request, response, failure, heartbeat, heartbeatReply, frames, decodeResponse,
};
