// Finds faces in a picture and follows them, as expression/face_detector.py: same network, same
// pictures shown to it, same rules around it.

import { blank, crop, resize, rotate, round } from "./pillow.js";

/**
 * @typedef {import("./pillow.js").Pixels} Pixels
 * @typedef {import("./pillow.js").Rect} Rect
 *
 * @typedef {object} Face
 * @property {[number, number, number, number]} box  x, y, width, height in pixels of the picture
 * @property {number} score  of the detector, in [0, 1]
 * @property {number} tilt  degrees; positive: the head leans to its right shoulder's side
 */

const MISSING = 127; // gray of what is added to a picture smaller than the first network's window

export class FaceFinder {
  /**
   * @param {(inputs: object) => Promise<object>} run  the network: inputs → outputs, by name
   * @param {object} rules  settings.finder, which the build takes from Python
   */
  constructor(run, rules) {
    this.network = run;
    this.rules = rules;
  }

  /** All faces, the largest first. @param {Pixels} image @returns {Promise<Face[]>} */
  async find(image) {
    const { finerSmallest, finerDoubt } = this.rules;
    let found = await this.search(image);
    if (this.isCrowd(found, image)) {
      const finer = this.surer(await this.search(image, finerSmallest), finerDoubt);
      found = largestFirst(keepBest([...found, ...finer]));
    }
    return found.length ? found : this.findTurned(image);
  }

  /** Whether there may be smaller faces than were looked for: none was found, or small ones. */
  isCrowd(faces, image) {
    const longest = Math.max(image.width, image.height);
    const sizes = faces.map((face) => Math.max(face.box[2], face.box[3]));
    return !faces.length || Math.min(...sizes) < this.rules.crowd * longest;
  }

  /** Those of which `doubt` times less doubt is left than a first look may leave. */
  surer(faces, doubt) {
    return faces.filter((face) => face.score >= 1 - (1 - this.rules.least) / doubt);
  }

  /** Faces in the picture turned by each of several angles. @param {Pixels} image */
  async findTurned(image) {
    const scale = Math.min(1, this.rules.detail / Math.max(image.width, image.height));
    const [width, height] = [image.width, image.height].map((v) => Math.max(round(v * scale), 1));
    const small = resize(image, width, height, 2);
    const found = [];
    for (const [angle, doubt] of this.rules.turns) {
      const turned = rotate(small, angle);
      for (const face of this.surer(await this.search(turned), doubt)) {
        found.push(turnBack(face, angle, small, turned, scale));
      }
    }
    return largestFirst(keepBest(found));
  }

  /** All faces of a picture as it is, the largest first. @param {Pixels} image */
  async search(image, smallest = this.rules.firstSmallest) {
    const { pixels, detail, smallestSeen, largestSide } = this.rules;
    const finest = Math.min(Math.max(smallest, pixels / Math.max(image.width, image.height)), 1);
    const wanted = Math.max(detail, Math.min(round(smallestSeen / finest), largestSide));
    const found = await this.run(this.view(image, wanted), finest, []);
    return largestFirst(keepBest(found.map(([face]) => face)));
  }

  /**
   * Where faces of the last frame are now; null for a face that is gone.
   * @param {Pixels} image @param {Face[]} faces @returns {Promise<(Face|null)[]>}
   */
  async follow(image, faces) {
    if (!faces.length) return [];
    const held = faces.map(({ box: [x, y, w, h] }) => [x, y, x + w, y + h]);
    const view = this.view(image, this.rules.detail, held);
    const found = faces.map(() => null);
    for (const [face, row] of await this.run(view, 1, held)) found[row] = face;
    return found;
  }

  /**
   * A picture, or the part of it around faces, as the network is shown it.
   * @param {Pixels} image @param {Rect[]} [around]  corners of faces
   */
  view(image, detail, around = null) {
    const { smallestSide, window } = this.rules;
    const longest = Math.max(image.width, image.height);
    const scale = Math.min(detail, Math.max(smallestSide, longest)) / longest;
    let origin = [0, 0];
    if (around) {
      const box = surroundings(around, image, Math.max(round(1 / scale), 1));
      image = crop(image, box);
      origin = [box[0], box[1]];
    }
    const size = [image.width, image.height].map((side) => Math.max(round(side * scale), 1));
    const small = resize(image, size[0], size[1], 1);
    const across = size[0] / image.width;
    const down = size[1] / image.height;
    return { pixels: padded(small, window), origin, across, down };
  }

