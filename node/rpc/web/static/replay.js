// Plays a log of events on the tree: that of the node, or of one node of a recorded simulation.
import { ask } from "./ask.js";
import { placeLanes } from "./node_tree.js";
import { TreeView } from "./tree.js";
import { showRivals } from "./rivals.js";

const PAGE = 4096;
const EVENTS_MAX = 120000;
const HEIGHTS = 128;
const FILE_MAX = 256 * 1024 * 1024;

// A tree as it was at one moment of a log: each event is done and undone exactly.
class PlayedTree {
  #anchors; #coins; #events; #rows = new Map(); #views = new Map(); #main = [];
  position = 0;
  tip = { height: 0, id: "" };
  top = 0;
  lowest = Infinity;

  constructor(anchors, coins, events) {
    this.#anchors = anchors;
    this.#coins = coins;
    this.#events = events;
    const later = new Set(events.filter((one) => one.kind === "coin").map((one) => one.id));
    const connected = new Set(events.filter((one) => one.kind === "connected").map((one) => one.id));
    const ended = new Map();
    for (const one of events) if (one.kind === "connected" || one.kind === "disconnected") if (!ended.has(one.id)) ended.set(one.id, one.kind);
    for (const anchor of [...anchors.values()].sort((one, other) => one.height - other.height)) {
      if (later.has(anchor.id)) continue;
      this.#addAnchor(anchor);
      // What the log connects first was beside before; what it disconnects first was on the chain.
      const was = ended.get(anchor.id) === "disconnected" || (!connected.has(anchor.id) && anchor.status === "main");
      if (was) this.#connect(anchor.id);
    }
    for (const coin of coins.values()) if (!later.has(coin.id) && !anchors.has(coin.id)) this.#addCoin(coin);
    placeLanes(this, this.lowest, this.top);
  }

  get length() { return this.#events.length; }
  row(height) { return this.#rows.get(height) || []; }
  async load() { return false; }
  async refresh() { return true; }
  event(at) { return this.#events[at]; }

  seek(position) {
    let lowest = Infinity;
    while (this.position < position) lowest = Math.min(lowest, this.#do(this.#events[this.position++]));
    while (this.position > position) lowest = Math.min(lowest, this.#undo(this.#events[--this.position]));
    if (lowest < Infinity) placeLanes(this, Math.max(this.lowest, lowest), this.top);
  }

  #do(event) {
    if (event.kind === "coin") return this.#add(event.id);
    if (event.kind === "connected") return this.#connect(event.id);
    if (event.kind === "disconnected") return this.#disconnect(event.id);
    return Infinity;
  }

  #undo(event) {
    if (event.kind === "coin") return this.#remove(event.id);
    if (event.kind === "connected") return this.#disconnect(event.id);
    if (event.kind === "disconnected") return this.#connect(event.id);
    return Infinity;
  }

  #add(id) {
    const anchor = this.#anchors.get(id);
    const coin = this.#coins.get(id);
    if (coin) this.#addCoin(coin);
    return anchor ? this.#addAnchor(anchor) : Infinity;
  }

  #remove(id) {
    const coin = this.#coins.get(id);
    const parent = coin && this.#views.get(coin.parent);
    if (parent) {
      parent.coins = parent.coins.filter((one) => one.id !== id);
      parent.votes = parent.coins.length;
    }
    const view = this.#views.get(id);
    if (!view) return Infinity;
    this.#views.delete(id);
    this.#rows.set(view.height, this.row(view.height).filter((one) => one.id !== id));
    return view.height;
  }

  #addCoin(coin) {
    const parent = this.#views.get(coin.parent);
    if (!parent || parent.coins.some((one) => one.id === coin.id)) return;
    parent.coins = [...parent.coins, { ...coin, since: performance.now() }];
    parent.votes = parent.coins.length;
  }

  #addAnchor(anchor) {
    if (this.#views.has(anchor.id)) return Infinity;
    const view = { ...anchor, coins: [], votes: 0, status: "side", lane: 1, since: performance.now() };
    this.#views.set(anchor.id, view);
    this.#rows.set(anchor.height, [...this.row(anchor.height), view]);
    this.top = Math.max(this.top, anchor.height);
    this.lowest = Math.min(this.lowest, anchor.height);
    return anchor.height;
  }

  #connect(id) {
    const view = this.#views.get(id);
    if (!view) return Infinity;
    view.status = "main";
    this.#main.push(id);
    this.tip = { height: view.height, id };
    return view.height;
  }

  #disconnect(id) {
    const view = this.#views.get(id);
    if (!view) return Infinity;
    view.status = "side";
    this.#main.pop();
    const parent = this.#views.get(view.parent);
    this.tip = parent ? { height: parent.height, id: parent.id } : { height: Math.max(0, view.height - 1), id: "" };
    return view.height;
  }
}

