// Keeps the page live: what the log tells is asked for anew and put in place of what stands there.
import { ask } from "./ask.js";
import { follow, listen } from "./live.js";

const main = document.getElementById("main");
document.documentElement.classList.add("live");

// "/" leads to the search, as on many sites; not while somebody types.
document.addEventListener("keydown", (event) => {
  const typing = event.target.closest("input, textarea, select, [contenteditable]");
  if (event.key === "/" && !typing && !event.ctrlKey && !event.metaKey && !event.altKey) {
    event.preventDefault();
    document.getElementById("search").focus();
  }
});

const parts = [...main.querySelectorAll("[data-live]")];
const canvas = document.getElementById("tree-canvas");
if (canvas) {
  const { TreeView } = await import("./tree.js");
  const view = new TreeView(canvas);
  canvas.addEventListener("choose", ({ detail: { anchor, coin } }) => {
    location.href = coin ? `/coin/${coin.id}` : `/anchor/${anchor.id}`;
  });
  listen("coin.accepted", (told) => view.tell(told));
  follow(["coin", "anchor"], () => view.refresh(), 40, 0);
}
const replay = document.getElementById("replay");
if (replay) {
  const { Replay } = await import("./replay.js");
  new Replay(replay);
}
if (parts.length) {
  const kinds = new Set(parts.flatMap((part) => part.dataset.live.split(" ")));
  follow([...kinds], (seen) => replace(parts.filter((part) => part.checkVisibility() && concerns(part, seen))), 700, 100);
  // What cannot be seen is not kept up to date; what was closed is brought up to date as it opens.
  for (const closed of new Set(parts.map((part) => part.closest("details")).filter((one) => one))) {
    closed.addEventListener("toggle", () => replace(parts.filter((part) => closed.open && closed.contains(part))).catch(() => {}));
  }
}

function concerns(part, seen) { return part.dataset.live.split(" ").some((kind) => seen.has(kind)); }

// Asks for parts of the page anew, and for no others.
async function replace(wanted) {
  if (!wanted.length) return;
  const address = new URL(location.href);
  address.searchParams.set("parts", wanted.map((part) => part.id).join(" "));
  const answer = await ask(address, { headers: { accept: "text/html" } });
  if (!answer.ok) return;
  const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
  for (const part of wanted) {
    const other = fresh.getElementById(part.id);
    if (!other || other.isEqualNode(part) || part.contains(document.activeElement)) continue;
    part.replaceChildren(...other.childNodes);
  }
}

// Ages grow between two events too.
setInterval(() => {
  if (document.hidden) return;
  for (const time of main.querySelectorAll("time[data-ms]")) {
    const text = `${age(Date.now() - Number(time.dataset.ms))} ago`;
    if (time.textContent !== text) time.textContent = text;
  }
}, 1000);

function age(ms) {
  let rest = Math.max(0, Math.floor(ms));
  if (rest < 1000) return `${rest} ms`;
  if (rest < 10000) return `${(rest / 1000).toFixed(1)} s`;
  const found = [];
  for (const [unit, size] of [["d", 86400000], ["h", 3600000], ["min", 60000], ["s", 1000]]) {
    const count = Math.floor(rest / size);
    rest -= count * size;
    if (count || found.length) found.push([count, unit]);
    if (found.length === 2) break;
  }
  return found.filter(([count]) => count).map(([count, unit]) => `${count} ${unit}`).join(" ");
}
