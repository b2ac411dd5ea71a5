// What every page does: ages that stay true, copying, small forms that open and close.
const { units: unitTexts, ago } = document.body.dataset;
const units = unitTexts.split("|");
const STEPS = [[60, 1], [3600, 60], [86400, 3600], [Infinity, 86400]];

/** How long ago, in the words of the page's language. */
function ageOf(moment) {
  const seconds = Math.max(0, (Date.now() - moment) / 1000);
  const step = STEPS.findIndex(([limit]) => seconds < limit);
  return units[step].replace("{number}", Math.floor(seconds / STEPS[step][1]));
}

export function showAges(root = document) {
  for (const one of root.querySelectorAll("time[data-age]")) {
    const age = ageOf(Date.parse(one.dateTime));
    const text = one.dataset.age === "ago" ? ago.replace("{time}", age) : age;
    if (one.textContent !== text) one.textContent = text;
  }
}

async function copy(button) {
  try {
    await navigator.clipboard.writeText(button.dataset.copy);
  } catch { // no clipboard without HTTPS: select the text instead
    getSelection().selectAllChildren(button.previousElementSibling);
    return;
  }
  button.classList.add("copied");
  setTimeout(() => button.classList.remove("copied"), 1500);
}

const panels = "details.action[open], details.menu[open]";

function close(panel) {
  panel.open = false;
  panel.querySelector("summary").focus();
}

document.addEventListener("click", (event) => {
  const button = event.target.closest("[data-copy]");
  if (button) copy(button);
  const closing = event.target.closest("[data-closes]");
  if (closing) close(closing.closest("details"));
  for (const panel of document.querySelectorAll(panels)) if (!panel.contains(event.target)) panel.open = false;
});
document.addEventListener("keydown", (event) => {
  if (event.key !== "Escape") return;
  const panel = document.querySelector(panels);
  if (panel) close(panel);
});
document.addEventListener("toggle", (event) => { // a panel that would leave the window opens to the other side
  const panel = event.target.matches?.("details.action[open]") && event.target.querySelector(".panel");
  if (!panel) return;
  panel.classList.toggle("leftward", panel.getBoundingClientRect().right > document.documentElement.clientWidth - 8);
  panel.querySelector("input:not([type=hidden]), select, textarea")?.focus();
}, true);
document.addEventListener("change", (event) => { // filters apply at once; without script there is a button
  if (event.target.matches("form[data-submits] select")) event.target.form.requestSubmit();
});

document.querySelector(".top nav [aria-current]")?.scrollIntoView({ block: "nearest", inline: "center" });
showAges();
setInterval(showAges, 5000);
