// What the rest of the page sees of the worker: questions in, promises out.

/** Whether this browser has what the page computes with. */
export const able = ["WebAssembly", "Worker", "OffscreenCanvas", "DecompressionStream",
  "createImageBitmap"].every((name) => name in globalThis);

class Engine {
  constructor() {
    this.waiting = new Map();
    this.count = 0;
    /** @type {(share: number) => void} */
    this.onprogress = () => {};
    // By a blob, so that the worker is under this page's Content-Security-Policy, and can send
    // nothing anywhere either; one that is fetched by its address would be under none.
    const address = new URL("./worker.js", import.meta.url).href;
    const source = new Blob([`import ${JSON.stringify(address)};`], { type: "text/javascript" });
    this.worker = new Worker(URL.createObjectURL(source), { type: "module" });
    this.ready = new Promise((resolve, reject) => {
      this.worker.onerror = (event) => reject(new Error(event.message || "worker"));
      this.worker.onmessage = ({ data }) => {
        if (data.progress) this.onprogress(data.progress);
        else if (data.ready) resolve(true);
        else if (data.failed) reject(new Error(data.failed));
        else this.settle(data);
      };
    });
    this.ready.catch(() => {}); // whoever waits for it hears of it
  }

  settle({ id, answer, error }) {
    const { resolve, reject } = this.waiting.get(id);
    this.waiting.delete(id);
    if (error) reject(new Error(error));
    else resolve(answer);
  }

  /**
   * @param {"photo"|"frame"|"restart"} kind  see worker.js
   * @returns {Promise<{width: number, height: number, faces: object[]}>}
   */
  async ask(kind, data = {}, transfer = []) {
    await this.ready;
    const id = (this.count += 1);
    return new Promise((resolve, reject) => {
      this.waiting.set(id, { resolve, reject });
      this.worker.postMessage({ id, kind, ...data }, transfer);
    });
  }
}

export const engine = able ? new Engine() : null;