const KINDS = { "coin.accepted": "coin", "anchor.connected": "connected", "anchor.disconnected": "disconnected" };

async function read(path) {
  const answer = await ask(path);
  if (!answer.ok) throw new Error(`The node does not give ${path} (${answer.status}).`);
  return answer.json();
}

// The node's own log, back to MAX_REORG anchors.
async function nodeLog(last, depth) {
  let events = [];
  let since = last;
  let lowest = Infinity;
  let top = -1;
  while (since > 0 && events.length < EVENTS_MAX && top - lowest < depth) {
    const from = Math.max(0, since - PAGE);
    const { log } = await read(`/replay.json?since=${from}&limit=${since - from}`);
    for (const one of log.events) {
      if (one.height === null) continue;
      lowest = Math.min(lowest, one.height);
      top = Math.max(top, one.height);
    }
    events = [...log.events, ...events];
    since = from;
  }
  const anchors = new Map();
  const coins = new Map();
  for (let height = Math.max(0, (lowest === Infinity ? 0 : lowest) - 1); height <= top; height += HEIGHTS) {
    const { tree } = await read(`/tree.json?first=${height}&last=${height + HEIGHTS - 1}`);
    for (const anchor of tree.anchors) {
      anchors.set(anchor.id, anchor);
      for (const coin of anchor.coins) coins.set(coin.id, { ...coin, parent: anchor.id });
    }
  }
  const played = events.map((one) => ({ ...one, kind: KINDS[one.kind] || one.kind, said: one.kind }));
  return new PlayedTree(anchors, coins, played);
}

// What one node of a recorded simulation saw; throws, in one line, for what is no recording.
export function recordedLog(recording, name) {
  const anchors = new Map();
  const coins = new Map();
  const kinds = new Map();
  for (const body of recording.bodies) {
    for (const id of body.fresh) kinds.set(id, "fresh");
    for (const id of body.uncles) if (!kinds.has(id)) kinds.set(id, "late");
  }
  for (const coin of recording.coins) {
    const luck = Number((BigInt(`0x${coin.target}`) + 1n) * 1000n / (BigInt(`0x${coin.id}`) + 1n)) / 1000;
    const kind = coin.is_anchor ? "anchor" : kinds.get(coin.id) || "candidate";
    coins.set(coin.id, { id: coin.id, parent: coin.parent, time: coin.time, luck, kind });
  }
  const genesis = recording.network.genesis;
  anchors.set(genesis, { id: genesis, parent: "", height: 0, time: recording.network.birth_ms, luck: 1, status: "main" });
  for (const coin of recording.coins) {
    if (!coin.is_anchor) continue;
    anchors.set(coin.id, { id: coin.id, parent: coin.parent, height: coin.height, time: coin.time, luck: coins.get(coin.id).luck, status: "side" });
  }
  const events = recording.events
    .filter((one) => one.node === name || one.node === "")
    .map((one) => ({ kind: one.kind, id: one.data.id || "", height: one.data.height ?? null, said: `${(one.at_ms / 1000).toFixed(1)} s: ${one.kind}${one.data.fault ? ` ${one.data.fault}` : ""}` }));
  return new PlayedTree(anchors, coins, events);
}

export function checkRecording(value) {
  const wrong = (what) => new Error(`Not a recording of a simulation: ${what}.`);
  if (typeof value !== "object" || value === null || value.format !== "unchained-simulation") throw wrong('its format is not "unchained-simulation"');
  if (value.version !== 1 && value.version !== 2) throw wrong(`it is of version ${value.version}, this page reads 1 and 2`);
  for (const part of ["nodes", "coins", "bodies", "events"]) if (!Array.isArray(value[part])) throw wrong(`it has no list of ${part}`);
  if (typeof value.network !== "object" || value.network === null) throw wrong("it names no network");
  const hash = /^[0-9a-f]{64}$/;
  if (!hash.test(value.network.genesis)) throw wrong("it names no genesis");
  for (const coin of value.coins) if (!coin || !hash.test(coin.id) || !hash.test(coin.parent) || !hash.test(coin.target)) throw wrong("a coin of it is malformed");
  for (const body of value.bodies) if (!body || !hash.test(body.anchor) || ["fresh", "uncles", "transfers"].some((list) => !Array.isArray(body[list]) || !body[list].every((id) => hash.test(id)))) throw wrong("a body of it is malformed");
  for (const one of value.events) if (!one || typeof one.kind !== "string" || typeof one.node !== "string" || typeof one.data !== "object" || !one.data) throw wrong("an event of it is malformed");
  return value;
}

