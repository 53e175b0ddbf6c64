// What the demo's page does in the browser: says why there is no camera, the large layout for a
// projector, the way to an answer on a phone, and names for pictures that gradio leaves without.
(() => {
  // --- the camera: why there is none, in a sentence ---
  const REASONS = {
    insecure: "There is no camera here: browsers give it only to pages opened by https or at " +
      "localhost. Start the demo with --self-signed or --share (python demo.py --help).",
    NotAllowedError: "The camera was refused. Allow it for this page beside the browser's " +
      "address bar, then try again.",
    NotFoundError: "No camera was found on this device. The other tabs work without one.",
    NotReadableError: "The camera is in use by another program. Close it there, then try again.",
  };
  const tellCamera = text => {
    for (const note of document.querySelectorAll(".camera-note")) note.textContent = text;
  };
  const devices = navigator.mediaDevices;
  const ask = devices?.getUserMedia?.bind(devices);
  const asked = async constraints => {
    try {
      if (!ask) throw new DOMException("", "insecure");
      const stream = await ask(constraints);
      tellCamera("");
      return stream;
    } catch (error) {
      tellCamera(REASONS[error.name] ?? `The camera does not start (${error.name}).`);
      throw error;
    }
  };
  if (devices) devices.getUserMedia = asked;
  else Object.defineProperty(navigator, "mediaDevices", {
    value: {getUserMedia: asked, enumerateDevices: async () => []},
  });

  // --- the large layout: ?present in the address, or its button; Escape leaves it ---
  const root = document.documentElement;
  const present = on => {
    root.classList.toggle("present", on);
    const address = new URL(location);
    if (on) address.searchParams.set("present", "1");
    else address.searchParams.delete("present");
    history.replaceState(history.state, "", address);
    for (const button of document.querySelectorAll(".present-toggle"))
      button.setAttribute("aria-pressed", String(on));
  };
  document.addEventListener("click", event => {
    if (event.target.closest?.(".present-toggle")) present(!root.classList.contains("present"));
  });
  document.addEventListener("keydown", event => {
    if (event.key === "Escape" && root.classList.contains("present")) present(false);
  });
  let wanted = new URLSearchParams(location.search).has("present");

  // --- on a phone the answer is scrolled to, once it stands there ---
  window.showAnswer = () => setTimeout(() => {
    const answer = document.querySelector(".photo-parts > .answer");
    const told = answer?.querySelector(".face, .told");
    if (!told || !matchMedia("(max-width: 767px)").matches) return;
    const calm = matchMedia("(prefers-reduced-motion: reduce)").matches;
    answer.scrollIntoView({behavior: calm ? "auto" : "smooth", block: "start"});
  }, 150);

  // --- names for screen readers ---
  const PICTURES = {
    ".photo-parts > .photo img": "What was given",
    ".drawn img": "The photo with a box and a name at every face",
    ".maps img": "A face; warm colours mark where the network looked",
    ".timeline img": "Expressions over the seconds of the video; the CSV table has the numbers",
  };
  const nameThings = () => {
    for (const [place, words] of Object.entries(PICTURES))
      for (const image of document.querySelectorAll(place)) if (!image.alt) image.alt = words;
    for (const link of document.querySelectorAll("a.download-link:not([aria-label])"))
      link.setAttribute("aria-label", "Download");
    if (!wanted) return;
    const tab = [...document.querySelectorAll("[role=tab]")].find(t => t.innerText === "Mirror");
    if (!tab) return;
    wanted = false;
    tab.click();
    present(true);
  };
  new MutationObserver(nameThings).observe(root, {subtree: true, childList: true});
})();
