// Checks a receipt inside the browser, with WebCrypto alone: the signature of the checkpoint, the
// inclusion of every entry (RFC 6962), the delivery figures, the same figures recomputed from the
// enclosed readings, and the signature of the trade.

import { counters, settle } from "./settle.js";

const utf8 = new TextEncoder();

function bytes(base64) {
  return Uint8Array.from(atob(base64), (c) => c.charCodeAt(0));
}

function joined(...parts) {
  const out = new Uint8Array(parts.reduce((n, p) => n + p.length, 0));
  parts.reduce((at, p) => (out.set(p, at), at + p.length), 0);
  return out;
}

function same(a, b) {
  return a.length === b.length && a.every((byte, k) => byte === b[k]);
}

async function sha256(data) {
  return new Uint8Array(await crypto.subtle.digest("SHA-256", data));
}

async function signedBy(raw, signature, data) {
  const key = await crypto.subtle.importKey("raw", raw, { name: "Ed25519" }, false, ["verify"]);
  return crypto.subtle.verify({ name: "Ed25519" }, key, signature, data);
}

export async function readKey(vkey) {
  const [name, hash, data] = vkey.trim().match(/^([^+\s]+)\+([0-9a-f]{8})\+(\S+)$/).slice(1);
  const typed = bytes(data);
  const expected = (await sha256(joined(utf8.encode(`${name}\n`), typed))).slice(0, 4);
  const given = Uint8Array.from(hash.match(/../g), (pair) => parseInt(pair, 16));
  if (typed[0] !== 1 || typed.length !== 33 || !same(expected, given)) throw new Error("key");
  return { name, id: given, raw: typed.slice(1) };
}

export async function readCheckpoint(note, key) {
  const cut = note.lastIndexOf("\n\n") + 1;
  const body = note.slice(0, cut);
  const [origin, size, root] = body.split("\n");
  if (cut < 1 || !/^(0|[1-9][0-9]*)$/.test(size) || origin !== key.name) return null;
  for (const line of note.slice(cut + 1).split("\n")) {
    const found = line.match(/^\u2014 (\S+) (\S+)$/);
    if (!found || found[1] !== key.name) continue;
    const blob = bytes(found[2]);
    if (blob.length !== 68 || !same(blob.slice(0, 4), key.id)) continue;
    if (await signedBy(key.raw, blob.slice(4), utf8.encode(body))) {
      return { size: Number(size), root: bytes(root) };
    }
  }
  return null;
}

export async function included(leaf, index, proof, { size, root }) {
  if (!Number.isSafeInteger(index) || index < 0 || index >= size) return false;
  let at = BigInt(index);
  let last = BigInt(size) - 1n;
  let hash = await sha256(joined(Uint8Array.of(0), leaf));
  for (const sibling of proof) {
    if (last === 0n) return false;
    if (at & 1n || at === last) {
      hash = await sha256(joined(Uint8Array.of(1), sibling, hash));
      while (!(at & 1n) && at !== 0n) {
        at >>= 1n;
        last >>= 1n;
      }
    } else {
      hash = await sha256(joined(Uint8Array.of(1), hash, sibling));
    }
    at >>= 1n;
    last >>= 1n;
  }
  return last === 0n && same(hash, root);
}

function figuresHold(receipt, entries) {
  const told = new Map();
  for (const entry of entries.filter((e) => e.kind === "delivery")) {
    for (const row of entry.trades ?? []) {
      if (row.trade_id === receipt.trade_id) told.set(entry.interval.start, row);
    }
  }
  const accepted = entries.filter((e) => e.kind === "trade.accepted").at(-1);
  const withdrawn = new Set(
    (accepted?.positions ?? []).filter((p) => p.energy_wh === 0).map((p) => p.interval.start),
  );
  return (
    receipt.intervals.length > 0 &&
    receipt.intervals.every((interval) => {
      const row = told.get(interval.start);
      if (row === undefined && interval.status === "cancelled") {
        return withdrawn.has(interval.start) && interval.delivered_wh === 0;
      }
      return (
        row !== undefined &&
        row.delivered_wh === interval.delivered_wh &&
        row.contracted_wh === interval.contracted_wh &&
        row.status === interval.status
      );
    })
  );
}

// Energy that was accepted for an interval when entry `index` was written.
function acceptedWh(entries, start, index) {
  const last = entries.findLast((e) => e.kind === "trade.accepted" && e.index < index);
  return last?.positions.find((p) => p.interval.start === start)?.energy_wh ?? 0;
}

