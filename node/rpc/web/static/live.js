// The node's gapless log, one connection for the whole page.
const KINDS = {
  "coin.accepted": "coin",
  "anchor.connected": "anchor",
  "anchor.disconnected": "anchor",
  "transfer.entered": "transfer",
  "transfer.left": "transfer",
};
const followers = [];
let source = null;

// Calls `act` with the set of kinds that were seen, at most once in so many ms, one call at a time.
export function follow(kinds, act, ms) {
  followers.push({ kinds: new Set(kinds), act, ms, seen: new Set(), timer: null, busy: false });
  if (!source) open();
}

function open() {
  source = new EventSource("/live");
  const state = document.getElementById("live-state");
  source.onopen = () => { state.textContent = "Live"; };
  source.onerror = () => { state.textContent = "The node does not answer; trying again."; };
  for (const name of Object.keys(KINDS)) source.addEventListener(name, () => note(KINDS[name]));
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
  follower.timer = setTimeout(() => run(follower), follower.ms);
}

async function run(follower) {
  follower.timer = null;
  follower.busy = true;
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
