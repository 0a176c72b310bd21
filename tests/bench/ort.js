// ONNX Runtime as one side of a comparison (tests/bench/README.md, "The line protocol").
//
//   node ort.js --models=DIR --kind=f32|int8 --batch=B --threads=T --ms=MS --input=FILE
//
// DIR holds KIND-encode-K.onnx, KIND-finish-K.onnx and identity.onnx, as network.py writes them; a session is opened
// when it is first asked for. onnxruntime-node (npm) is looked for where Node does: in node_modules beside this file
// or above it, or in NODE_PATH.
//
// All graph optimisations, one operator after another, T threads within each. A call from JavaScript costs some
// microseconds which a C program would not pay: the time of a model that hands one value through is measured at the
// start and taken off every figure. That is in ONNX Runtime's favour, since a call of its C interface is not free.
'use strict';
const fs = require('fs');
const path = require('path');
const readline = require('readline');
const ort = require('onnxruntime-node');

const options = {kind: 'f32', batch: '1', threads: '1', ms: '5'};
for (const a of process.argv.slice(2)) {
  const [, name, value] = /^--([a-z]+)=(.*)$/s.exec(a);
  options[name] = value;
}
const batch = Number(options.batch), least = Number(options.ms);
let overhead = 0, input;
const sessions = {}, cuts = {};

const size = (shape) => shape.reduce((a, b) => a * b, 1);

async function open(file) {
  const how = {
    executionProviders: ['cpu'], graphOptimizationLevel: 'all', executionMode: 'sequential',
    intraOpNumThreads: Number(options.threads), interOpNumThreads: 1,
  };
  if (options.optimized) how.optimizedModelFilePath = options.optimized;  // to look at what it makes of the graph
  const session = await ort.InferenceSession.create(path.join(options.models, file), how);
  const {shape} = session.inputMetadata[0], out = session.outputMetadata[0].shape;
  const result = new ort.Tensor('float32', new Float32Array(size(out)), out);
  const feeds = (values) => ({[session.inputNames[0]]: new ort.Tensor('float32', values.subarray(0, size(shape)), shape)});
  return {session, feeds, result, fetches: {[session.outputNames[0]]: result}};
}

async function run(s, values) {
  await s.session.run(s.feeds(values), s.fetches);
  return s.result.data;
}

async function time(s, values) {
  const feeds = s.feeds(values), fetches = s.fetches;
  await s.session.run(feeds, fetches);
  let times = 0, took;
  const begun = process.hrtime.bigint();
  do {
    await s.session.run(feeds, fetches);
    times++;
    took = Number(process.hrtime.bigint() - begun);
  } while (took < least * 1e6);
  return took / 1e3 / times;
}

function load(file) {
  const b = fs.readFileSync(file);
  input = new Float32Array(b.buffer.slice(b.byteOffset, b.byteOffset + b.length));
  for (const k of Object.keys(cuts)) delete cuts[k];
}

async function session(what, k) {
  const name = `${what}-${k}`;
  if (!sessions[name]) sessions[name] = await open(`${options.kind}-${name}.onnx`);
  return sessions[name];
}

// What "encode K" or "finish K" starts from.
async function start(what, k) {
  if (what === 'encode') return input;
  if (!cuts[k]) cuts[k] = Float32Array.from(await run(await session('encode', k), input));
  return cuts[k];
}

async function answer(line) {
  const [what, k] = line.split(' ');
  if (what === 'input') {
    load(line.slice(6));
    return 'loaded';
  }
  if (what === 'save') {
    const [, which, cut, ...file] = line.split(' ');
    const r = await run(await session(which, cut), await start(which, cut));
    fs.writeFileSync(file.join(' '), new Uint8Array(r.buffer, r.byteOffset, r.byteLength));
    return 'saved';
  }
  if (what !== 'encode' && what !== 'finish') return 'error: no such measurement';
  const us = await time(await session(what, k), await start(what, k));
  return (Math.max(us - overhead, 0) / batch).toFixed(3);
}

async function main() {
  load(options.input);
  const nothing = await open('identity.onnx'), one = new Float32Array(1);
  overhead = Infinity;
  for (let i = 0; i < 20; i++) overhead = Math.min(overhead, await time(nothing, one));
  process.stderr.write(`# ONNX Runtime ${require('onnxruntime-node/package.json').version}, ${options.kind}, threads ` +
                       `${options.threads}; ${overhead.toFixed(1)} us of each call taken off\n`);
  for await (const line of readline.createInterface({input: process.stdin})) {
    let reply;
    try {
      reply = await answer(line);
    } catch (e) {
      reply = 'error: ' + String(e.message).replace(/\n/g, ' ');
    }
    process.stdout.write(reply + '\n');
  }
}

main();
