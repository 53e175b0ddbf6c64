// All computing, beside the page, so that the page never stops moving: loads the networks once,
// then answers one message after the other.
//
// In:  {id, kind: "photo", file} | {id, kind: "frame", bitmap, seconds} | {id, kind: "restart"}
// Out: {progress} in [0, 1] while it loads, then {ready: true} or {failed: reason};
//      {id, answer: {width, height, faces}} or {id, error: reason}, where "broken" is a file that
//      is no picture

import { FaceFinder } from "./finder.js";
import { Namer, answer } from "./naming.js";
import * as ort from "./onnxruntime.mjs";
import { settings } from "./settings.js";
import { Tracker } from "./tracker.js";

// --- the networks ---

/** A file's bytes, unpacked while they come; some hosts let the browser unpack it. */
async function load({ name }, received) {
  const response = await fetch(new URL(name, import.meta.url));
  if (!response.ok) throw new Error(`${name}: ${response.status}`);
  const reader = response.body.getReader();
  const { value: head = new Uint8Array() } = await reader.read();
  const whole = new ReadableStream({
    start: (stream) => stream.enqueue(head),
    async pull(stream) {
      const { done, value } = await reader.read();
      if (done) return stream.close();
      received(value.length);
      return stream.enqueue(value);
    },
  });
  const packed = head[0] === 0x1f && head[1] === 0x8b; // as every file of gzip begins
  const bytes = packed ? whole.pipeThrough(new DecompressionStream("gzip")) : whole;
  return new Response(bytes).arrayBuffer();
}

/** An ONNX file → a function from {name: [type, values, shape]} to {name: values}. */
async function network(bytes) {
  const session = await ort.InferenceSession.create(new Uint8Array(bytes), {
    executionProviders: ["wasm"],
    logSeverityLevel: 3,
  });
  return async (inputs) => {
    const outputs = await session.run(mapped(inputs, tensor));
    return mapped(outputs, ({ data }) => data);
  };
}

/** Of an object, each value changed. */
function mapped(object, change) {
  return Object.fromEntries(Object.entries(object).map(([name, value]) => [name, change(value)]));
}

function tensor([type, values, shape]) {
  const same = { uint8: Uint8Array, float32: Float32Array }[type];
  const bytes = values.buffer && type === "uint8"; // a canvas' own type holds the same
  const data = bytes ? new same(values.buffer, values.byteOffset, values.length) : same.from(values);
  return new ort.Tensor(type, data, shape);
}

/** Loads everything; tells how far it is. @returns {Promise<{finder: FaceFinder, namer: Namer}>} */
async function open() {
  const { files } = settings;
  const whole = Object.values(files).reduce((sum, { bytes }) => sum + bytes, 0);
  let here = 0;
  const received = (bytes) => postMessage({ progress: Math.min((here += bytes) / whole, 1) });
  const loads = [files.runtime, files.finder, files.network].map((file) => load(file, received));
  for (const one of loads) one.catch(() => {}); // the first failure is told, by whoever waits
  ort.env.wasm.wasmBinary = await loads[0];
  ort.env.wasm.numThreads = 1;
  const finder = new FaceFinder(await network(await loads[1]), settings.finder);
  const namer = new Namer(await network(await loads[2]), settings.card);
  return { finder, namer };
}

// --- pictures ---

const canvas = new OffscreenCanvas(1, 1);
const pen = canvas.getContext("2d", { willReadFrequently: true });

/** A bitmap's pixels, on white, `times` smaller. @returns {import("./pillow.js").Pixels} */
function pixels(bitmap, times = 1) {
  const [width, height] = [bitmap.width, bitmap.height].map((side) => Math.ceil(side / times));
  Object.assign(canvas, { width, height }); // clears it, too
  pen.fillStyle = "white";
  pen.fillRect(0, 0, width, height);
  pen.imageSmoothingQuality = "high";
  pen.drawImage(bitmap, 0, 0, width, height);
  return { data: pen.getImageData(0, 0, width, height).data, width, height, channels: 4 };
}

/** How much smaller a photo is opened, as expression/picture_decoding.py: 1, 2, 4 or 8. */
function reduction({ width, height }, type) {
  const { longest, kept } = settings.pictures;
  const needed = [1, 2, 4].find((times) => width * height <= kept * times * times) ?? 8;
  if (type !== "image/jpeg") return needed;
  const wanted = Math.max(Math.floor(Math.max(width, height) / longest), needed);
  return [8, 4, 2].find((times) => times <= wanted) ?? 1;
}

/** A file → its pixels, upright, in the colours that it holds. */
async function opened(file) {
  const options = { imageOrientation: "from-image", colorSpaceConversion: "none" };
  const bitmap = await createImageBitmap(file, options).catch(() => {
    throw new Error("broken");
  });
  const times = reduction(bitmap, file.type);
  const image = pixels(bitmap, times);
  const { width, height } = bitmap;
  bitmap.close();
  return { image, times, width, height };
}

// --- answers ---

const ready = open();
let tracker = null;

const kinds = {
  async photo({ file }) {
    const { finder, namer } = await ready;
    const { image, times, width, height } = await opened(file);
    const faces = await finder.find(image);
    const probs = await namer.name(image, faces);
    const found = faces.map((face, i) => ({
      ...face, box: face.box.map((v) => v * times), ...answer(probs[i], settings.card),
    }));
    return { width, height, faces: found };
  },

  async frame({ bitmap, seconds }) {
    const { finder, namer } = await ready;
    tracker ??= new Tracker(finder, namer, settings.tracker);
    const { width, height } = bitmap;
    const image = pixels(bitmap);
    bitmap.close();
    const faces = await tracker.next(image, seconds);
    return { width, height, faces: faces.map((f) => ({ ...f, ...answer(f.probs, settings.card) })) };
  },

  async restart() {
    tracker = null;
    return {};
  },
};

let turn = Promise.resolve(); // one after the other: a network runs once at a time
onmessage = ({ data: { id, kind, ...given } }) => {
  turn = turn
    .then(() => kinds[kind](given))
    .then((found) => postMessage({ id, answer: found }))
    .catch((error) => postMessage({ id, error: error.message }));
};

ready.then(() => postMessage({ ready: true }), (error) => postMessage({ failed: error.message }));
