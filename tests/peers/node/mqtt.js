// MQTT.js through whatever listens at PORT. usage: mqtt.js STORY PORT
// The exit status is the verdict; every story but `denied` holds on a direct connection too.
'use strict';

const assert = require('node:assert');
const { once } = require('node:events');
const crypto = require('node:crypto');
const fs = require('node:fs');
const mqtt = require('mqtt');

const port = Number(process.argv[3]);
// Over TLS, where it is said whom to trust.
const ca = process.env.POLYPORT_TESTS_CA;
const secure = ca ? { protocol: 'mqtts', ca: fs.readFileSync(ca) } : {};
const fresh = (name) => `${name}-${crypto.randomBytes(4).toString('hex')}`;
const versions = {
  3: { protocolVersion: 3, protocolId: 'MQIsdp' },
  4: { protocolVersion: 4 },
  5: { protocolVersion: 5 },
};

function connect(level, options = {}) {
  return mqtt.connectAsync({
    host: '127.0.0.1', port, clientId: fresh('js'), reconnectPeriod: 0, connectTimeout: 10_000,
    ...secure, ...versions[level], ...options,
  });
}

// The next `count` messages, as [topic, payload, packet].
function messages(client, count) {
  return new Promise((resolve) => {
    const seen = [];
    const take = (topic, payload, packet) => {
      seen.push([topic, payload.toString(), packet]);
      if (seen.length < count) return;
      client.off('message', take);
      resolve(seen);
    };
    client.on('message', take);
  });
}

const stories = {
  async exchange() {
    for (const level of [3, 4, 5]) {
      const listener = await connect(level);
      const speaker = await connect(level);
      const topic = fresh('t');
      await listener.subscribeAsync({ [`${topic}/+`]: { qos: 2 }, other: { qos: 0 } });
      const coming = messages(listener, 30);
      for (let number = 0; number < 30; number += 1) {
        await speaker.publishAsync(`${topic}/${number % 3}`, String(number), { qos: number % 3 });
      }
      const seen = await coming;
      for (const qos of [0, 1, 2]) {
        const numbers = seen.filter((each) => each[0].endsWith(`/${qos}`)).map((each) => each[1]);
        assert.deepStrictEqual(numbers, [...Array(10).keys()].map((n) => String(3 * n + qos)));
      }
      await listener.unsubscribeAsync(`${topic}/+`);
      await Promise.all([listener.endAsync(), speaker.endAsync()]);
    }
  },

  // MQTT.js numbers topics itself and leaves the names out from then on.
  async aliases() {
    const listener = await connect(5);
    const speaker = await connect(5, { autoAssignTopicAlias: true });
    const root = fresh('alias');
    await listener.subscribeAsync(`${root}/+`, { qos: 1 });
    const coming = messages(listener, 200);
    for (let number = 0; number < 200; number += 1) {
      // More topics than there are aliases: some are given anew.
      await speaker.publishAsync(`${root}/${number % 15}`, String(number % 15), { qos: number % 2 });
    }
    for (const [topic, payload] of await coming) assert.strictEqual(topic, `${root}/${payload}`);
    await Promise.all([listener.endAsync(), speaker.endAsync()]);
  },

  async properties() {
    const client = await connect(5, {
      properties: { sessionExpiryInterval: 5, receiveMaximum: 3, maximumPacketSize: 10_000, userProperties: { tenant: ['a', 'b'] } },
    });
    const topic = fresh('p');
    await client.subscribeAsync(topic, { qos: 1, nl: false, rap: true, rh: 1, properties: { subscriptionIdentifier: 300 } });
    const coming = messages(client, 1);
    await client.publishAsync(topic, 'x', {
      qos: 1, properties: { userProperties: { n: 'v' }, responseTopic: 'answers', contentType: 'text/plain' },
    });
    const [[, , packet]] = await coming;
    assert.strictEqual(packet.properties.userProperties.n, 'v');
    assert.strictEqual(packet.properties.responseTopic, 'answers');
    await client.endAsync();
  },

  async will() {
    for (const level of [3, 4, 5]) {
      const topic = fresh('w');
      const listener = await connect(level);
      await listener.subscribeAsync(topic, { qos: 1 });
      const coming = messages(listener, 1);
      const lost = await connect(level, { will: { topic, payload: 'gone', qos: 1, retain: false } });
      lost.stream.destroy();
      assert.strictEqual((await coming)[0][1], 'gone');
      await listener.endAsync();
    }
  },

  // Needs somebody who denies what is published to `secret/...`.
  async denied() {
    const client = await connect(5);
    for (const qos of [1, 2]) {
      const refused = client.publishAsync(`secret/${qos}`, 'no', { qos });
      await assert.rejects(refused, (error) => error.code === 0x87);
      await client.publishAsync(`open/${qos}`, 'yes', { qos });
    }
    await client.endAsync();
  },

  // What was not acknowledged is sent again after a loss, and arrives.
  async again() {
    const topic = fresh('again');
    const listener = await connect(4);
    await listener.subscribeAsync(topic, { qos: 2 });
    const speaker = await connect(4, { clean: false, reconnectPeriod: 50 });
    const coming = messages(listener, 100);
    const sent = [];
    for (let number = 0; number < 100; number += 1) {
      sent.push(speaker.publishAsync(topic, String(number), { qos: 2 }));
      if (number % 30 === 29) {
        speaker.stream.destroy();
        await once(speaker, 'connect');
      }
    }
    await Promise.all(sent);
    const numbers = (await coming).map((each) => Number(each[1]));
    assert.deepStrictEqual(numbers.toSorted((a, b) => a - b), [...Array(100).keys()]);
    await Promise.all([listener.endAsync(), speaker.endAsync()]);
  },
};

const hang = setTimeout(() => { console.error('hangs'); process.exit(2); }, 40_000);
stories[process.argv[2]]().then(() => {
  clearTimeout(hang);
  process.exit(0);
}, (error) => {
  console.error(error);
  process.exit(1);
});
