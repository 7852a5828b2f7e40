'use strict';
// A Dubbo consumer. usage: node dubbo-client.js PORT STORY [ARGUMENTS]
// The exit status is the verdict. Frames: dubbo.js; "compat" uses dubbo-remoting's own.

const assert = require('assert');
const net = require('net');
const { encoder, decoder } = require('dubbo-remoting');
const dubbo = require('./dubbo');

const INTERFACE = 'com.polyport.Echo';
const HANG = 20_000;
// What a server that is about to stop says: the string R.
const READ_ONLY = Buffer.from('\x01R');

// One connection. Every id must be answered once; an answer to no request is an error.
class Client {
  constructor(socket) {
    this.socket = socket;
    this.waiting = new Map();
    this.pings = new Map();
    this.next = 1n;
    this.closed = new Promise(resolve => { this.onClosed = resolve; });
    dubbo.frames(socket, message => this.hear(message));
    socket.on('error', () => {});
    socket.on('close', () => {
      for (const { resolve } of this.waiting.values()) resolve({ closed: true });
      for (const ping of this.pings.values()) ping(new Error('closed'));
      this.waiting.clear();
      this.onClosed();
    });
  }

  static connect(port) {
    return new Promise((resolve, reject) => {
      const socket = net.connect(port, '127.0.0.1', () => resolve(new Client(socket)));
      socket.setNoDelay(true);
      socket.once('error', reject);
    });
  }

  hear(message) {
    if (message.flags & dubbo.REQUEST) {
      // A server that probes its client: answer, as a consumer does.
      assert.ok(message.flags & dubbo.EVENT, 'a request from the server');
      if (message.body.equals(READ_ONLY)) {
        assert.ok(!this.told && !(message.flags & dubbo.TWO_WAY), 'told twice, or asked for a reply');
        this.told = true;
      }
      if (message.flags & dubbo.TWO_WAY) this.socket.write(dubbo.heartbeatReply(message.id));
      return;
    }
    if (message.flags & dubbo.EVENT) {
      const ping = this.pings.get(message.id);
      assert.ok(ping, `a heartbeat reply to nothing: ${message.id}`);
      this.pings.delete(message.id);
      ping(null, message);
      return;
    }
    const asked = this.waiting.get(message.id);
    assert.ok(asked, `a reply to nothing, or a second one: id ${message.id}`);
    this.waiting.delete(message.id);
    clearTimeout(asked.timer);
    asked.resolve(dubbo.decodeResponse(message));
  }

  // The bytes of a call and the promise of its reply.
  prepare(method, types, args, more = {}) {
    const id = more.id === undefined ? this.next++ : more.id;
    const bytes = dubbo.request(id, Object.assign({ interface: INTERFACE, method, types, args }, more));
    if (more.oneway) return { bytes };
    const reply = new Promise((resolve, reject) => {
      const timer = setTimeout(() => reject(new Error(`${method}: no reply to ${id}`)), HANG);
      this.waiting.set(id, { resolve, timer });
    });
    return { bytes, reply };
  }

  call(method, types, args, more) {
    const { bytes, reply } = this.prepare(method, types, args, more);
    this.socket.write(bytes);
    return reply;
  }

  ping(id) {
    return new Promise((resolve, reject) => {
      this.pings.set(id, (error, message) => (error ? reject(error) : resolve(message)));
      this.socket.write(dubbo.heartbeat(id));
    });
  }

  async value(method, types, args, more) {
    const reply = await this.call(method, types, args, more);
    assert.strictEqual(reply.status, dubbo.OK, JSON.stringify(reply));
    return reply.value;
  }

  stats(more) { return this.value('stats', '', [], more); }
  end() { this.socket.end(); }
}

const STRING = 'Ljava/lang/String;';
const sleep = ms => new Promise(resolve => setTimeout(resolve, ms));

async function connected(port, each) {
  const client = await Client.connect(port);
  await each(client);
  client.end();
}

