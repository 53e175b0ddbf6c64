// Pillow's picture operations, to the pixel: scaling, turning, cutting, gray.
//
// Why: the networks learnt from pictures that Pillow had scaled, and Python answers with Pillow. A
// canvas scales otherwise, and its answers differ by up to 0.04. The arithmetic here is that of
// Pillow's Resample.c, Reduce.c and Geometry.c (MIT-CMU licence), written anew.

/**
 * @typedef {object} Pixels  a picture of 8 bits a channel
 * @property {Uint8Array|Uint8ClampedArray} data  row by row, the channels of a pixel side by side
 * @property {number} width
 * @property {number} height
 * @property {number} channels  1 (gray) or 4 (RGBA; alpha is not looked at)
 *
 * @typedef {[number, number, number, number]} Rect  left, top, right, bottom
 */

const PRECISION = 22; // bits behind the point of a weight

/** A black picture. @returns {Pixels} */
export function blank(width, height, channels, value = 0) {
  const data = new Uint8Array(width * height * channels);
  if (value) data.fill(value);
  return { data, width, height, channels };
}

/** As Python's round: halves go to the even neighbour. */
export function round(value) {
  const below = Math.floor(value);
  const rest = value - below;
  if (rest !== 0.5) return rest < 0.5 ? below : below + 1;
  return below % 2 === 0 ? below : below + 1;
}

/** RGBA → gray, as `convert("L")`. @param {Pixels} image @returns {Pixels} */
export function gray(image) {
  if (image.channels === 1) return image;
  const { width, height, data } = image;
  const out = blank(width, height, 1);
  for (let i = 0, j = 0; i < out.data.length; i += 1, j += 4) {
    const sum = 19595 * data[j] + 38470 * data[j + 1] + 7471 * data[j + 2] + 32768;
    out.data[i] = sum >> 16;
  }
  return out;
}

/** As `crop`: what lies outside is black. @param {Pixels} image @param {Rect} box */
export function crop(image, [left, top, right, bottom]) {
  const { width, height, channels, data } = image;
  const out = blank(right - left, bottom - top, channels);
  const first = Math.max(left, 0);
  const last = Math.min(right, width);
  for (let y = Math.max(top, 0); y < Math.min(bottom, height) && first < last; y += 1) {
    const row = data.subarray((y * width + first) * channels, (y * width + last) * channels);
    out.data.set(row, ((y - top) * out.width + first - left) * channels);
  }
  return out;
}

/** A square; outside the picture, the pixels at its edge are repeated. @param {Pixels} image */
export function cut(image, left, top, side) {
  const [x, y, n] = [round(left), round(top), Math.max(round(side), 1)];
  const { width, height, channels, data } = image;
  if (x >= 0 && y >= 0 && x + n <= width && y + n <= height) {
    return crop(image, [x, y, x + n, y + n]);
  }
  const out = blank(n, n, channels);
  for (let row = 0, at = 0; row < n; row += 1) {
    const from = clamp(y + row, height) * width;
    for (let column = 0; column < n; column += 1) {
      const pixel = (from + clamp(x + column, width)) * channels;
      for (let c = 0; c < channels; c += 1) out.data[at++] = data[pixel + c];
    }
  }
  return out;
}

const clamp = (value, size) => Math.min(Math.max(value, 0), size - 1);

// --- scaling ---

/**
 * As `resize(size, BILINEAR, reducing_gap=gap)`; gap 0 is none.
 * @param {Pixels} image
 */
export function resize(image, width, height, gap = 0) {
  let box = [0, 0, image.width, image.height];
  if (width === image.width && height === image.height) return image;
  if (gap) {
    const across = Math.trunc(image.width / width / gap) || 1;
    const down = Math.trunc(image.height / height / gap) || 1;
    if (across > 1 || down > 1) {
      box = [0, 0, image.width / across, image.height / down];
      image = reduce(image, across, down);
    }
  }
  if (image.height > image.width * 100 && height < image.height) {
    image = resample(image, 1, box[1], box[3], height); // tall ones: the short way first
    return resample(image, 0, box[0], box[2], width);
  }
  return resample(resample(image, 0, box[0], box[2], width), 1, box[1], box[3], height);
}

/** Joins blocks of pixels into their mean. @param {Pixels} image */
export function reduce(image, across, down) {
  const { width, height, channels, data } = image;
  const out = blank(Math.ceil(width / across), Math.ceil(height / down), channels);
  for (let y = 0, at = 0; y < out.height; y += 1) {
    const [top, bottom] = [y * down, Math.min((y + 1) * down, height)];
    for (let x = 0; x < out.width; x += 1) {
      const [left, right] = [x * across, Math.min((x + 1) * across, width)];
      const count = (right - left) * (bottom - top);
      const factor = Math.floor(2 ** 32 / (256 * count));
      for (let c = 0; c < channels; c += 1) {
        let sum = count >> 1;
        for (let v = top; v < bottom; v += 1) {
          const row = v * width;
          for (let u = left; u < right; u += 1) sum += data[(row + u) * channels + c];
        }
        out.data[at++] = (sum * factor) >>> 24;
      }
    }
  }
  return out;
}

