// A photo: chosen, dropped or pasted; every face in it with its answer.

import { engine } from "./engine.js";
import { faceCard, say, showBoxes } from "./view.js";

export class Photo {
  constructor(panel, open) {
    this.panel = panel;
    this.open = open; // shows this panel
    this.picture = panel.querySelector("img");
    this.input = panel.querySelector("input");
    this.summary = panel.querySelector(".summary");
    this.cards = panel.querySelector(".cards");
    this.layer = panel.querySelector(".boxes");
    this.given = 0;
    for (const name of ["#choose", "#another"]) {
      panel.querySelector(name).onclick = () => this.input.click();
    }
    this.input.onchange = () => {
      this.take(this.input.files);
      this.input.value = ""; // the same file may be chosen again
    };
    this.listen();
  }

  /** Drops and pastes count anywhere on the page. */
  listen() {
    const stage = this.panel.querySelector(".stage");
    const over = (on) => stage.classList.toggle("over", on);
    document.addEventListener("dragover", (event) => {
      event.preventDefault(); // else the browser leaves the page for the file
      over(true);
    });
    document.addEventListener("dragleave", () => over(false));
    document.addEventListener("drop", (event) => {
      event.preventDefault();
      over(false);
      this.take(event.dataTransfer.files);
    });
    document.addEventListener("paste", (event) => this.take(event.clipboardData.files));
  }

  /** @param {FileList} files  the first of them is answered */
  async take(files) {
    if (!files.length) return;
    this.open();
    const [file] = files;
    const number = (this.given += 1);
    this.clear(file);
    try {
      const answer = await engine.ask("photo", { file });
      if (number === this.given) this.show(answer);
    } catch (error) {
      if (number === this.given) this.fail(file, error);
    }
  }

  clear(file) {
    say(this.panel);
    URL.revokeObjectURL(this.picture.src);
    this.picture.src = URL.createObjectURL(file);
    this.picture.alt = "Your photo";
    this.cards.replaceChildren();
    showBoxes(this.layer, { faces: [] }, {});
    this.summary.textContent = "Looking for faces…";
    this.layout(true);
  }

  layout(given) {
    this.panel.querySelector(".frame").hidden = !given;
    this.panel.querySelector(".invitation").hidden = given;
    this.panel.querySelector("#another").hidden = !given;
  }

  show(answer) {
    const { faces } = answer;
    showBoxes(this.layer, answer, { numbers: true });
    this.cards.replaceChildren(...faces.map((face, i) => faceCard(face, i + 1)));
    const count = faces.length === 1 ? "One face" : `${faces.length} faces`;
    this.picture.alt = `Your photo: ${faces.map((face) => face.label).join(", ") || "no face"}`;
    this.summary.textContent = faces.length
      ? `${count}: ${faces.map((face) => face.label).join(", ")}`
      : "No face was found: give a photo in which a face is larger and not covered.";
  }

  fail(file, error) {
    this.layout(false);
    this.summary.textContent = "Every face in the photo gets an answer.";
    const reason = error.message === "broken"
      ? `${file.name} is no picture that this browser can read: give JPEG, PNG or WebP.`
      : `${file.name} could not be answered (${error.message}): reload the page and try again.`;
    say(this.panel, reason);
  }
}
