// The page: its tabs, its loading, and what it says where it cannot work.

import { able, engine } from "./engine.js";
import { Mirror } from "./mirror.js";
import { Photo } from "./photo.js";
import { say } from "./view.js";

const tabs = [...document.querySelectorAll("[role=tab]")];
const panels = [...document.querySelectorAll("[role=tabpanel]")];
const mirror = able ? new Mirror(panels[0]) : null;
if (able) new Photo(panels[1], () => open(tabs[1]));

/** Shows a tab's panel; the camera runs only where it is seen. */
function open(tab) {
  tabs.forEach((other, i) => {
    const chosen = other === tab;
    other.setAttribute("aria-selected", String(chosen));
    other.tabIndex = chosen ? 0 : -1;
    panels[i].hidden = !chosen;
  });
  if (tab !== tabs[0]) mirror?.stop();
}

tabs.forEach((tab, i) => {
  tab.onclick = () => open(tab);
  tab.onkeydown = ({ key }) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[key];
    if (!step) return;
    const next = tabs[(i + step + tabs.length) % tabs.length];
    open(next);
    next.focus();
  };
});

/** Where nothing can be answered: one sentence, and no button that leads nowhere. */
function giveUp(sentence) {
  for (const panel of panels) {
    say(panel, sentence);
    panel.querySelector(".primary").disabled = true;
  }
}

if (able) {
  const loading = document.querySelector("#loading");
  loading.hidden = false;
  engine.onprogress = (share) => (document.querySelector("#progress").value = share);
  engine.ready
    .catch((error) => giveUp(`The networks could not be loaded (${error.message}): check the connection, then reload.`))
    .finally(() => (loading.hidden = true));
} else {
  giveUp("This browser lacks WebAssembly or a part that goes with it: update it, or open the page in another one.");
}