/** Which pixels each pixel of a scaled side is made of, and their weights. */
function weights(size, first, last, wanted) {
  const scale = (last - first) / wanted;
  const support = Math.max(scale, 1);
  const most = Math.ceil(support) * 2 + 1;
  const starts = new Int32Array(wanted);
  const counts = new Int32Array(wanted);
  const shares = new Int32Array(wanted * most);
  const exact = new Float64Array(most);
  for (let i = 0; i < wanted; i += 1) {
    const centre = first + (i + 0.5) * scale;
    const start = Math.max(Math.trunc(centre - support + 0.5), 0);
    const count = Math.min(Math.trunc(centre + support + 0.5), size) - start;
    let sum = 0;
    for (let k = 0; k < count; k += 1) {
      const away = Math.abs((k + start - centre + 0.5) * (1 / support));
      exact[k] = away < 1 ? 1 - away : 0;
      sum += exact[k];
    }
    for (let k = 0; k < count; k += 1) {
      const share = sum ? exact[k] / sum : exact[k];
      shares[i * most + k] = Math.trunc(0.5 + share * 2 ** PRECISION);
    }
    starts[i] = start;
    counts[i] = count;
  }
  return { starts, counts, shares, most };
}

/**
 * Scales one side (axis 0: across, 1: down) of a picture, from `first` to `last`, to `wanted`.
 * @param {Pixels} image
 */
function resample(image, axis, first, last, wanted) {
  const { width, height, channels, data } = image;
  const size = axis ? height : width;
  if (wanted === size && first === 0 && last === size) return image;
  const { starts, counts, shares, most } = weights(size, first, last, wanted);
  const out = axis ? blank(width, wanted, channels) : blank(wanted, height, channels);
  const step = axis ? width * channels : channels;
  const lines = axis ? width * channels : height; // that are scaled, one after the other
  const half = 1 << (PRECISION - 1);
  if (axis) {
    for (let i = 0, at = 0; i < wanted; i += 1) {
      const [from, count, own] = [starts[i] * step, counts[i], i * most];
      for (let line = 0; line < lines; line += 1, at += 1) {
        let sum = half;
        for (let k = 0, p = from + line; k < count; k += 1, p += step) {
          sum += data[p] * shares[own + k];
        }
        out.data[at] = sum >> PRECISION;
      }
    }
    return out;
  }
  for (let line = 0, at = 0; line < lines; line += 1) {
    for (let i = 0; i < wanted; i += 1) {
      const [from, count, own] = [(line * width + starts[i]) * channels, counts[i], i * most];
      for (let c = 0; c < channels; c += 1) {
        let sum = half;
        for (let k = 0, p = from + c; k < count; k += 1, p += step) {
          sum += data[p] * shares[own + k];
        }
        out.data[at++] = sum >> PRECISION;
      }
    }
  }
  return out;
}

// --- turning ---

/**
 * As `rotate(degrees, BILINEAR)`, counter-clockwise about the middle; outside it is black. Right
 * angles keep every pixel, and the picture changes its sides.
 * @param {Pixels} image
 */
export function rotate(image, degrees) {
  const angle = ((degrees % 360) + 360) % 360;
  if (angle % 90 === 0) return rightAngle(image, angle / 90);
  const { width, height, channels, data } = image;
  const out = blank(width, height, channels);
  const turn = (-angle * Math.PI) / 180;
  const [cos, sin] = [Math.cos(turn), Math.sin(turn)];
  const [middleX, middleY] = [width / 2, height / 2];
  const shiftX = cos * -middleX + sin * -middleY + middleX;
  const shiftY = -sin * -middleX + cos * -middleY + middleY;
  for (let y = 0, at = 0; y < height; y += 1) {
    for (let x = 0; x < width; x += 1, at += channels) {
      const u = cos * (x + 0.5) + sin * (y + 0.5) + shiftX;
      const v = -sin * (x + 0.5) + cos * (y + 0.5) + shiftY;
      if (u < 0 || u >= width || v < 0 || v >= height) continue;
      const [left, top] = [Math.floor(u - 0.5), Math.floor(v - 0.5)];
      const [across, down] = [u - 0.5 - left, v - 0.5 - top];
      const x0 = clamp(left, width) * channels;
      const x1 = clamp(left + 1, width) * channels;
      const y0 = clamp(top, height) * width * channels;
      const y1 = clamp(top + 1, height) * width * channels;
      for (let c = 0; c < channels; c += 1) {
        const upper = data[y0 + x0 + c] + (data[y0 + x1 + c] - data[y0 + x0 + c]) * across;
        const lower = data[y1 + x0 + c] + (data[y1 + x1 + c] - data[y1 + x0 + c]) * across;
        out.data[at + c] = upper + (lower - upper) * down;
      }
    }
  }
  return out;
}

/** Turned counter-clockwise by so many quarters. @param {Pixels} image */
function rightAngle(image, quarters) {
  if (quarters === 0) return image;
  const { width, height, channels, data } = image;
  const out = quarters === 2 ? blank(width, height, channels) : blank(height, width, channels);
  for (let y = 0; y < height; y += 1) {
    for (let x = 0; x < width; x += 1) {
      let to = y * width + x;
      if (quarters === 1) to = (width - 1 - x) * height + y;
      else if (quarters === 2) to = (height - 1 - y) * width + width - 1 - x;
      else to = x * height + height - 1 - y;
      for (let c = 0; c < channels; c += 1) {
        out.data[to * channels + c] = data[(y * width + x) * channels + c];
      }
    }
  }
  return out;
}
