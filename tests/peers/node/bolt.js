'use strict';
// What the SOFABolt peers share: names, a protobuf service, and the one command that
// sofa-bolt-node does not know. Nothing here knows of Polyport.

const protobuf = require('protobufjs');

const ECHO = 'com.polyport.Echo';
const PROTO_ECHO = 'com.polyport.ProtoEcho';

const proto = protobuf.parse(`
  syntax = "proto3";
  package com.polyport;
  service ProtoEcho { rpc where (Question) returns (Answer) {} }
  message Question { string text = 1; }
  message Answer { string text = 1; int32 port = 2; string tenant = 3; }
`).root;

// Command 100, as MOSN sends it: a request of version 1 without parts.
function goAway() {
  const frame = Buffer.alloc(22);
  frame[0] = 1;
  frame[1] = 1;
  frame.writeUInt16BE(100, 2);
  frame[4] = 1;
  frame[9] = 1;
  return frame;
}

module.exports = { ECHO, PROTO_ECHO, proto, goAway };