const stories = {
  // Arguments of every sort, and attachments both ways.
  echo: port => connected(port, async client => {
    const args = [
      'grüße 你好 😀', 7, 1 << 20, 1.5, true, null, [ 1, 'two', [ 3 ] ], { a: { b: [ null, false ] } },
      Buffer.from([ 0, 0xda, 0xbb, 255 ]), new Date(1_700_000_000_000), 'long '.repeat(20_000),
      { $class: 'com.polyport.Order', $: { id: 1, name: 'first', next: { $class: 'com.polyport.Order', $: { id: 2, name: 'second', next: null } } } },
    ];
    const types = `${STRING}IID` + `ZLjava/lang/Object;Ljava/util/List;Ljava/util/Map;[BLjava/util/Date;${STRING}Lcom/polyport/Order;`;
    const attachments = { tenant: 'acme', 'x-größe': '😀', number: 42, flag: true, none: null };
    const reply = await client.call('echo', types, args, { attachments, version: '1.0.0' });
    assert.strictEqual(reply.status, dubbo.OK);
    assert.strictEqual(reply.value.args.length, args.length);
    assert.deepStrictEqual(reply.value.args.slice(0, 8), args.slice(0, 8));
    assert.deepStrictEqual([ ...reply.value.args[8] ], [ ...args[8] ]);
    assert.strictEqual(reply.value.args[9].getTime(), args[9].getTime());
    assert.strictEqual(reply.value.args[10], args[10]);
    assert.deepStrictEqual(reply.value.args[11], { id: 1, name: 'first', next: { id: 2, name: 'second', next: null } });
    for (const [ key, value ] of Object.entries(attachments)) {
      assert.deepStrictEqual(reply.value.attachments[key], value, key);
    }
    assert.deepStrictEqual(reply.attachments, { seen: 'yes', 'größe': 'groß' });
  }),

  // A service version that is hessian null.
  nullVersion: port => connected(port, async client => {
    assert.strictEqual(await client.value('plain', 'I', [ 5 ], { version: null }), 5);
  }),

  // Every kind of reply arrives as it was sent.
  replies: port => connected(port, async client => {
    assert.strictEqual((await client.call('nothing', '', [])).kind, 2);
    const none = await client.call('nothingWithAttachments', '', []);
    assert.deepStrictEqual([ none.kind, none.value, none.attachments ], [ 5, null, { seen: 'yes' } ]);
    const thrown = await client.call('fail', STRING, [ 'no stock' ]);
    assert.strictEqual(thrown.kind, 0);
    assert.match(JSON.stringify(thrown.exception) + String(thrown.exception), /no stock/);
    const both = await client.call('failWithAttachments', STRING, [ 'no money' ]);
    assert.strictEqual(both.kind, 3);
    assert.deepStrictEqual(both.attachments, { seen: 'yes' });
    for (const status of [ 30, 31, 40, 50, 60, 70, 80, 90, 100 ]) {
      const reply = await client.call('status', `I${STRING}`, [ status, `says ${status}` ]);
      assert.deepStrictEqual([ reply.status, reply.message ], [ status, `says ${status}` ]);
    }
    // An error without a word must arrive too, or its caller waits until it times out.
    const bytes = client.prepare('emptyStatus', 'I', [ 80 ]);
    const seen = new Promise(resolve => {
      client.hear = message => resolve(message);
    });
    client.socket.write(bytes.bytes);
    const empty = await seen;
    assert.strictEqual(empty.status, 80);
    client.waiting.forEach(({ timer }) => clearTimeout(timer));
    client.waiting.clear();
  }),

  // Heartbeats are answered with their id, one-bit flags off, body null, amid calls.
  heartbeats: port => connected(port, async client => {
    const big = 0xfedc_ba98_7654_3210n;
    const slow = client.call('slow', `I${STRING}`, [ 300, 'late' ]);
    for (const id of [ 1n << 33n, big, 0xffff_ffff_ffff_ffffn ]) {
      const message = await client.ping(id);
      assert.strictEqual(message.flags & 0xe0, dubbo.EVENT, 'an event, neither request nor two-way');
      assert.strictEqual(message.status, dubbo.OK);
      assert.deepStrictEqual([ ...message.body ], [ 0x4e ]);
    }
    // The server's own heartbeat, towards whoever is connected to it, is answered too.
    assert.strictEqual(await client.value('beat', '', []), true);
    assert.strictEqual((await slow).value, 'late');
  }),

  // A first frame that is a heartbeat is Dubbo all the same.
  heartbeatFirst: port => connected(port, async client => {
    await client.ping(9n);
    assert.strictEqual(await client.value('plain', 'I', [ 1 ]), 1);
  }),

  // One-way calls reach the server, every one, and earn nothing.
  oneway: (port, number) => connected(port, async client => {
    const before = await client.stats();
    const batch = [];
    for (let at = 0; at < Number(number); at++) {
      batch.push(client.prepare('note', 'I', [ at ], { oneway: true, id: 7n }).bytes);
    }
    client.socket.write(Buffer.concat(batch));
    for (let wait = 0; ; wait++) {
      const now = await client.stats();
      if (now.oneways === before.oneways + Number(number)) {
        assert.deepStrictEqual(now.notes.slice(-number), [ ...Array(Number(number)).keys() ]);
        break;
      }
      assert.ok(wait < 100, `${now.oneways - before.oneways} of ${number} arrived`);
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
        return { value, ...client.prepare('shuffle', STRING, [ value ]) };
      });
      client.socket.write(Buffer.concat(pending.map(call => call.bytes)));
      for (const { value, reply } of pending) assert.strictEqual((await reply).value, value);
    }));
    const stats = await clients[0].stats();
    if (most !== undefined) {
      assert.ok(stats.most <= Number(most), `${stats.most} upstream connections for ${clients.length} clients`);
    }
    for (const client of clients) client.end();
  },

  // Frames cut anywhere, and several in one packet.
  split: port => connected(port, async client => {
    const calls = [ 'one', 'two', 'three' ].map(value => ({ value, ...client.prepare('plain', STRING, [ value ]) }));
    const bytes = Buffer.concat(calls.map(call => call.bytes));
    for (let at = 0; at < bytes.length; at += 3) {
      client.socket.write(bytes.subarray(at, at + 3));
      if (at % 30 === 0) await sleep(1);
    }
    for (const { value, reply } of calls) assert.strictEqual((await reply).value, value);
  }),

  // 6 MB both ways.
  big: port => connected(port, async client => {
    const value = 'b'.repeat(6 << 20);
    assert.strictEqual(await client.value('plain', STRING, [ value ]), value);
  }),

  // Which server answers: its port, by an attachment or another property of the call.
  where: (port, property, value, expected) => connected(port, async client => {
    const more = property === 'interface' ? { interface: value }
      : property === 'none' ? {}
        : { attachments: { [property]: value } };
    assert.strictEqual((await client.stats(more)).port, Number(expected));
  }),

  // The ports of the servers that answer callers with these attachments, NAME=VALUE each.
  who: (port, interfaceName, ...pairs) => connected(port, async client => {
    for (const pair of pairs) {
      const attachments = Object.fromEntries([ pair.split('=') ]);
      console.log((await client.stats({ interface: interfaceName, attachments })).port);
    }
  }),

  // A method routed by name.
  whereMethod: (port, status) => connected(port, async client => {
    const reply = await client.call('unheard', '', []);
    assert.strictEqual(reply.status, Number(status), JSON.stringify(reply));
  }),

  // Refused with `status`; the connection and those in flight on it live on.
  refused: (port, interfaceName, status) => connected(port, async client => {
    const slow = client.call('slow', `I${STRING}`, [ 200, 'late' ]);
    const reply = await client.call('plain', 'I', [ 1 ], { interface: interfaceName });
    assert.strictEqual(reply.status, Number(status), JSON.stringify(reply));
    assert.ok(typeof reply.message === 'string' && reply.message.length > 0);
    // One-way to nowhere: no reply, no harm.
    client.call('note', 'I', [ 1 ], { interface: interfaceName, oneway: true });
    assert.strictEqual((await slow).value, 'late');
    assert.strictEqual(await client.value('plain', 'I', [ 2 ]), 2);
  }),

  // Not answered in time: 31, once; a late reply is nobody's.
  timeout: port => connected(port, async client => {
    const late = client.call('slow', `I${STRING}`, [ 1500, 'too late' ]);
    const never = client.call('hang', '', []);
    assert.strictEqual(await client.value('plain', 'I', [ 1 ]), 1);
    assert.strictEqual((await late).status, 31);
    assert.strictEqual((await never).status, 31);
    await sleep(1000);
    assert.strictEqual(await client.value('plain', 'I', [ 2 ]), 2);
  }),

  // The call's own time: answered when it is over, and told to the server as what is left.
  // The route has `most` milliseconds.
  patience: (port, most) => connected(port, async client => {
    const begun = Date.now();
    const never = await client.call('hang', '', [], { attachments: { timeout: '400' } });
    assert.strictEqual(never.status, 31);
    const took = Date.now() - begun;
    assert.ok(took >= 390 && took < Number(most), `${took} ms`);
    for (const [ timeout, bound ] of [[ '600000', most ], [ 600000, most ], [ '3000', 3000 ]]) {
      const { attachments } = await client.value('echo', STRING, [ 'x' ], { attachments: { tenant: 'acme', timeout } });
      assert.strictEqual(typeof attachments.timeout, typeof timeout);
      const seen = Number(attachments.timeout);
      assert.ok(seen > 0 && seen <= Number(bound), `${attachments.timeout} of ${timeout}`);
      assert.strictEqual(attachments.tenant, 'acme');
    }
    const { attachments } = await client.value('echo', STRING, [ 'x' ], { attachments: { tenant: 'acme' } });
    assert.ok(!('timeout' in attachments));
  }),

  // A server that goes read-only: what comes after is served all the same.
  readonly: port => connected(port, async client => {
    assert.strictEqual(await client.value('readonly', '', []), true);
    for (let at = 0; at < 20; at++) assert.strictEqual(await client.value('plain', 'I', [ at ]), at);
  }),

  // One slow call under way; prints "waiting" and then its value.
  slow: (port, ms) => connected(port, async client => {
    const reply = client.call('slow', `I${STRING}`, [ Number(ms), 'finished' ]);
    const { status, value } = await reply;
    assert.deepStrictEqual([ status, value ], [ dubbo.OK, 'finished' ]);
    process.stdout.write('finished\n');
  }),

  // Somebody on the way sets `tenant` and takes `secret` out of the requests, and sets
  // `served-by` and takes `seen` out of the replies that have attachments.
  changed: (port, tenant, served) => connected(port, async client => {
    const order = { $class: 'com.polyport.Order', $: { id: 1, name: 'first', next: null } };
    const args = [ 'grüße 你好 😀', 7, [ 1, 'two', [ 3 ] ], order, 'long '.repeat(8_000) ];
    const types = `${STRING}ILjava/util/List;Lcom/polyport/Order;${STRING}`;
    const own = { 'x-größe': '😀', number: 42, flag: true, none: null };
    const all = [ {}, { secret: 'hush' }, { tenant: 'forged', secret: 'hush' }, { secret: 1, Tenant: 2 } ];
    for (const [ at, more ] of all.entries()) {
      const attachments = { ...more, ...own, last: 'one' };
      const reply = await client.call('echo', types, args, { attachments, version: '1.0.0', id: 2n ** 63n - 1n - BigInt(at) });
      assert.strictEqual(reply.status, dubbo.OK, JSON.stringify(reply));
      const { args: heard, attachments: seen } = reply.value;
      assert.deepStrictEqual(heard.slice(0, 3), args.slice(0, 3));
      assert.deepStrictEqual(heard[3], order.$);
      assert.strictEqual(heard[4], args[4]);
      const due = { ...own, last: 'one', path: INTERFACE, interface: INTERFACE };
      due['Tenant' in more ? 'Tenant' : 'tenant'] = tenant;
      assert.deepStrictEqual({ ...seen }, due);
      assert.deepStrictEqual({ ...reply.attachments }, { 'größe': 'groß', 'served-by': served });
    }
    const none = await client.call('nothingWithAttachments', '', []);
    assert.deepStrictEqual([ none.kind, none.value, none.attachments ], [ 5, null, { 'served-by': served } ]);
    const thrown = await client.call('failWithAttachments', STRING, [ 'no money' ]);
    assert.deepStrictEqual([ thrown.kind, thrown.attachments ], [ 3, { 'served-by': served } ]);
    assert.match(JSON.stringify(thrown.exception) + String(thrown.exception), /no money/);
    await client.ping(9n);
    // What is too large to be held as a whole is not passed on unchanged.
    const large = await client.call('echo', STRING, [ 'x'.repeat(3 << 20) ]);
    assert.strictEqual(large.status, 40, large.message);
    assert.match(large.message, /too large/);
    assert.strictEqual((await client.call('echo', 'I', [ 5 ])).status, dubbo.OK);
  }),

  // A reply without attachments, which somebody on the way should have changed: an
  // error of this status in its place, and those in flight live on.
  unchangeable: (port, status) => connected(port, async client => {
    const slow = client.call('slow', `I${STRING}`, [ 500, 'late' ], { interface: 'com.polyport.Other' });
    for (const [ method, types, args ] of [ [ 'plain', 'I', [ 1 ] ], [ 'nothing', '', [] ], [ 'fail', STRING, [ 'no' ] ] ]) {
      const reply = await client.call(method, types, args);
      assert.strictEqual(reply.status, Number(status), JSON.stringify(reply));
      assert.match(reply.message, /polyport/);
      const whole = await client.call('echo', 'I', [ 5 ]);
      assert.strictEqual(whole.status, dubbo.OK, JSON.stringify(whole));
    }
    // Nor can one be that is too large to be held as a whole.
    const large = await client.call('echo', STRING, [ 'x'.repeat(3 << 20) ]);
    assert.strictEqual(large.status, Number(status), JSON.stringify(large).slice(0, 200));
    assert.strictEqual((await client.call('echo', 'I', [ 5 ])).status, dubbo.OK);
    assert.strictEqual((await slow).value, 'late');
  }),

  // Of five calls at once two pass, and the others are of `status`; a second later all is well.
  limited: (port, status) => connected(port, async client => {
    const calls = [ 1, 2, 3, 4, 5 ].map(at => client.call('plain', 'I', [ at ]));
    const replies = await Promise.all(calls);
    const due = [ dubbo.OK, dubbo.OK, ...Array(3).fill(Number(status)) ];
    assert.deepStrictEqual(replies.map(reply => reply.status), due);
    await sleep(1100);
    assert.strictEqual(await client.value('plain', 'I', [ 6 ]), 6);
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
          const calls = Array.from({ length: Number(depth) }, () => {
            const value = `${number}-${serial++}`;
            return { value, ...client.prepare('plain', STRING, [ value ]) };
          });
          tally.sent += calls.length;
          client.socket.write(Buffer.concat(calls.map(call => call.bytes)));
          for (const { value, reply } of calls) {
            const answer = await reply;
            if (answer.closed) tally.lost += 1;
            else if (answer.status !== dubbo.OK) tally.failed += 1;
            else {
              assert.strictEqual(answer.value, value, 'another call\'s reply');
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

  // Calls until the server asks to leave; all of them are answered.
  leaving: async port => {
    const client = await Client.connect(port);
    const waiting = [];
    const call = at => waiting.push(client.value('plain', STRING, [ `value ${at}` ]));
    await client.value('plain', STRING, [ 'first' ]);
    console.log('ready');
    for (let at = 0; !client.told; at++) {
      assert.ok(at < 4000, 'never told');
      call(at);
      await sleep(5);
    }
    // What was on its way to a server that said so.
    call('last');
    await Promise.all(waiting);
    console.log(`answered ${waiting.length}`);
    client.end();
    await client.closed;
  },

  // The same, heard by an implementation that is not ours.
  leavingCompat: async port => {
    const socket = net.connect(Number(port), '127.0.0.1');
    const sentReqs = new Map();
    const output = encoder({ sentReqs });
    const input = decoder({ sentReqs });
    output.pipe(socket).pipe(input);
    let told = false;
    let answered = 0;
    input.on('error', error => { throw error; });
    input.on('response', ({ data }) => { assert.ok(!data.error); answered += 1; });
    input.on('heartbeat', packet => { told = packet.data === 'R'; });
    let asked = 0;
    while (!told) {
      assert.ok(asked < 1000, 'never told');
      output.writeRequest(++asked, { serverSignature: `${INTERFACE}:1.0.0`, methodName: 'plain', args: [ 'x' ] });
      if (asked === 10) console.log('ready');
      await sleep(20);
    }
    for (let wait = 0; answered < asked; wait++) {
      assert.ok(wait < 400, `${answered} of ${asked}`);
      await sleep(20);
    }
    socket.destroy();
  },

  // An implementation that is not ours on this end as well.
  compat: async port => {
    const socket = net.connect(Number(port), '127.0.0.1');
    const sentReqs = new Map();
    const output = encoder({ sentReqs });
    const input = decoder({ sentReqs });
    output.pipe(socket).pipe(input);
    const replies = new Map();
    const heard = [];
    input.on('response', packet => { replies.set(packet.packetId, packet.data); });
    input.on('heartbeat_ack', packet => heard.push(packet.packetId));
    for (let id = 1; id <= 200; id++) {
      output.writeRequest(id, {
        serverSignature: `${INTERFACE}:1.0.0`,
        methodName: id % 10 === 0 ? 'fail' : 'shuffle',
        args: [ `value ${id}` ],
        requestProps: { tenant: 'acme' },
      });
      if (id % 50 === 0) output.writeHeartbeat(10_000 + id, {});
    }
    for (let wait = 0; replies.size < 200 || heard.length < 4; wait++) {
      assert.ok(wait < 200, `${replies.size} replies, ${heard.length} heartbeats`);
      await sleep(50);
    }
    for (const [ id, data ] of replies) {
      if (id % 10 === 0) assert.match(String(data.error && (data.error.message || data.error.detailMessage)), new RegExp(`value ${id}`));
      else assert.strictEqual(data.appResponse, `value ${id}`);
    }
    assert.deepStrictEqual(heard.sort(), [ 10_050, 10_100, 10_150, 10_200 ]);
    socket.destroy();
  },
};

const [ port, story, ...rest ] = process.argv.slice(2);
process.on('unhandledRejection', error => { throw error; });
stories[story](Number(port), ...rest).then(() => process.exit(0), error => {
  console.error(`${story}:`, error);
  process.exit(1);
});
