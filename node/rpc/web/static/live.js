// The node's gapless log, one connection for the whole page.
const KINDS = {
  "coin.accepted": "coin",
  "anchor.connected": "anchor",
  "anchor.disconnected": "anchor",
  "transfer.entered": "transfer",
  "transfer.left": "transfer",
};
const followers = [];
const listeners = [];
let source = null;

// Calls `act` with the set of kinds that were seen: `wait` ms after the first, at most once in `every`
// ms, one call at a time.
export function follow(kinds, act, every, wait) {
  followers.push({ kinds: new Set(kinds), act, every, wait, seen: new Set(), timer: null, busy: false, last: -Infinity });
  if (!source) open();
}

// Calls `act` with what each event of a name says, as it comes.
export function listen(name, act) {
  listeners.push([name, act]);
  if (source) attach(name, act);
  else open();
}

function attach(name, act) {
  source.addEventListener(name, (event) => act(JSON.parse(event.data)));
}

function open() {
  source = new EventSource("/live");
  const state = document.getElementById("live-state");
  source.onopen = () => { state.textContent = "Live"; };
  source.onerror = () => { state.textContent = "The node does not answer; trying again."; };
  for (const name of Object.keys(KINDS)) source.addEventListener(name, () => note(KINDS[name]));
  for (const [name, act] of listeners) attach(name, act);
}

function note(kind) {
  for (const follower of followers) {
    if (!follower.kinds.has(kind)) continue;
    follower.seen.add(kind);
    plan(follower);
  }
}

function plan(follower) {
  if (follower.timer !== null || follower.busy || document.hidden) return;
  const due = follower.last + follower.every - performance.now();
  follower.timer = setTimeout(() => run(follower), Math.max(follower.wait, due));
}

async function run(follower) {
  follower.timer = null;
  follower.busy = true;
  follower.last = performance.now();
  const seen = follower.seen;
  follower.seen = new Set();
  try {
    await follower.act(seen);
  } catch {
    // The node is away for a moment: the next event tries again.
  }
  follower.busy = false;
  if (follower.seen.size) plan(follower);
}

document.addEventListener("visibilitychange", () => {
  for (const follower of followers) if (follower.seen.size) plan(follower);
});
