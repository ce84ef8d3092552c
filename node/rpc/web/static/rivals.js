// Two anchors that compete at a moment of a log, side by side, with the difference of their bodies.
import { ask } from "./ask.js";

const LISTS = [["fresh", "fresh coins"], ["uncles", "late and stray coins"], ["transfers", "transfers"]];
const SHOWN = 12;
const AT_REST_MS = 250;

// `bodies` holds what each anchor lists; where it is null, the node is asked once the slider rests.
export function showRivals(place, tree, bodies) {
  const rivals = rivalsOf(tree);
  const told = rivals ? rivals.map((one) => `${one.id} ${one.status} ${one.votes}`).join(" ") : "";
  if (place.dataset.rivals === told) return;
  place.dataset.rivals = told;
  place.hidden = !rivals;
  const show = (known) => place.replaceChildren(
    ...(rivals || []).map((one, at) => panel("AB"[at], one, rivals[1 - at], known)));
  show(bodies);
  if (!rivals || bodies) return;
  setTimeout(async () => {
    if (place.dataset.rivals !== told) return;
    const found = await askForBodies(rivals);
    if (found && place.dataset.rivals === told) show(found);
  }, AT_REST_MS);
}

async function askForBodies([one, other]) {
  const answer = await ask(`/compare.json?one=${one.id}&other=${other.id}`).catch(() => null);
  if (!answer?.ok) return null;
  const told = await answer.json().catch(() => null);
  if (!told) return null;
  const known = [told.one, told.other].filter((anchor) => anchor.state_root !== null);
  return new Map(known.map((anchor) => [anchor.header.id, anchor]));
}

// The two with the most votes at the highest height that has several, near the tip.
function rivalsOf(tree) {
  for (let height = tree.tip.height + 1; height >= tree.tip.height - 1; height--) {
    const row = tree.row(height);
    if (row.length < 2) continue;
    const weight = (one) => (one.status === "main" ? Infinity : one.votes);
    return [...row].sort((one, other) => weight(other) - weight(one)).slice(0, 2);
  }
  return null;
}

function panel(name, anchor, other, bodies) {
  const facts = element("dl", "", "facts");
  fact(facts, "height", anchor.height.toLocaleString("en"));
  fact(facts, "standing", anchor.status === "main" ? "on the main chain" : "on a side branch");
  fact(facts, "votes", anchor.votes.toLocaleString("en"));
  const found = element("section", "", "panel");
  found.setAttribute("aria-label", `Anchor ${name}`);
  found.append(element("h2", `${name}: ${short(anchor.id)}`), facts);
  for (const [list, text] of LISTS) fact(facts, text, bodies ? difference(bodies, list, anchor, other) : "…");
  return found;
}

function difference(bodies, list, anchor, other) {
  if (!bodies.has(anchor.id)) return "its body is unknown";
  const others = new Set(bodies.get(other.id)?.[list] || []);
  const own = bodies.get(anchor.id)[list];
  const alone = own.filter((id) => !others.has(id));
  const named = alone.slice(0, SHOWN).map(short).join(", ");
  const rest = alone.length > SHOWN ? ` and ${alone.length - SHOWN} more` : "";
  return `${own.length}, of which ${alone.length} are listed by it alone${named ? `: ${named}${rest}` : ""}`;
}

function fact(facts, name, text) {
  const row = document.createElement("div");
  row.append(element("dt", name), element("dd", text));
  facts.append(row);
}

function element(kind, text, name = "") {
  const made = document.createElement(kind);
  made.textContent = text;
  if (name) made.className = name;
  return made;
}

function short(id) { return `${id.slice(0, 7)}…${id.slice(-6)}`; }
