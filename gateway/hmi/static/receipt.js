// Checks a receipt inside the browser, with WebCrypto alone: the signature of the checkpoint, the
// inclusion of every entry (RFC 6962), the delivery figures, the same figures recomputed from the
// enclosed readings, and the signed trade. As sopledger receipt verify does, but for the
// instructions, and for signatures of others under the checkpoint, which are passed over here:
// there each must be one that a given key can check.

import { counters, instantUs, settle } from "./settle.js";

const utf8 = new TextEncoder();
const RECEIPT = ["schema", "trade_id", "intervals", "trade", "entries", "checkpoint", "tlog"];
const ROW = ["start", "end", "contracted_wh", "delivered_wh", "status", "reasons"];
const ENTRY = ["index", "leaf", "proof"];
const MESSAGE = ["payloadType", "payload", "signatures"];
const SIGNATURE = ["keyid", "sig"];
const PAYLOAD_TYPE = "application/vnd.sop.schedule+json";
const RESOLUTION_MS = { PT1M: 60_000, PT5M: 300_000, PT15M: 900_000 };

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

// Parses JSON in which no object has a key twice: another reader might take the other one.
export function readJson(text) {
  const found = JSON.parse(text);
  const count = (value) =>
    value === null || typeof value !== "object"
      ? 0
      : Object.values(value).reduce(
          (sum, inner) => sum + count(inner), Array.isArray(value) ? 0 : Object.keys(value).length,
        );
  const keys = (text.match(/"(?:[^"\\]+|\\.)*"\s*:?/g) ?? []).filter((t) => t.endsWith(":"));
  if (keys.length !== count(found)) throw new Error("a key stands twice");
  return found;
}

function equal(a, b) {
  if (a === null || b === null || typeof a !== "object" || typeof b !== "object") return a === b;
  const keys = Object.keys(a);
  return (
    Array.isArray(a) === Array.isArray(b) &&
    keys.length === Object.keys(b).length &&
    keys.every((key) => Object.hasOwn(b, key) && equal(a[key], b[key]))
  );
}

function only(object, keys) {
  return Object.keys(object).length === keys.length && keys.every((k) => Object.hasOwn(object, k));
}

// Whether a receipt has the known fields and no others: nobody vouches for what else it says.
function shaped(receipt) {
  return (
    only(receipt, RECEIPT) &&
    receipt.schema === "sopgw/v1/receipt" &&
    receipt.tlog === "C2SP" &&
    receipt.intervals.every((row) => only(row, ROW) && Array.isArray(row.reasons)) &&
    receipt.entries.every((entry) => only(entry, ENTRY)) &&
    only(receipt.trade, MESSAGE) &&
    receipt.trade.signatures.every((one) => only(one, SIGNATURE))
  );
}

function span({ start, end }) {
  return `${instantUs(start)}/${instantUs(end)}`;
}

function inTrade(entry, tradeId) {
  return entry.trades.filter((t) => t.trade_id === tradeId);
}

// The acceptances of a trade, in order: another trade's say nothing about it.
function acceptances(receipt, entries) {
  return entries.filter((e) => e.kind === "trade.accepted" && e.trade_id === receipt.trade_id);
}

function settling(receipt, entries, at) {
  return entries.filter(
    (e) =>
      e.kind === "delivery" && span(e.interval) === at && inTrade(e, receipt.trade_id).length > 0,
  );
}

// Whether each interval of the trade stands there once, as its delivery entry says.
function figuresHold(receipt, entries) {
  const accepted = acceptances(receipt, entries);
  const positions = new Map(
    accepted.flatMap((e) => e.positions).map((p) => [span(p.interval), p]),
  );
  const seen = new Set();
  const holds = (row) => {
    const at = span(row);
    const position = positions.get(at);
    const settled = settling(receipt, entries, at);
    if (seen.has(at) || position === undefined || settled.length > 1) return false;
    seen.add(at);
    const nothing = { contracted_wh: 0, delivered_wh: 0, status: "cancelled", reasons: [] };
    if (settled.length === 0 && position.energy_wh !== 0) return false;
    const told = settled.length ? inTrade(settled[0], receipt.trade_id)[0] : nothing;
    const { start, end } = (settled[0] ?? position).interval;
    return (
      row.start === start &&
      row.end === end &&
      ROW.slice(2).every((name) => equal(row[name], told[name]))
    );
  };
  return (
    receipt.intervals.length > 0 &&
    receipt.intervals.every(holds) &&
    (accepted.at(-1)?.positions ?? []).every((p) => seen.has(span(p.interval)))
  );
}

