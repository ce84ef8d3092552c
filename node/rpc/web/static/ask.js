// What the page asks the node for. A request that stays unanswered would hold whoever waits for it
// for good, and the page with it: it fails after a while, as one does that finds no node.
const PATIENCE_MS = 30000;

// Returns what `fetch` does.
export function ask(address, options = {}) {
  return fetch(address, { ...options, signal: AbortSignal.timeout(PATIENCE_MS) });
}
