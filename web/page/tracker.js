// Follows every face of a camera and averages what it shows over time, as expression/tracker.py
// without its memory for people who come back: nobody's number is shown here.

/**
 * @typedef {import("./finder.js").Face} Face
 *
 * @typedef {object} Track  one face through time
 * @property {Face} face
 * @property {number} lastSeen  seconds
 * @property {number[]|null} probs  averaged
 * @property {number} named  seconds: when they were last asked for
 * @property {boolean} visible  in the last frame
 * @property {number} missed  searches of the whole frame in a row that did not find it
 */

export class Tracker {
  /** @param {object} rules  settings.tracker, which the build takes from Python */
  constructor(finder, namer, rules) {
    Object.assign(this, { finder, namer, rules });
    /** @type {Track[]} */
    this.tracks = [];
    this.searched = -Infinity;
  }

  /** A frame and its time → the faces, the largest first, with their averaged probabilities. */
  async next(image, seconds) {
    await this.locate(image, seconds);
    const visible = this.tracks.filter((track) => track.visible);
    await this.name(image, visible, seconds);
    for (const track of visible) track.lastSeen = seconds;
    const area = ({ face }) => face.box[2] * face.box[3];
    visible.sort((a, b) => area(b) - area(a));
    return visible.map(({ face, probs }) => ({ ...face, probs }));
  }

  /** Where each face is in this frame, or that it is not visible. */
  async locate(image, seconds) {
    const { memory, every } = this.rules;
    this.tracks = this.tracks.filter((track) => seconds - track.lastSeen <= memory);
    const before = this.tracks.filter((track) => track.visible);
    const moved = await this.finder.follow(image, before.map((track) => track.face));
    before.forEach((track, i) => {
      track.visible = moved[i] !== null;
      track.face = moved[i] ?? track.face;
    });
    const lost = before.some((track) => !track.visible);
    const due = before.length ? every : every / 3; // an empty frame is searched more often
    if (lost || seconds - this.searched >= due) await this.search(image, seconds);
  }

  /** Find the faces of the whole frame, and whose each is. */
  async search(image, seconds) {
    this.searched = seconds;
    const found = await this.finder.search(image);
    const pairs = this.pair(found, seconds);
    for (const track of this.tracks) {
      track.missed += 1;
      track.visible = track.visible && track.missed < 3;
    }
    found.forEach((face, i) => {
      const track = pairs.get(i) ?? {
        face, lastSeen: seconds, probs: null, named: -Infinity, visible: true, missed: 0,
      };
      if (!pairs.has(i)) this.tracks.push(track);
      Object.assign(track, { face, visible: true, missed: 0 });
    });
    this.tracks = withoutDoubles(this.tracks);
  }

  /** {index of a face: its track}: those of the last frame first, then those just lost. */
  pair(found, seconds) {
    const pairs = new Map();
    for (const wanted of [true, false]) {
      const tracks = this.tracks.filter((track) => track.visible === wanted);
      for (const [i, j] of bestFirst(nearPlaces(found, tracks, seconds, pairs))) {
        pairs.set(i, tracks[j]);
      }
    }
    return pairs;
  }

  /** Ask what the faces show, those that are new or were asked some time ago; average it. */
  async name(image, tracks, seconds) {
    const { nameEvery, smooth } = this.rules;
    const due = tracks.filter((t) => !t.probs || seconds - t.named > nameEvery - 1e-3);
    const answers = await this.namer.name(image, due.map((track) => track.face));
    due.forEach((track, i) => {
      const gap = Math.max(seconds - track.named, 1e-3);
      const share = track.probs ? 1 - Math.exp(-gap / smooth) : 1;
      const old = track.probs ?? answers[i];
      track.probs = old.map((p, c) => p + share * (answers[i][c] - p));
      track.named = seconds;
    });
  }
}

/** Distance of two faces' centres, in units of their mean size. */
function distance({ box: [x, y, w, h] }, { box: [u, v, p, q] }) {
  const apart = Math.hypot(x + w / 2 - u - p / 2, y + h / 2 - v - q / 2);
  return apart / Math.max((w + h + p + q) / 4, 1);
}

/** [distance, face, track] of pairs that may be one by place and size; `taken` faces have theirs. */
function nearPlaces(faces, tracks, seconds, taken) {
  const pairs = [];
  faces.forEach((face, i) => tracks.forEach((track, j) => {
    const [, , width, height] = track.face.box;
    const ratio = (face.box[2] * face.box[3]) / Math.max(width * height, 1);
    const reach = 0.6 + Math.min(seconds - track.lastSeen, 1.5);
    const apart = distance(face, track.face);
    if (!taken.has(i) && apart < reach && ratio > 1 / 3 && ratio < 3) pairs.push([apart, i, j]);
  }));
  return pairs;
}

/** [face, track] from [cost, face, track]: the lowest costs first, each once. */
function bestFirst(pairs) {
  const [faces, tracks, chosen] = [new Set(), new Set(), []];
  for (const [, i, j] of pairs.sort((a, b) => a[0] - b[0] || a[1] - b[1] || a[2] - b[2])) {
    if (faces.has(i) || tracks.has(j)) continue;
    faces.add(i);
    tracks.add(j);
    chosen.push([i, j]);
  }
  return chosen;
}

/** Only the older one of tracks that follow the same face. */
function withoutDoubles(tracks) {
  const shown = [];
  return tracks.filter((track) => {
    if (!track.visible) return true;
    if (shown.some((other) => distance(track.face, other.face) <= 0.3)) return false;
    shown.push(track);
    return true;
  });
}
