// The published rule for delivered energy (docs/entries.md), recomputed from enclosed readings.
// Whole numbers throughout; BigInt where a product leaves the safe range, division towards −∞.

const ESTIMATED_US = 10_000_000;

function floorDiv(a, b) {
  const q = a / b;
  return a % b !== 0n && a < 0n !== b < 0n ? q - 1n : q;
}

function floor(a, b) {
  return Number(floorDiv(BigInt(a), BigInt(b)));
}

export function instantUs(text) {
  const ms = Date.parse(text);
  if (!text.endsWith("Z") || Number.isNaN(ms)) throw new Error(`not an instant: ${text}`);
  return ms * 1000;
}

// Good readings by terminal in order of time, from `reading` entries; another meter begins anew,
// and a `time_step` strikes what is stamped later than itself.
export function counters(entries) {
  const found = {};
  for (const entry of entries) {
    if (entry.kind === "time_step") {
      for (const series of Object.values(found)) {
        while (series.length && series.at(-1).utc_us > entry.utc_us) series.pop();
      }
      continue;
    }
    for (const row of entry.meters) {
      if (row.quality !== "good") continue;
      const series = (found[row.terminal] ??= []);
      if (series.length && series.at(-1).meter !== row.meter) series.length = 0;
      if (!series.length || row.utc_us > series.at(-1).utc_us) series.push(row);
    }
  }
  return found;
}

// Export minus import at an instant in mWh, null where it is not bracketed.
function netMwh(series, at) {
  const right = series.findIndex((row) => row.utc_us >= at);
  if (right < 0) return null;
  const c1 = series[right];
  if (c1.utc_us === at) return { mwh: 1000 * (c1.export_wh - c1.import_wh), estimated: false };
  if (right === 0) return null;
  const c0 = series[right - 1];
  const span = BigInt(c1.utc_us - c0.utc_us);
  const part = BigInt(at - c0.utc_us);
  const between = (a, b) =>
    1000 * a + Number(floorDiv(1000n * BigInt(b - a) * part, span));
  return {
    mwh: between(c0.export_wh, c1.export_wh) - between(c0.import_wh, c1.import_wh),
    estimated: c1.utc_us - c0.utc_us > ESTIMATED_US,
  };
}

// Whether a counter fell between the readings that bracket an interval: reset or exchanged.
function fell(series, start, end) {
  const left = series.findLastIndex((row) => row.utc_us <= start);
  const span = series.slice(left, series.findIndex((row) => row.utc_us >= end) + 1);
  return span.some(
    (row, k) =>
      k > 0 && (row.import_wh < span[k - 1].import_wh || row.export_wh < span[k - 1].export_wh),
  );
}

function meteredWh(series, start, end) {
  const [first, last] = [netMwh(series, start), netMwh(series, end)];
  return first && last && !fell(series, start, end) ? floor(last.mwh - first.mwh + 500, 1000) : null;
}

// Shares a deviation pro rata by largest remainder, ties to the smaller trade id.
function shareOut(deviation, trades) {
  const weighted = trades.filter((t) => t.planned_wh !== 0);
  const total = weighted.reduce((sum, t) => sum + BigInt(t.planned_wh), 0n);
  if (total === 0n) return {};
  const units = BigInt(Math.abs(deviation));
  const parts = weighted.map((t) => {
    const whole = units * BigInt(t.planned_wh);
    return { id: t.trade_id, part: Number(whole / total), rest: whole % total };
  });
  let left = Number(units) - parts.reduce((sum, p) => sum + p.part, 0);
  parts.sort((a, b) => (a.rest === b.rest ? (a.id < b.id ? -1 : 1) : a.rest > b.rest ? -1 : 1));
  const sign = deviation < 0 ? -1 : 1;
  return Object.fromEntries(parts.map((p) => [p.id, sign * (p.part + (left-- > 0 ? 1 : 0))]));
}

function status(trade, delivered, ratings, seconds, unmetered) {
  const { contracted_wh: contracted, planned_wh: planned } = trade;
  const rating = Math.max(ratings[trade.in_terminal], ratings[trade.out_terminal]);
  const tolerance = Math.max(floor(contracted * 5, 1000), 2, floor(rating * seconds, 3_600_000));
  if (contracted === 0) return "cancelled";
  if (delivered === 0) return "failed";
  const whole = contracted - delivered <= tolerance && planned === contracted && !unmetered;
  return whole ? "delivered" : "partial";
}

// Delivered energy and status of every trade of one plan.
export function settle(config, plan, readings) {
  const [start, end] = [instantUs(plan.interval.start), instantUs(plan.interval.end)];
  const measured = {};
  for (const t of config.terminals) measured[t.id] = meteredWh(readings[t.id] ?? [], start, end);
  const others = Object.keys(measured).filter((id) => id !== config.master);
  const othersWh = others.reduce((sum, id) => sum + (measured[id] ?? 0), 0);
  const missing = new Set(others.filter((id) => measured[id] === null));
  if (missing.size) missing.add(config.master);
  const shares = {};
  for (const id of Object.keys(measured)) {
    const judged = id === config.master ? -othersWh : (measured[id] ?? 0);
    const here = plan.trades.filter((t) => t.in_terminal === id || t.out_terminal === id);
    const planned = here.reduce(
      (sum, t) => sum + (t.in_terminal === id ? t.planned_wh : -t.planned_wh), 0,
    );
    shares[id] = shareOut(judged - planned, here);
  }
  const ratings = Object.fromEntries(config.terminals.map((t) => [t.id, t.s_va]));
  const seconds = floor(end - start, 1_000_000);
  return Object.fromEntries(
    plan.trades.map((t) => {
      const atIn = t.planned_wh + (shares[t.in_terminal][t.trade_id] ?? 0);
      const atOut = t.planned_wh - (shares[t.out_terminal][t.trade_id] ?? 0);
      const delivered = Math.max(0, Math.min(atIn, atOut));
      const unmetered = missing.has(t.in_terminal) || missing.has(t.out_terminal);
      return [
        t.trade_id,
        { delivered_wh: delivered, status: status(t, delivered, ratings, seconds, unmetered) },
      ];
    }),
  );
}