export class Replay {
  #view; #tree; #timer = 0; #canvas; #at; #play; #step; #speed; #rivals; #recording = null; #bodies = null;

  constructor(section) {
    this.#canvas = document.getElementById("replay-canvas");
    this.#at = document.getElementById("replay-at");
    this.#play = document.getElementById("replay-play");
    this.#step = document.getElementById("replay-step");
    this.#speed = document.getElementById("replay-speed");
    this.#rivals = document.getElementById("replay-rivals");
    this.#at.addEventListener("input", () => { this.#stop(); this.#seek(Number(this.#at.value)); });
    this.#play.addEventListener("click", () => (this.#timer ? this.#stop() : this.#start()));
    document.getElementById("replay-file").addEventListener("change", (event) => this.#open(event.target.files[0]));
    document.getElementById("replay-node").addEventListener("change", (event) => this.#show(recordedLog(this.#recording, event.target.value)));
    nodeLog(Number(section.dataset.last), Number(section.dataset.depth)).then(
      (tree) => { if (!this.#recording) this.#show(tree); },
      (error) => { this.#step.textContent = error.message; });
  }

  #show(tree) {
    this.#stop();
    this.#tree = tree;
    const canvas = this.#canvas.cloneNode(false);
    for (const other of section().querySelectorAll(".note, #replay-canvas ~ .unseen")) other.remove();
    this.#canvas.replaceWith(canvas);
    this.#canvas = canvas;
    this.#view = new TreeView(canvas, tree);
    canvas.addEventListener("choose", ({ detail: { anchor, coin } }) => {
      if (!this.#recording) location.href = coin ? `/coin/${coin.id}` : `/anchor/${anchor.id}`;
    });
    this.#at.max = String(tree.length);
    this.#seek(tree.length);
  }

  async #open(file) {
    if (!file) return;
    try {
      if (file.size > FILE_MAX) throw new Error("A recording has at most 256 MiB.");
      let value;
      try { value = JSON.parse(await file.text()); } catch { throw new Error("Not a recording of a simulation: it is not JSON."); }
      this.#recording = checkRecording(value);
      this.#bodies = new Map(value.bodies.map((body) => [body.anchor, body]));
      const names = this.#recording.nodes.map((one) => String(one.name));
      const list = document.getElementById("replay-node");
      list.replaceChildren(...names.map((name) => new Option(name, name)));
      document.getElementById("replay-who").hidden = false;
      document.getElementById("replay-said").textContent = `${file.name}: ${names.length} nodes, seed ${this.#recording.seed}${this.#recording.failure ? `, failed: ${this.#recording.failure}` : ""}`;
      this.#show(recordedLog(this.#recording, names[0]));
    } catch (error) {
      this.#step.textContent = error.message;
    }
  }

  #seek(position) {
    this.#tree.seek(position);
    this.#at.value = String(position);
    const event = position ? this.#tree.event(position - 1) : null;
    const what = event ? `${event.said}${event.height === null ? "" : ` ${event.height.toLocaleString("en")}`} ${event.id ? `${event.id.slice(0, 7)}…${event.id.slice(-6)}` : ""}` : "the beginning";
    this.#step.textContent = `${position.toLocaleString("en")} of ${this.#tree.length.toLocaleString("en")}: ${what}; tip at height ${this.#tree.tip.height.toLocaleString("en")}`;
    this.#at.setAttribute("aria-valuetext", this.#step.textContent);
    this.#canvas.dataset.position = String(position);
    showRivals(this.#rivals, this.#tree, this.#bodies);
    this.#view.moveTo(Infinity);
  }

  #start() {
    if (!this.#tree) return;
    if (this.#tree.position >= this.#tree.length) this.#seek(0);
    this.#play.textContent = "Pause";
    const tick = () => {
      const step = Math.max(1, Math.round(Number(this.#speed.value) / 20));
      this.#seek(Math.min(this.#tree.length, this.#tree.position + step));
      if (this.#tree.position >= this.#tree.length) this.#stop();
    };
    this.#timer = setInterval(tick, 1000 * Math.max(1, Math.round(Number(this.#speed.value) / 20)) / Number(this.#speed.value));
  }

  #stop() {
    clearInterval(this.#timer);
    this.#timer = 0;
    this.#play.textContent = "Play";
  }
}

function section() { return document.getElementById("replay"); }
