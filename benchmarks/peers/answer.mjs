// The expression network of one package on raw faces, without its detector.
//
//   node answer.mjs PEER SIDE FACES ANSWERS
//
// PEER: face-api or human. FACES: a file of RGB pictures, SIDE × SIDE × 3 bytes each. ANSWERS: the
// file to write, float32 probabilities, seven a face, in the order of the line that is printed.
// Each package's own preprocessing scales and normalises: face-api by its own code, human as its
// src/gear/emotion.ts does (resizeBilinear, gray by weights, -1 to 1).
import fs from 'fs';
import path from 'path';
import { createRequire } from 'module';

const require = createRequire(path.join(process.cwd(), 'package.json'));
const tf = require('@tensorflow/tfjs');
const wasm = require('@tensorflow/tfjs-backend-wasm');
const BATCH = 32;

function packageFolder(name) {
  return path.join(process.cwd(), 'node_modules', name);
}

async function faceApi() {
  const api = require('@vladmandic/face-api/dist/face-api.node-wasm.js');
  const net = api.nets.faceExpressionNet;
  await net.loadFromDisk(path.join(packageFolder('@vladmandic/face-api'), 'model'));
  const classNames = Object.keys(new api.FaceExpressions(new Float32Array(7)));
  // forward takes a list of pictures (H, W, 3) in 0 to 255 and scales them itself
  return { classNames, answer: (faces) => net.forward(tf.unstack(faces)) };
}

async function human() {
  const folder = path.join(packageFolder('@vladmandic/human'), 'models');
  const topology = JSON.parse(fs.readFileSync(path.join(folder, 'emotion.json')));
  const weights = fs.readFileSync(path.join(folder, 'emotion.bin'));
  const model = await tf.loadGraphModel(tf.io.fromMemory({
    modelTopology: topology.modelTopology,
    format: topology.format,
    weightSpecs: topology.weightsManifest.flatMap((group) => group.weights),
    weightData: weights.buffer.slice(weights.byteOffset, weights.byteOffset + weights.length),
  }));
  const [, height, width, channels] = model.inputs[0].shape;
  if (channels !== 1) throw new Error(`expected a network of gray faces, found ${channels} channels`);
  const classNames = ['angry', 'disgust', 'fear', 'happy', 'sad', 'surprise', 'neutral'];
  const answer = (faces) => tf.tidy(() => {
    const scaled = tf.image.resizeBilinear(tf.div(faces, 255), [height, width], false);
    const gray = tf.sum(tf.mul(scaled, [0.2989, 0.5870, 0.1140]), 3, true);
    return model.execute(tf.mul(tf.sub(gray, 0.5), 2));
  });
  return { classNames, answer };
}

const [peer, sideText, facesPath, answersPath] = process.argv.slice(2);
const side = Number(sideText);
wasm.setWasmPaths(path.join(packageFolder('@tensorflow/tfjs-backend-wasm'), 'dist') + path.sep);
await tf.setBackend('wasm');
await tf.ready();
const { classNames, answer } = await { 'face-api': faceApi, human }[peer]();
const bytes = fs.readFileSync(facesPath);
const size = side * side * 3;
const out = [];
for (let start = 0; start < bytes.length; start += BATCH * size) {
  const part = bytes.subarray(start, Math.min(start + BATCH * size, bytes.length));
  const faces = tf.tensor4d(Float32Array.from(part), [part.length / size, side, side, 3]);
  const told = await answer(faces);
  out.push(Buffer.from(new Float32Array(await told.data()).buffer));
  tf.dispose([faces, told]);
}
fs.writeFileSync(answersPath, Buffer.concat(out));
console.log(JSON.stringify({ classNames, backend: tf.getBackend(), tfjs: tf.version_core }));
