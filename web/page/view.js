// What an answer looks like: emoji, word, bars, boxes.

import { settings } from "./settings.js";

/** Emoji, colour and ink of an answer; an answer that is not sure has its own. */
export function look({ label, sure }) {
  return sure ? settings.looks[label] : settings.unsure;
}

/** An HTML element with attributes and children (elements or text). */
export function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

export const percent = (share) => `${Math.round(100 * share)} %`;

/** A sentence, or none, where a panel's messages stand. */
export function say(panel, sentence = "") {
  const place = panel.querySelector(".message");
  place.textContent = sentence;
  place.hidden = !sentence;
}

/** Rows of name, bar and share, made once and changed in place. */
export class Bars {
  constructor(list, names) {
    this.rows = new Map(names.map((name) => [name, this.row(name)]));
    list.replaceChildren(...Array.from(this.rows.values(), ({ item }) => item));
  }

  row(name) {
    const fill = element("span", { class: "fill" });
    const share = element("span", { class: "share" }, "–");
    const track = element("span", { class: "track", "aria-hidden": "true" }, fill);
    fill.style.setProperty("background-color", settings.looks[name].colour);
    const item = element("li", {}, element("span", { class: "name" }, name), track, share);
    return { item, fill, share };
  }

  /** @param {[string, number][]} probs  none: nobody is there */
  show(probs) {
    const shares = new Map(probs);
    for (const [name, { item, fill, share }] of this.rows) {
      const value = shares.get(name);
      fill.style.setProperty("transform", `scaleX(${value ?? 0})`);
      share.textContent = value === undefined ? "–" : percent(value);
      item.classList.toggle("most", name === probs[0]?.[0]);
    }
  }
}

/** The emoji, the word and the line below it. */
export function showWord(place, face) {
  const { emoji } = look(face);
  const picture = place.querySelector(".emoji");
  if (picture.textContent !== emoji) {
    picture.textContent = emoji;
    picture.setAttribute("aria-label", face.label);
    place.querySelector(".word").textContent = face.label;
  }
  place.querySelector(".hint").textContent = hint(face);
}

/** How much of an answer it is, or why it is none. */
export function hint({ probs, sure }) {
  return sure ? percent(probs[0][1]) : settings.notSureWords;
}

/** A card of one face in a photo. */
export function faceCard(face, number) {
  const { emoji } = look(face);
  const list = element("ul", { class: "bars" });
  const shown = face.probs.slice(0, 4);
  new Bars(list, shown.map(([name]) => name)).show(shown);
  return element("li", { class: "card" },
    element("span", { class: "number" }, String(number)),
    element("span", { class: "emoji", role: "img", "aria-label": face.label }, emoji),
    element("div", { class: "words" },
      element("h2", { class: "word" }, face.label),
      element("p", { class: "hint" }, hint(face))),
    list);
}

/**
 * Boxes over a picture, in shares of its size, so that they fit at any width.
 * @param {{width: number, height: number, faces: object[]}} answer
 */
export function showBoxes(layer, { width, height, faces }, { mirrored = false, numbers = false }) {
  while (layer.children.length > faces.length) layer.lastChild.remove();
  while (layer.children.length < faces.length) layer.append(element("div", {}, element("span")));
  faces.forEach((face, i) => {
    const [x, y, w, h] = face.box;
    const { colour, ink } = look(face);
    const box = layer.children[i];
    const left = mirrored ? width - x - w : x;
    box.className = "box";
    box.classList.toggle("unsure", !face.sure);
    box.classList.toggle("right", left + w / 2 > 0.6 * width); // so that its word is not cut off
    box.classList.toggle("high", y < 0.12 * height);
    const place = { left: left / width, top: y / height, width: w / width, height: h / height };
    for (const [side, share] of Object.entries(place)) box.style[side] = `${100 * share}%`;
    box.style.setProperty("--colour", colour);
    box.style.setProperty("--ink", ink);
    box.firstChild.textContent = numbers ? `${i + 1} ${face.label}` : face.label;
  });
}
