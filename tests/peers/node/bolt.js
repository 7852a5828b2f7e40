'use strict';
// What the SOFABolt peers share: names, a protobuf service, and the one command that
// sofa-bolt-node does not know. Nothing here knows of Polyport.

const protobuf = require('protobufjs');
const texts = require('sofa-bolt-node/lib/simple_map_serializer');

const ECHO = 'com.polyport.Echo';
const PROTO_ECHO = 'com.polyport.ProtoEcho';

const proto = protobuf.parse(`
  syntax = "proto3";
  package com.polyport;
  service ProtoEcho { rpc where (Question) returns (Answer) {} }
  message Question { string text = 1; }
  message Answer { string text = 1; int32 port = 2; string tenant = 3; map<string, string> headers = 4; }
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

// The texts of a frame's header block, which the package shows to nobody in hessian2.
function block(frame) {
  const second = frame[0] === 2 ? 2 : 0;
  const lengths = (frame[second === 2 ? 2 : 1] === 0 ? 12 : 14) + second;
  const start = lengths + 8 + frame.readUInt16BE(lengths);
  return texts.decode(frame.subarray(start, start + frame.readUInt16BE(lengths + 2)));
}

// How long a request's sender waits, in milliseconds.
function patience(frame) {
  return frame.readInt32BE(frame[0] === 2 ? 12 : 10);
}

module.exports = { ECHO, PROTO_ECHO, proto, goAway, block, patience };
