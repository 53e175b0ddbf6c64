// The mirror: the camera, and what the largest face shows, many times a second.

import { engine } from "./engine.js";
import { settings } from "./settings.js";
import { Bars, look, percent, say, showBoxes, showWord } from "./view.js";

const ANNOUNCED = 2000; // milliseconds between two answers that a screen reader hears
const REASONS = {
  NotAllowedError: "The camera is blocked: allow it for this page beside the address, then start again.",
  NotFoundError: "No camera was found: connect one and start again, or give a photo.",
  NotReadableError: "The camera is busy: close the program that uses it, then start again.",
  insecure: "Browsers give the camera to https pages and localhost only: open this page by https, or give a photo.",
  ended: "The camera was switched off: connect it, then start again.",
};

export class Mirror {
  constructor(panel) {
    this.panel = panel;
    this.video = panel.querySelector("video");
    this.bars = new Bars(panel.querySelector(".bars"), settings.card.classNames);
    this.word = panel.querySelector(".answer");
    this.layer = panel.querySelector(".boxes");
    this.live = panel.querySelector("[aria-live]");
    this.announced = -Infinity;
    this.stream = null;
    panel.querySelector("#start").onclick = () => this.start();
    panel.querySelector("#stop").onclick = () => this.stop();
  }

  async start() {
    say(this.panel);
    try {
      if (!navigator.mediaDevices) throw Object.assign(new Error(), { name: "insecure" });
      const size = { width: { ideal: 640 }, height: { ideal: 480 } };
      const video = { ...size, facingMode: "user", frameRate: { ideal: 30 } };
      this.stream = await navigator.mediaDevices.getUserMedia({ video, audio: false });
    } catch (error) {
      say(this.panel, REASONS[error.name] ?? `The camera cannot be used (${error.name}): try another browser, or give a photo.`);
      return;
    }
    this.stream.getVideoTracks()[0].onended = () => this.stop(REASONS.ended);
    this.video.srcObject = this.stream;
    await this.video.play();
    this.layout(true);
    this.panel.querySelector("#stop").focus();
    this.nobody("Looking for a face…");
    await this.watch().catch((error) =>
      this.stop(`The mirror stopped (${error.message}): reload the page and start again.`));
  }

  stop(reason = "") {
    if (!this.stream) return;
    for (const track of this.stream.getTracks()) track.stop();
    this.stream = this.video.srcObject = null;
    this.layout(false);
    this.nobody("Start the camera and look into it.");
    say(this.panel, reason);
    if (!this.panel.hidden) this.panel.querySelector("#start").focus();
  }

  layout(running) {
    this.panel.querySelector(".frame").hidden = !running;
    this.panel.querySelector(".invitation").hidden = running;
    this.panel.querySelector("#stop").hidden = !running;
  }

  /** Asks for one frame after the other, the newest each time, until the camera stops. */
  async watch() {
    const { stream } = this;
    await engine.ask("restart");
    const frames = newest(this.video);
    while (this.stream === stream) {
      await frames.next();
      if (this.stream !== stream) break;
      const bitmap = await createImageBitmap(this.video);
      const seconds = performance.now() / 1000;
      const answer = await engine.ask("frame", { bitmap, seconds }, [bitmap]);
      if (this.stream === stream) this.show(answer);
    }
    frames.stop();
  }

  show(answer) {
    showBoxes(this.layer, answer, { mirrored: true });
    const [face] = answer.faces;
    if (!face) {
      this.nobody("No face is seen: come closer, or into more light.");
      return;
    }
    showWord(this.word, face);
    this.word.style.setProperty("--colour", look(face).colour);
    this.bars.show(face.probs);
    this.announce(face.sure ? `${face.label}, ${percent(face.probs[0][1])}` : face.label, face.label);
  }

  nobody(hint) {
    showBoxes(this.layer, { faces: [] }, {});
    this.word.querySelector(".emoji").textContent = "🙂";
    this.word.querySelector(".emoji").setAttribute("aria-label", "nobody yet");
    this.word.querySelector(".word").textContent = "Nobody yet";
    this.word.querySelector(".hint").textContent = hint;
    this.word.style.removeProperty("--colour");
    this.bars.show([]);
  }

  /** To a screen reader, a new answer, and not too often. */
  announce(sentence, label) {
    const now = performance.now();
    if (label === this.label || now - this.announced < ANNOUNCED) return;
    [this.label, this.announced] = [label, now];
    this.live.textContent = sentence;
  }
}

/** Waits for a frame that was not answered yet; one that came in between is there at once. */
function newest(video) {
  const able = "requestVideoFrameCallback" in video;
  const ask = (call) =>
    able ? video.requestVideoFrameCallback(call) : requestAnimationFrame(call);
  let [fresh, running, waiting] = [false, true, null];
  const came = () => {
    fresh = true;
    waiting?.();
    if (running) ask(came);
  };
  ask(came);
  return {
    async next() {
      if (!fresh) await new Promise((resolve) => (waiting = resolve));
      [fresh, waiting] = [false, null];
    },
    stop() {
      running = false;
    },
  };
}
