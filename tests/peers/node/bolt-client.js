'use strict';
// A SOFARPC consumer. usage: node bolt-client.js PORT STORY [ARGUMENTS]
// The exit status is the verdict. Frames: sofa-bolt-node; "compat" is the client of sofa-rpc-node.

const assert = require('assert');
const net = require('net');
const protocol = require('sofa-bolt-node');
const { client: { RpcClient } } = require('sofa-rpc-node');
const bolt = require('./bolt');

const HANG = 20_000;
// Ways to write a frame, as options of the package's encoder.
const V1 = { protocolType: 'bolt', boltVersion: 1, crcEnable: false };
const V2 = { protocolType: 'bolt2', boltVersion: 2, crcEnable: false };
const CHECKED = { protocolType: 'bolt2', boltVersion: 2, crcEnable: true };

const sleep = ms => new Promise(resolve => setTimeout(resolve, ms));
const text = value => ({ $class: 'java.lang.String', $: value });

// One connection. Every id must be answered once; an answer to no request is an error.
class Client {
  constructor(socket) {
    this.socket = socket;
    this.waiting = new Map();
    this.pings = new Map();
    this.next = 1;
    this.sentReqs = new Map();
    this.decoder = protocol.decoder({ sentReqs: this.sentReqs, proto: bolt.proto });
    this.encoder = protocol.encoder({ sentReqs: this.sentReqs, proto: bolt.proto });
    // The frames are sent by hand, so that a story may cut, join and break them.
    this.written = [];
    this.encoder.on('data', frame => this.written.push(Buffer.from(frame)));
    this.decoder.on('response', response => {
      const asked = this.waiting.get(response.packetId);
      assert.ok(asked, `a reply to nothing, or a second one: id ${response.packetId}`);
      this.waiting.delete(response.packetId);
      clearTimeout(asked.timer);
      asked.resolve(response);
    });
    this.decoder.on('heartbeat_ack', ack => {
      const ping = this.pings.get(ack.packetId);
      assert.ok(ping, `a heartbeat reply to nothing: ${ack.packetId}`);
      this.pings.delete(ack.packetId);
      ping(null, ack);
    });
    // A server that probes its client: answer, as a consumer does.
    this.decoder.on('heartbeat', beat => this.frame(V1, encoder => encoder.writeHeartbeatAck(beat), true));
    this.decoder.on('request', () => assert.fail('a request from the server'));
    socket.pipe(this.decoder);
    socket.on('error', () => {});
    this.closed = new Promise(resolve => socket.on('close', () => {
      for (const { resolve: end } of this.waiting.values()) end({ closed: true });
      for (const ping of this.pings.values()) ping(new Error('closed'));
      this.waiting.clear();
      resolve();
    }));
  }

  static connect(port) {
    return new Promise((resolve, reject) => {
      const socket = net.connect(port, '127.0.0.1', () => resolve(new Client(socket)));
      socket.setNoDelay(true);
      socket.once('error', reject);
    });
  }

  // The bytes that `write` makes the package's encoder write; sent at once if asked.
  frame(form, write, send) {
    Object.assign(this.encoder, { codecType: 'hessian2' }, form);
    this.written.length = 0;
    write(this.encoder);
    const bytes = Buffer.concat(this.written);
    assert.ok(bytes.length > 0, 'the encoder wrote nothing');
    if (send) this.socket.write(bytes);
    return bytes;
  }

  // The bytes of a call and the promise of its reply.
  prepare(methodName, args, more = {}) {
    const id = more.id === undefined ? this.next++ : more.id;
    const { service = bolt.ECHO, form = V1, timeout = 60_000, oneway = false, requestProps } = more;
    const request = { serverSignature: `${service}:1.0`, methodName, args, timeout, oneway, requestProps };
    this.sentReqs.set(id, { req: request });
    let failed;
    const bytes = this.frame(form, encoder => encoder.writeRequest(id, request, error => { failed = error; }));
    assert.ok(!failed, failed);
    if (oneway) return { bytes };
    const reply = new Promise((resolve, reject) => {
      const timer = setTimeout(() => reject(new Error(`${methodName}: no reply to ${id}`)), HANG);
      this.waiting.set(id, { resolve, timer });
    });
    return { bytes, reply };
  }

  call(method, args, more) {
    const { bytes, reply } = this.prepare(method, args, more);
    this.socket.write(bytes);
    return reply;
  }