  /** The network over a view → [face, row of `held` that it was], in pixels of the picture. */
  async run({ pixels, origin, across, down }, finest, held) {
    const inside = held.flatMap((corners) =>
      corners.map((v, i) => (v - origin[i % 2]) * (i % 2 ? down : across)));
    const outside = (values) =>
      Array.from(values, (v, i) => v / (i % 2 ? down : across) + origin[i % 2]);
    const out = await this.network({
      picture: ["uint8", pixels.data, [pixels.height, pixels.width, pixels.channels]],
      finest: ["float32", [finest], [1]],
      least: ["float32", [this.rules.least], [1]],
      held: ["float32", inside, [held.length, 4]],
    });
    return Array.from(out.scores, (score, i) => {
      const part = (values) => outside(values.subarray(4 * i, 4 * i + 4));
      return [asFace(part(out.boxes), part(out.eyes), score), Number(out.which[i])];
    });
  }
}

/** The part of a picture that holds these boxes and half as much around each. */
function surroundings(boxes, image, step) {
  const reach = boxes.map(([x0, y0, x1, y1]) => 0.75 * Math.max(x1 - x0, y1 - y0));
  const edge = (axis, sign, pick) =>
    pick(...boxes.map((b, i) => (b[axis] + b[axis + 2]) / 2 + sign * reach[i]));
  return [0, 1, 2, 3].map((side) => {
    const axis = side % 2;
    const size = axis ? image.height : image.width;
    const furthest = Math.floor((size - 1) / step) * step;
    const first = Math.floor(edge(axis, -1, Math.min) / step) * step;
    const start = Math.min(Math.max(first, 0), furthest);
    if (side < 2) return start;
    const last = Math.ceil(edge(axis, 1, Math.max) / step) * step;
    return Math.min(Math.max(last, start + 1), size);
  });
}

/** With gray added below and to the right of a picture smaller than the network's window. */
function padded(image, window) {
  const { width, height, channels, data } = image;
  if (width >= window && height >= window) return image;
  const out = blank(Math.max(width, window), Math.max(height, window), channels, MISSING);
  for (let y = 0; y < height; y += 1) {
    const row = data.subarray(y * width * channels, (y + 1) * width * channels);
    out.data.set(row, y * out.width * channels);
  }
  return out;
}

/** A face from its box's corners and its eyes: x, y, x, y each. @returns {Face} */
function asFace([left, top, right, bottom], [x0, y0, x1, y1], score) {
  const tilt = (Math.atan2(y1 - y0, x1 - x0) * 180) / Math.PI;
  const size = [right - left, bottom - top].map((side) => Math.max(round(side), 1));
  return { box: [round(left), round(top), size[0], size[1]], score, tilt };
}

/** A face found in a picture turned by `angle` degrees about its middle, as it was before. */
function turnBack(face, angle, before, turned, scale) {
  const [x, y, width, height] = face.box;
  const a = (angle * Math.PI) / 180;
  const [dx, dy] = [x + width / 2 - turned.width / 2, y + height / 2 - turned.height / 2];
  const cx = before.width / 2 + dx * Math.cos(a) - dy * Math.sin(a);
  const cy = before.height / 2 + dx * Math.sin(a) + dy * Math.cos(a);
  const box = [cx - width / 2, cy - height / 2, width, height].map((v) => round(v / scale));
  return { box, score: face.score, tilt: face.tilt + angle };
}

/** Intersection over the smaller box, in [0, 1]. */
function overlap(one, other) {
  const shared = [0, 1].map((i) =>
    Math.min(one[i] + one[i + 2], other[i] + other[i + 2]) - Math.max(one[i], other[i]));
  const smaller = Math.min(one[2] * one[3], other[2] * other[3]);
  return (Math.max(shared[0], 0) * Math.max(shared[1], 0)) / Math.max(smaller, 1);
}

/** The faces with the highest scores, without faces that overlap one of those. */
export function keepBest(faces) {
  const kept = [];
  for (const face of [...faces].sort((a, b) => b.score - a.score)) {
    if (kept.every((other) => overlap(face.box, other.box) < 0.6)) kept.push(face);
  }
  return kept;
}

export function largestFirst(faces) {
  return [...faces].sort((a, b) => b.box[2] * b.box[3] - a.box[2] * a.box[3]);
}