// Recomputes each settled interval from the readings that stood in the ledger before it.
function recomputed(receipt, entries) {
  const of = (kind) => entries.filter((e) => e.kind === kind);
  return receipt.intervals.every((interval) => {
    const settled = of("delivery").find((e) => e.interval.start === interval.start);
    if (settled === undefined) return interval.status === "cancelled";
    const plans = of("plan").filter(
      (e) =>
        e.interval.start === interval.start &&
        e.index < settled.index &&
        e.trades.some((t) => t.trade_id === receipt.trade_id),
    );
    const contracted = acceptedWh(entries, interval.start, (plans[0] ?? settled).index);
    if (interval.contracted_wh !== contracted) return false;
    if (plans.length === 0) {
      return interval.delivered_wh === 0 && interval.status === (contracted ? "failed" : "cancelled");
    }
    const planned = plans[0].trades.find((t) => t.trade_id === receipt.trade_id);
    if (planned.contracted_wh !== contracted) return false;
    const config = of("config").findLast((e) => e.index < plans[0].index)?.config;
    if (plans.length > 1 || config === undefined) return false;
    const before = entries
      .filter((e) => ["reading", "time_step"].includes(e.kind) && e.index < settled.index)
      .sort((a, b) => a.index - b.index);
    const found = settle(config, plans[0], counters(before))[receipt.trade_id];
    return found.delivered_wh === interval.delivered_wh && found.status === interval.status;
  });
}

async function tradeSigned(receipt, config) {
  const { payloadType, payload, signatures } = receipt.trade;
  const type = utf8.encode(payloadType);
  const body = bytes(payload);
  const data = joined(
    utf8.encode(`DSSEv1 ${type.length} `), type, utf8.encode(` ${body.length} `), body,
  );
  const good = new Set();
  for (const signer of config.signers) {
    const raw = bytes(signer.key);
    const id = [...(await sha256(raw))].map((b) => b.toString(16).padStart(2, "0")).join("");
    for (const { keyid, sig } of signatures) {
      if (keyid === id && (await signedBy(raw, bytes(sig), data))) good.add(id);
    }
  }
  return good.size >= Math.max(config.required ?? 1, 1);
}

// Returns [what, holds, detail] lines; `what` is a word of the page's catalogue.
export async function verify(receipt, vkey) {
  const key = await readKey(vkey).catch(() => null);
  if (!key) return [["badKey", false, ""]];
  const checkpoint = await readCheckpoint(receipt.checkpoint, key);
  if (!checkpoint) return [["signature", false, key.name]];
  const lines = [["signature", true, `${key.name}, ${checkpoint.size}`]];
  const entries = [];
  const wrong = [];
  for (const { index, leaf, proof } of receipt.entries) {
    const raw = bytes(leaf);
    if (await included(raw, index, proof.map(bytes), checkpoint)) {
      entries.push({ ...JSON.parse(new TextDecoder().decode(raw)), index });
    } else {
      wrong.push(`#${index}`);
    }
  }
  const held = wrong.length === 0 && entries.length > 0;
  lines.push(["proofs", held, held ? String(entries.length) : wrong.join(" ")]);
  lines.push(["figures", figuresHold(receipt, entries), receipt.trade_id]);
  lines.push(["recomputed", recomputed(receipt, entries), ""]);
  const config = entries.findLast((e) => e.kind === "config")?.config;
  if (config?.signers) lines.push(["trade", await tradeSigned(receipt, config), ""]);
  return lines;
}

function show(verdict, lines) {
  const say = (key) => verdict.dataset[key];
  const list = document.createElement("ul");
  for (const [what, holds, detail] of lines) {
    const item = document.createElement("li");
    item.textContent = `${holds ? "✓" : "✕"} ${say(what)}${detail ? `: ${detail}` : ""}`;
    if (!holds) item.className = "bad";
    list.append(item);
  }
  const good = lines.every(([, holds]) => holds);
  const last = document.createElement("p");
  last.id = "outcome";
  last.className = good ? "live" : "bad";
  last.textContent = say(good ? "good" : "failed");
  const rest = document.createElement("p");
  rest.className = "quiet";
  const unknown = lines.some(([what]) => what === "trade") ? "" : `${say("tradeUnknown")}. `;
  rest.textContent = unknown + say("notChecked");
  verdict.replaceChildren(list, rest, last);
}

export function attach() {
  const verdict = document.getElementById("verdict");
  const button = document.getElementById("check");
  button.dataset.ready = "yes";
  button.addEventListener("click", async () => {
    const [file] = document.getElementById("receipt").files;
    const vkey = document.getElementById("vkey").value;
    if (!file || !vkey.trim()) {
      verdict.textContent = verdict.dataset.need;
      return;
    }
    try {
      show(verdict, await verify(JSON.parse(await file.text()), vkey));
    } catch (problem) {
      if (!(problem instanceof Error)) throw problem;
      show(verdict, [["unreadable", false, ""]]);
    }
  });
}