// Recomputes each settled interval from the readings that stood in the ledger before it.
function recomputed(receipt, entries) {
  const of = (kind) => entries.filter((e) => e.kind === kind);
  return receipt.intervals.every((interval) => {
    const at = span(interval);
    const [settled] = settling(receipt, entries, at);
    if (settled === undefined) return interval.status === "cancelled";
    const plans = of("plan").filter(
      (e) =>
        e.index < settled.index &&
        span(e.interval) === at &&
        inTrade(e, receipt.trade_id).length > 0,
    );
    const accepted = acceptances(receipt, entries).findLast(
      (e) => e.index < (plans[0] ?? settled).index,
    );
    const position = accepted?.positions.find((p) => span(p.interval) === at);
    const contracted = position?.energy_wh ?? 0;
    if (interval.contracted_wh !== contracted) return false;
    if (plans.length === 0) {
      const nothing = contracted ? "failed" : "cancelled";
      return interval.delivered_wh === 0 && interval.status === nothing;
    }
    const [planned, ...more] = plans.flatMap((e) => inTrade(e, receipt.trade_id));
    if (more.length > 0 || planned.contracted_wh !== contracted) return false;
    if (planned.planned_wh < 0 || planned.planned_wh > contracted) return false;
    const { out_terminal: out, in_terminal: into } = accepted ?? planned;
    if (planned.out_terminal !== out || planned.in_terminal !== into) return false;
    const config = of("config").findLast((e) => e.index < settled.index)?.config;
    if (config === undefined) return false;
    const before = entries.filter(
      (e) => ["reading", "time_step"].includes(e.kind) && e.index < settled.index,
    );
    const found = settle(config, plans[0], counters(before))[receipt.trade_id];
    return found.delivered_wh === interval.delivered_wh && found.status === interval.status;
  });
}

async function hex(data) {
  return [...(await sha256(data))].map((b) => b.toString(16).padStart(2, "0")).join("");
}

// Whether enough of the configuration's signers signed; a known one's bad signature condemns.
async function signedEnough({ payloadType, payload, signatures }, config) {
  const type = utf8.encode(payloadType);
  const body = bytes(payload);
  const data = joined(
    utf8.encode(`DSSEv1 ${type.length} `), type, utf8.encode(` ${body.length} `), body,
  );
  const signers = new Map();
  for (const { name, key } of config.signers) signers.set(await hex(bytes(key)), { name, key });
  const good = new Set();
  for (const { keyid, sig } of signatures) {
    const signer = signers.get(keyid);
    if (signer === undefined) continue;
    if (!(await signedBy(bytes(signer.key), bytes(sig), data))) return false;
    good.add(signer.name);
  }
  return payloadType === PAYLOAD_TYPE && good.size >= Math.max(config.required ?? 1, 1);
}

function listed(value) {
  return Array.isArray(value) ? value : [value];
}

// Energy in Wh of an interval at a power in kW as the document writes it; undefined if not whole.
function energyWh(quantity, stepMs) {
  const [, sign, whole, rest] = String(quantity).match(/^([+-]?)(\d+)(?:\.(\d*))?$/);
  const top = BigInt(whole + (rest ?? "")) * BigInt(stepMs);
  const unit = 3600n * 10n ** BigInt(rest?.length ?? 0);
  return top % unit === 0n ? Number(top / unit) * (sign === "-" ? -1 : 1) : undefined;
}

// Energy by interval that a market document contracts for a trade.
function contracted(body, tradeId) {
  const found = new Map();
  const { TimeSeries: series } = readJson(new TextDecoder().decode(body)).Schedule_MarketDocument;
  for (const one of listed(series).filter((s) => s["marketAgreement.mRID"] === tradeId)) {
    for (const { timeInterval, resolution, Point: points } of listed(one.Period)) {
      const stepMs = RESOLUTION_MS[resolution];
      for (const { position, quantity } of points) {
        const start = instantUs(timeInterval.start) + (Number(position) - 1) * stepMs * 1000;
        found.set(`${start}/${start + stepMs * 1000}`, energyWh(quantity, stepMs));
      }
    }
  }
  return found;
}

