"use strict";
// Fetches the page again and replaces its <main>, so that scrolling and focus outside of it stay.
const main = document.querySelector("main[data-refresh-seconds]");
if (main) {
  const refresh = async () => {
    if (document.hidden) return;
    try {
      const answer = await fetch(location.href);
      const page = new DOMParser().parseFromString(await answer.text(), "text/html");
      const fresh = page.querySelector("main");
      if (answer.ok && fresh) main.replaceChildren(...fresh.childNodes);
      main.classList.toggle("stale", !answer.ok);
    } catch {
      main.classList.add("stale");
    }
  };
  setInterval(refresh, 1000 * Number(main.dataset.refreshSeconds));
}
