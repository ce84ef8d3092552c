// The anchor tree as the node has it: only what is looked at is asked for.
import { ask } from "./ask.js";

const CHUNK = 64;
const CHUNKS_KEPT = 192;
// How often some more heights than the last are asked for while news goes on.
const WHOLE_EVERY_MS = 3000;
// How far below the tip a coin is looked for that the log tells of.
const TOLD_BELOW = 8;

// Anchors by height, as the node has them: asked for in pieces, kept while they are looked at.
export class NodeTree {
  #chunks = new Map();
  #rows = new Map();
  #loading = false;
  #whole = -Infinity;
  tip = { height: 0, id: "" };
  top = 0;
  lowest = 0;

  row(height) { return this.#rows.get(height) || []; }

  // Makes sure that heights are there; returns whether anything was loaded. One load at a time: who
  // scrolls past many heights asks for those where the view is when the last load has ended.
  async load(first, last) {
    if (this.#loading) return false;
    const wanted = [];
    for (let at = Math.floor(Math.max(0, first) / CHUNK); at <= Math.floor(Math.max(0, last) / CHUNK); at++) {
      const kept = this.#chunks.get(at);
      if (kept) { this.#chunks.delete(at); this.#chunks.set(at, kept); } else if (at * CHUNK <= this.top) wanted.push(at);
    }
    this.#loading = true;
    try {
      for (const at of wanted) {
        await this.#ask(`?first=${at * CHUNK}&last=${at * CHUNK + CHUNK - 1}`);
        this.#chunks.set(at, true);
      }
    } finally {
      this.#loading = false;
    }
    for (const at of [...this.#chunks.keys()].slice(0, Math.max(0, this.#chunks.size - CHUNKS_KEPT))) {
      if (at < Math.floor(this.tip.height / CHUNK) - 1) this.#forget(at);
    }
    return wanted.length > 0;
  }

  #forget(at) {
    this.#chunks.delete(at);
    for (let height = at * CHUNK; height < (at + 1) * CHUNK; height++) this.#rows.delete(height);
  }

  // Whether it is time to ask for some more than the last heights.
  get due() { return performance.now() - this.#whole > WHOLE_EVERY_MS; }

  // Asks anew for what may have changed: the last heights, which are all that a coin or an anchor
  // touches as a rule, or some more. What is kept of others goes where they do not join on. Returns
  // whether some more were asked for.
  async refresh(whole = false) {
    const before = this.tip.height;
    const some = whole || before < 3;
    const { first, last } = await this.#ask(some ? "" : `?first=${before - 3}&last=${before + CHUNK}`);
    if (some) this.#whole = performance.now();
    const main = (height) => this.row(height).find((anchor) => anchor.status === "main");
    const [lowest, below] = [main(first), main(first - 1)];
    if (first > before + 1 || this.tip.height > last || (lowest && below && lowest.parent !== below.id)) {
      for (const at of this.#chunks.keys()) this.#forget(at);
      for (const height of this.#rows.keys()) if (height < first) this.#rows.delete(height);
      await this.#ask("");
    }
    return some;
  }

  // Adds a coin that the log tells of to its anchor, where that is one of the last heights; returns
  // whether it was news. What the node then says of it takes its place.
  add({ coin: id, parent, time }) {
    let anchor = null;
    for (let height = this.top; parent && !anchor && height >= this.tip.height - TOLD_BELOW; height--) {
      anchor = this.row(height).find((one) => one.id === parent);
    }
    if (!anchor || anchor.coins.some((coin) => coin.id === id)) return false;
    const now = performance.now();
    anchor.coins.push({ id, time, luck: luckOf(id, anchor.work), kind: "candidate", since: now, told: now });
    anchor.votes += 1;
    return true;
  }

  async #ask(heights) {
    const asked = performance.now();
    const answer = await ask(`/tree.json${heights}`);
    if (!answer.ok) throw new Error(`tree: ${answer.status}`);
    const { tree } = await answer.json();
    this.tip = { height: tree.height, id: tree.tip };
    const now = performance.now();
    const rows = new Map();
    for (const anchor of tree.anchors) {
      if (!rows.has(anchor.height)) rows.set(anchor.height, []);
      rows.get(anchor.height).push(anchor);
    }
    for (const [height, anchors] of rows) {
      const known = new Map(this.row(height).map((anchor) => [anchor.id, anchor]));
      for (const anchor of anchors) {
        const before = known.get(anchor.id);
        anchor.since = before ? before.since : now;
        const coins = before && new Map(before.coins.map((coin) => [coin.id, coin.since]));
        for (const coin of anchor.coins) coin.since = (coins && coins.get(coin.id)) ?? now;
        // The node had not heard of these when it was asked.
        const ids = new Set(anchor.coins.map((coin) => coin.id));
        for (const coin of before ? before.coins : []) {
          if (coin.told >= asked && !ids.has(coin.id)) { anchor.coins.push(coin); anchor.votes += 1; }
        }
      }
      this.#rows.set(height, anchors);
    }
    this.top = Math.max(tree.last, tree.height, heights ? this.top : 0);
    placeLanes(this, tree.first, tree.last);
    return tree;
  }
}

// Gives each anchor beside the main chain a lane, the same as its parent's where that is beside too;
// above the last height as far as that moves any.
export function placeLanes(tree, first, last) {
  let moved = true;
  for (let height = first; height <= last || (moved && tree.row(height).length); height++) {
    const before = tree.row(height).map((anchor) => anchor.lane);
    const below = new Map(tree.row(height - 1).map((anchor) => [anchor.id, anchor]));
    const taken = new Set([0]);
    const rest = [];
    for (const anchor of tree.row(height)) {
      const parent = below.get(anchor.parent);
      if (anchor.status === "main") anchor.lane = 0;
      else if (parent && parent.lane && !taken.has(parent.lane)) taken.add(anchor.lane = parent.lane);
      else rest.push(anchor);
    }
    for (const anchor of rest) {
      let lane = 1;
      while (taken.has(lane)) lane = lane > 0 ? -lane : 1 - lane;
      taken.add(anchor.lane = lane);
    }
    moved = tree.row(height).some((anchor, at) => anchor.lane !== before[at]);
  }
}

// How many times luckier a coin is than one that just meets the target of so much work.
function luckOf(id, work) {
  const hashes = (1n << 256n) / (BigInt(`0x${id}`) + 1n);
  return Number((1000n * hashes) / BigInt(work)) / 1000;
}