  async value(method, args, more) {
    const reply = await this.call(method, args, more);
    assert.ok(!reply.closed, `${method}: closed`);
    assert.ok(!reply.data.error, String(reply.data.error));
    return reply.data.appResponse;
  }

  // The status of the reply: the package shows it as no more than a text.
  async status(method, args, more) {
    let status;
    const watch = chunk => { status = chunk[0] === 1 ? chunk.readUInt16BE(10) : chunk.readUInt16BE(12); };
    this.socket.once('data', watch);
    const reply = await this.call(method, args, more);
    this.socket.removeListener('data', watch);
    return { status, error: reply.data.error, closed: reply.closed };
  }

  ping(id, form = V1) {
    return new Promise((resolve, reject) => {
      this.pings.set(id, (error, ack) => (error ? reject(error) : resolve(ack)));
      this.frame(form, encoder => encoder.writeHeartbeat(id, {}), true);
    });
  }

  stats(more) { return this.value('stats', [], more); }
  end() { this.socket.end(); }
}

async function connected(port, each) {
  const client = await Client.connect(port);
  await each(client);
  client.end();
}

const stories = {
  // Arguments of every sort, in every way to write a frame, on one connection.
  echo: port => connected(port, async client => {
    const args = [
      'grüße 你好 😀', 7, 1 << 20, 1.5, true, null, [ 1, 'two', [ 3 ] ], { a: { b: [ null, false ] } },
      'long '.repeat(20_000),
    ];
    for (const form of [ V1, V2, CHECKED, V1, CHECKED ]) {
      const reply = await client.call('echo', args, { form });
      assert.ok(!reply.data.error, String(reply.data.error));
      assert.deepStrictEqual(reply.data.appResponse, args);
      // It is answered as it was asked.
      assert.strictEqual(reply.options.protocolType, form.protocolType);
      assert.strictEqual(!!reply.options.crcEnable, form.crcEnable);
    }
  }),

  // Protobuf content, the names in the header block.
  protobuf: (port, expected) => connected(port, async client => {
    for (const base of [ V1, V2, CHECKED ]) {
      const form = { ...base, codecType: 'protobuf' };
      const more = { service: bolt.PROTO_ECHO, form, requestProps: { tenant: 'acme' } };
      const answer = await client.value('where', [ { text: 'grüße' } ], more);
      assert.strictEqual(answer.text, 'grüße');
      assert.strictEqual(answer.tenant, 'acme');
      if (expected) assert.strictEqual(answer.port, Number(expected));
    }
  }),

  // Every kind of reply arrives as it was sent.
  replies: port => connected(port, async client => {
    assert.strictEqual(await client.value('note', [ 'once' ]), null);
    const thrown = await client.call('fail', [ text('no stock') ]);
    assert.match(String(thrown.data.error && thrown.data.error.message), /no stock/);
    for (const form of [ V1, V2, CHECKED ]) {
      for (const status of [ 1, 2, 3, 4, 5, 6, 7, 8, 9, 16, 17, 18, 99 ]) {
        const reply = await client.status('status', [ status, `says ${status}` ], { form });
        assert.strictEqual(reply.status, status);
        assert.match(String(reply.error && reply.error.message), new RegExp(`says ${status}`));
      }
    }
    assert.strictEqual(await client.value('plain', [ text('after') ]), 'after');
  }),

  // Heartbeats are answered with their id, as they were asked, amid calls.
  heartbeats: port => connected(port, async client => {
    const before = await client.stats();
    const slow = client.call('slow', [ 300, 'late' ]);
    const forms = [ V1, V2, CHECKED ];
    for (let at = 0; at < 30; at++) {
      const form = forms[at % forms.length];
      const ack = await client.ping(2 ** 31 - 1 - at, form);
      assert.strictEqual(ack.packetType, 'heartbeat_ack');
      assert.strictEqual(!!ack.options.crcEnable, form.crcEnable);
    }
    // The server's own heartbeat, towards whoever is connected to it, is answered too.
    assert.strictEqual(await client.value('beat', []), true);
    assert.strictEqual((await slow).data.appResponse, 'late');
    // The proxy's own answers; prints how many of the client's reached the server.
    console.log(`reached ${(await client.stats()).heartbeats - before.heartbeats}`);
  }),

  // A first frame that is a heartbeat is Bolt all the same.
  heartbeatFirst: port => connected(port, async client => {
    await client.ping(9, V2);
    assert.strictEqual(await client.value('plain', [ 1 ]), 1);
  }),

  // One-way calls reach the server, every one, in order, and earn nothing. (This
  // server's package answers them; connected directly its answers are heard.)
  oneway: (port, number, through) => connected(port, async client => {
    const before = await client.stats();
    const batch = [];
    for (let at = 0; at < Number(number); at++) {
      const id = 1_000_000 + at;
      batch.push(client.prepare('note', [ at ], { oneway: true, id, form: [ V1, V2, CHECKED ][at % 3] }).bytes);
      if (through !== 'proxy') client.waiting.set(id, { resolve() {} });
    }
    client.socket.write(Buffer.concat(batch));
    for (let wait = 0; ; wait++) {
      const now = await client.stats();
      if (now.notes.length === before.notes.length + Number(number)) {
        assert.deepStrictEqual(now.notes.slice(-number), [ ...Array(Number(number)).keys() ]);
        break;
      }
      assert.ok(wait < 100, `${now.notes.length - before.notes.length} of ${number} arrived`);
      await sleep(50);
    }
  }),

  // Calls of many connections, all with the same ids, in flight at once; replies overtake each other.
  concurrent: async (port, calls, connections, most) => {
    const clients = await Promise.all(Array.from({ length: Number(connections) }, () => Client.connect(port)));
    const each = Number(calls) / clients.length;
    await Promise.all(clients.map(async (client, number) => {
      const pending = Array.from({ length: each }, (_, at) => {
        const value = `client ${number} call ${at}`;
        return { value, ...client.prepare('shuffle', [ text(value) ], { form: [ V1, V2, CHECKED ][at % 3] }) };
      });
      client.socket.write(Buffer.concat(pending.map(call => call.bytes)));
      for (const { value, reply } of pending) assert.strictEqual((await reply).data.appResponse, value);
    }));
    const stats = await clients[0].stats();
    assert.ok(stats.most <= Number(most), `${stats.most} upstream connections for ${clients.length} clients`);
    for (const client of clients) client.end();
  },

  // Frames cut anywhere, and several in one packet.
  split: port => connected(port, async client => {
    const calls = [ V1, V2, CHECKED ].map((form, at) => ({ at, ...client.prepare('plain', [ at ], { form }) }));
    const bytes = Buffer.concat(calls.map(call => call.bytes));
    for (let at = 0; at < bytes.length; at += 3) {
      client.socket.write(bytes.subarray(at, at + 3));
      if (at % 30 === 0) await sleep(1);
    }
    for (const { at, reply } of calls) assert.strictEqual((await reply).data.appResponse, at);
  }),

  // Megabytes both ways; with a checksum, too.
  big: port => connected(port, async client => {
    const value = 'b'.repeat(3 << 20);
    for (const form of [ V1, V2, CHECKED ]) {
      assert.ok(await client.value('plain', [ text(value) ], { form }) === value, form.protocolType);
    }
  }),

  // A frame with a wrong checksum ends its connection, unanswered; others go on.
  broken: port => connected(port, async client => {
    const other = await Client.connect(port);
    assert.strictEqual(await other.value('plain', [ 1 ], { form: CHECKED }), 1);
    const { bytes, reply } = other.prepare('plain', [ text('damaged') ], { form: CHECKED });
    bytes[bytes.indexOf('damaged')] ^= 0x20;
    const slow = client.call('slow', [ 200, 'late' ], { form: CHECKED });
    other.socket.write(bytes);
    assert.ok((await reply).closed, 'a damaged frame was answered');
    assert.strictEqual((await slow).data.appResponse, 'late');
  }),

  // Which server answers: its port, by the service or by a text of the header block.
  where: (port, how, value, expected) => connected(port, async client => {
    if (how === 'service') {
      assert.strictEqual((await client.stats({ service: value })).port, Number(expected));
      return;
    }
    for (const base of [ V1, CHECKED ]) {
      const more = { service: bolt.PROTO_ECHO, form: { ...base, codecType: 'protobuf' }, requestProps: { [how]: value } };
      assert.strictEqual((await client.value('where', [ { text: 'x' } ], more)).port, Number(expected));
    }
  }),

  // Refused with `status`; the connection and those in flight on it live on.
  refused: (port, service, status) => connected(port, async client => {
    for (const form of [ V1, V2, CHECKED ]) {
      const reply = await client.status('plain', [ 1 ], { service, form });
      assert.strictEqual(reply.status, Number(status), String(reply.error));
      assert.ok(reply.error instanceof Error);
      const slow = client.call('slow', [ 200, 'late' ]);
      const another = client.call('plain', [ 1 ], { service, form });
      assert.ok((await another).data.error instanceof Error);
      // One-way to nowhere: no reply, no harm.
      client.socket.write(client.prepare('note', [ 1 ], { service, oneway: true }).bytes);
      assert.strictEqual((await slow).data.appResponse, 'late');
      assert.strictEqual(await client.value('plain', [ 2 ]), 2);
    }
  }),

  // Not answered in time: 7, once; a late reply is nobody's.
  timeout: port => connected(port, async client => {
    for (const form of [ V1, CHECKED ]) {
      const late = client.call('slow', [ 1500, 'too late' ], { form });
      const never = await client.status('hang', [], { form });
      assert.strictEqual(never.status, 7);
      assert.ok((await late).data.error instanceof Error);
      assert.strictEqual(await client.value('plain', [ 1 ]), 1);
    }
    await sleep(1500);
    assert.strictEqual(await client.value('plain', [ 2 ]), 2);
  }),

  // The call's own time: answered when it is over, and told to the server as what is left.
  // The route has `most` milliseconds.
  patience: (port, most) => connected(port, async client => {
    for (const form of [ V1, CHECKED ]) {
      const begun = Date.now();
      const never = await client.status('hang', [], { form, timeout: 400 });
      assert.strictEqual(never.status, 7);
      const took = Date.now() - begun;
      assert.ok(took >= 390 && took < Number(most), `${took} ms`);
      for (const [ timeout, bound ] of [[ 600_000, Number(most) ], [ 3000, 3000 ]]) {
        const seen = await client.value('patience', [], { form, timeout });
        assert.ok(seen > 0 && seen <= bound, `${seen} of ${timeout}`);
      }
    }
  }),

  // A server that says it takes no more: what comes after is served all the same, elsewhere.
  goaway: (port, through) => connected(port, async client => {
    const before = await client.stats();
    if (through !== 'proxy') {
      // The package knows no such command: it is heard as a request.
      client.decoder.removeAllListeners('request');
      return;
    }
    const slow = client.call('slow', [ 300, 'late' ]);
    assert.strictEqual(await client.value('goaway', []), true);
    for (let at = 0; at < 20; at++) assert.strictEqual(await client.value('plain', [ at ]), at);
    assert.strictEqual((await slow).data.appResponse, 'late');
    const now = await client.stats();
    assert.strictEqual(now.accepted, before.accepted + 1, 'a new connection to the server');
    for (let wait = 0; (await client.stats()).connections > 1; wait++) {
      assert.ok(wait < 100, 'the old connection is not let go');
      await sleep(20);
    }
  }),

  // A client that says it sends no more: what it has asked is answered.
  clientGoAway: port => connected(port, async client => {
    const slow = client.call('slow', [ 200, 'late' ]);
    client.socket.write(bolt.goAway());
    assert.strictEqual((await slow).data.appResponse, 'late');
  }),

  // Somebody on the way sets `tenant` and takes `secret` out of the requests, and sets
  // `x-served-by` in the replies, in every way to write a frame.
  changed: (port, tenant, served) => connected(port, async client => {
    const heard = async (method, args, more) => {
      let chunk;
      client.socket.once('data', bytes => { chunk = bytes; });
      const reply = await client.call(method, args, more);
      assert.ok(!reply.data.error, String(reply.data.error));
      assert.strictEqual(reply.options.protocolType, more.form.protocolType);
      assert.strictEqual(!!reply.options.crcEnable, more.form.crcEnable);
      assert.strictEqual(bolt.block(chunk)['x-served-by'], served);
      return { value: reply.data.appResponse, texts: bolt.block(chunk) };
    };
    let id = 2 ** 31 - 1;
    for (const form of [ V1, V2, CHECKED, V1, CHECKED ]) {
      const plain = await heard('block', [], { form, id: id-- });
      assert.deepStrictEqual({ ...plain.value }, { service: `${bolt.ECHO}:1.0`, tenant });
      const args = [ 'grüße', 7, [ 1, null ], 'long '.repeat(200) ];
      assert.deepStrictEqual((await heard('echo', args, { form, id: id-- })).value, args);
      const requestProps = { first: '1', secret: 'hush', tenant: 'forged', größe: '😀' };
      const more = { service: bolt.PROTO_ECHO, form: { ...form, codecType: 'protobuf' }, requestProps, id: id-- };
      const { value, texts } = await heard('where', [ { text: 'grüße' } ], more);
      assert.strictEqual(value.text, 'grüße');
      assert.strictEqual(value.tenant, tenant);
      const { first, secret, größe } = value.headers;
      assert.deepStrictEqual([ first, secret, größe ], [ '1', undefined, '😀' ]);
      assert.strictEqual(texts.sofa_head_response_error, 'false');
    }
    // Megabytes change as well, and a checksum over them holds.
    const large = text('b'.repeat(3 << 20));
    for (const form of [ V1, V2, CHECKED ]) {
      assert.ok(await client.value('plain', [ large ], { form }) === large.$, form.protocolType);
    }
    // Heartbeats are nobody's to change, nor is what is sent one way lost by it.
    await client.ping(9, CHECKED);
    const before = await client.stats();
    client.socket.write(client.prepare('note', [ 5 ], { oneway: true, form: CHECKED }).bytes);
    for (let wait = 0; (await client.stats()).notes.length === before.notes.length; wait++) {
      assert.ok(wait < 100, 'the note is lost');
      await sleep(20);
    }
  }),

  // A text so long that the block which somebody on the way makes of it has no room.
  tooLong: (port, length, status) => connected(port, async client => {
    for (const base of [ V1, V2, CHECKED ]) {
      const form = { ...base, codecType: 'protobuf' };
      const ask = value => client.status('where', [ { text: 'x' } ], { service: bolt.PROTO_ECHO, form, requestProps: { long: value } });
      const reply = await ask('x'.repeat(Number(length)));
      assert.strictEqual(reply.status, Number(status), String(reply.error));
      assert.strictEqual((await ask('short')).status, 0);
    }
  }),

  // Load for so many seconds: prints { sent, answered, failed, lost }.
  // With "strict", any but answered calls are an error.
  load: async (port, seconds, connections, depth, strict) => {
    const end = Date.now() + Number(seconds) * 1000;
    const tally = { sent: 0, answered: 0, failed: 0, lost: 0 };
    await Promise.all(Array.from({ length: Number(connections) }, async (_, number) => {
      let serial = 0;
      while (Date.now() < end) {
        let client;
        try {
          client = await Client.connect(port);
        } catch {
          await sleep(20);
          continue;
        }
        while (Date.now() < end && !client.socket.destroyed) {
          const calls = Array.from({ length: Number(depth) }, (__, at) => {
            const value = `${number}-${serial++}`;
            return { value, ...client.prepare('plain', [ text(value) ], { form: [ V1, CHECKED ][at % 2] }) };
          });
          tally.sent += calls.length;
          client.socket.write(Buffer.concat(calls.map(call => call.bytes)));
          for (const { value, reply } of calls) {
            const answer = await reply;
            if (answer.closed) tally.lost += 1;
            else if (answer.data.error) tally.failed += 1;
            else {
              assert.strictEqual(answer.data.appResponse, value, 'another call\'s reply');
              tally.answered += 1;
            }
          }
        }
        client.end();
      }
    }));
    assert.strictEqual(tally.sent, tally.answered + tally.failed + tally.lost);
    if (strict === 'strict') {
      assert.ok(tally.answered > 0 && tally.failed === 0 && tally.lost === 0, JSON.stringify(tally));
    }
    console.log(JSON.stringify(tally));
  },

  // An implementation that is not ours on this end as well, connection handling included.
  compat: async port => {
    const quiet = { info() {}, warn() {}, error() {}, debug() {} };
    const client = new RpcClient({ logger: quiet });
    const consumer = client.createConsumer({ interfaceName: bolt.ECHO, serverHost: `127.0.0.1:${port}`, responseTimeout: 10_000 });
    await consumer.ready();
    const values = await Promise.all(Array.from({ length: 200 }, (_, at) => (
      consumer.invoke('shuffle', [ text(`value ${at}`) ])
    )));
    assert.deepStrictEqual(values, Array.from({ length: 200 }, (_, at) => `value ${at}`));
    await assert.rejects(consumer.invoke('fail', [ text('no money') ]), /no money/);
    assert.strictEqual(await consumer.invoke('plain', [ 3 ]), 3);
  },
};

const [ port, story, ...rest ] = process.argv.slice(2);
process.on('unhandledRejection', error => { throw error; });
stories[story](Number(port), ...rest).then(() => process.exit(0), error => {
  console.error(`${story}:`, error);
  process.exit(1);
});
