// From a face in a picture to probabilities, as expression/faces.py (the crop),
// expression/preprocessing.py (the input) and expression/predictor.py (the answer).

import { crop, cut, gray, resize, rotate, round } from "./pillow.js";

/**
 * @typedef {import("./pillow.js").Pixels} Pixels
 * @typedef {import("./finder.js").Face} Face
 */

export class Namer {
  /**
   * @param {(inputs: object) => Promise<object>} run  the network: inputs → outputs, by name
   * @param {object} card  what settings.card says of the network
   */
  constructor(run, card) {
    this.network = run;
    this.card = card;
    const { mean, std } = card.preprocess;
    this.levels = mean.map((m, c) => levels(m, std[c])); // a table for each channel
  }

  /** Faces → probabilities, in the order of the classes. @returns {Promise<number[][]>} */
  async name(image, faces) {
    if (!faces.length) return [];
    const { size, channels } = this.card.preprocess;
    const each = channels * size * size;
    const inputs = new Float32Array(faces.length * each);
    faces.forEach((face, i) => this.fill(inputs.subarray(i * each), this.square(image, face)));
    const shape = [faces.length, channels, size, size];
    const { logits } = await this.network({ images: ["float32", inputs, shape] });
    const classes = this.card.classNames.length;
    return faces.map((_, i) =>
      softmax(logits.subarray(i * classes, (i + 1) * classes), this.card.temperature));
  }

  /** The square around a face; what lies outside the picture repeats its edge. */
  square(image, { box: [x, y, width, height], tilt }) {
    const rule = this.card.crop;
    const side = Math.max(Math.sqrt(Math.max(width * height, 1)) / rule.size, 1);
    const left = x + width / 2 - rule.centre_x * side;
    const top = y + height / 2 - rule.centre_y * side;
    if (Math.abs(tilt) < rule.upright_from) return cut(image, left, top, side);
    const [u, v] = [rule.centre_x, rule.centre_y];
    const reach = side * Math.hypot(Math.max(u, 1 - u), Math.max(v, 1 - v)) + 1;
    const loose = cut(image, left + u * side - reach, top + v * side - reach, 2 * reach);
    const turned = rotate(loose, tilt);
    const corner = [round(turned.width / 2 - u * side), round(turned.height / 2 - v * side)];
    const n = Math.max(round(side), 1);
    return crop(turned, [corner[0], corner[1], corner[0] + n, corner[1] + n]);
  }

  /** A crop, scaled and normalised, into one row of the network's input. @param {Pixels} face */
  fill(input, face) {
    const { size, mode, channels } = this.card.preprocess;
    const small = resize(mode === "L" ? gray(face) : face, size, size);
    for (let c = 0, at = 0; c < channels; c += 1) {
      const band = mode === "L" ? 0 : c;
      for (let i = band; i < small.data.length; i += small.channels) {
        input[at++] = this.levels[c][small.data[i]];
      }
    }
  }
}

/** Of each of the 256 values of a pixel, what the network is given, in float32 as numpy has it. */
function levels(mean, std) {
  const [m, s] = [Math.fround(mean), Math.fround(std)];
  return Float32Array.from({ length: 256 }, (_, v) =>
    Math.fround(Math.fround(v / 255) - m) / s);
}

function softmax(logits, temperature) {
  const largest = Math.max(...logits) / temperature;
  const powers = Array.from(logits, (v) => Math.exp(v / temperature - largest));
  const sum = powers.reduce((a, b) => a + b, 0);
  return powers.map((v) => v / sum);
}

/**
 * What is shown of a face: its classes, the most likely first, and the word.
 * @param {number[]} probs
 * @returns {{probs: [string, number][], label: string, sure: boolean}}
 */
export function answer(probs, { classNames, minConfidence, notSure }) {
  const ranked = classNames.map((name, i) => [name, probs[i]]).sort((a, b) => b[1] - a[1]);
  const sure = minConfidence === 0 || ranked[0][1] >= minConfidence;
  return { probs: ranked, label: sure ? ranked[0][0] : notSure, sure };
}