// Whether a document signs this trade for this site and SOP, between the regions whose terminals
// were accepted, and in the accepted revision.
function agreed(body, accepted, config) {
  const root = readJson(new TextDecoder().decode(body)).Schedule_MarketDocument;
  const series = listed(root.TimeSeries).filter(
    (s) => s["marketAgreement.mRID"] === accepted.trade_id,
  );
  const domains = new Map(config.terminals.map((t) => [t.id, t.domain]));
  const value = (name) => series[0][name].value;
  return (
    series.length === 1 &&
    root["domain.mRID"].value === config.site &&
    value("connectingLine_RegisteredResource.mRID") === config.sop &&
    Number(root.revisionNumber) === accepted.revision &&
    value("out_Domain.mRID") === domains.get(accepted.out_terminal) &&
    value("in_Domain.mRID") === domains.get(accepted.in_terminal)
  );
}

// Whether the enclosed message is the newest one received, and each was signed by enough signers
// and says what was accepted.
async function tradeHolds(receipt, entries) {
  const accepted = acceptances(receipt, entries);
  for (const entry of accepted) {
    const received = entries.find(
      (e) => e.kind === "trade.received" && e.index === entry.received_index,
    );
    const configs = entries.filter((e) => e.kind === "config" && e.index < entry.index);
    const config = configs.at(-1)?.config;
    if (config === undefined) return false;
    const payload = bytes(received.payload);
    const message = readJson(new TextDecoder().decode(payload));
    if ((await hex(payload)) !== received.sha256) return false;
    if (entry === accepted.at(-1) && !equal(message, receipt.trade)) return false;
    if (!(await signedEnough(message, config))) return false;
    if (!agreed(bytes(message.payload), entry, config)) return false;
    const stated = contracted(bytes(message.payload), receipt.trade_id);
    const same = entry.positions.every((p) => stated.get(span(p.interval)) === p.energy_wh);
    if (!same || stated.size !== entry.positions.length) return false;
  }
  return accepted.length > 0;
}

// Returns [what, holds, detail] lines; `what` is a word of the page's catalogue.
export async function verify(receipt, vkey) {
  if (!shaped(receipt)) return [["unreadable", false, ""]];
  const key = await readKey(vkey).catch(() => null);
  if (!key) return [["badKey", false, ""]];
  const checkpoint = await readCheckpoint(receipt.checkpoint, key);
  if (!checkpoint) return [["signature", false, key.name]];
  const lines = [["signature", true, `${key.name}, ${checkpoint.size}`]];
  const entries = [];
  const wrong = [];
  let before = -1;
  for (const { index, leaf, proof } of receipt.entries) {
    const raw = bytes(leaf);
    const inOrder = index > before;
    before = index;
    if (inOrder && (await included(raw, index, proof.map(bytes), checkpoint))) {
      entries.push({ ...JSON.parse(new TextDecoder().decode(raw)), index });
    } else {
      wrong.push(`#${index}`);
    }
  }
  const held = wrong.length === 0 && entries.length > 0;
  lines.push(["proofs", held, held ? String(entries.length) : wrong.join(" ")]);
  const asked = async (check) => {
    try {
      return await check(receipt, entries);
    } catch {
      return false; // an entry lacks a field or has an odd one
    }
  };
  lines.push(["figures", await asked(figuresHold), receipt.trade_id]);
  lines.push(["recomputed", await asked(recomputed), ""]);
  const named = entries.some((e) => e.kind === "config" && e.config?.signers);
  lines.push(named ? ["trade", await asked(tradeHolds), ""] : ["tradeUnknown", false, ""]);
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
  rest.textContent = say("notChecked");
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
      show(verdict, await verify(readJson(await file.text()), vkey));
    } catch (problem) {
      if (!(problem instanceof Error)) throw problem;
      show(verdict, [["unreadable", false, ""]]);
    }
  });
}
