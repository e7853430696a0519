// Opens the first page at a desk and every page on a phone, with Playwright in the given Chromium;
// one JSON line tells what it saw.
// node page_by_playwright.mjs ROOT CHROMIUM AXE PICTURES PAGE...
import { createRequire } from "node:module";
import { readFileSync } from "node:fs";

const [root, executablePath, axe, pictures, ...pages] = process.argv.slice(2);
const { chromium } = createRequire(import.meta.url)(process.env.PLAYWRIGHT || "playwright-core");
const rules = { runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"] };
const FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"];
const seen = { requests: [], complaints: [], violations: [], passes: 0, wide: [], figures: [] };

const browser = await chromium.launch({ executablePath, timeout: 100_000, args: FLAGS });
const page = await browser.newPage();
page.setDefaultTimeout(100_000); // a busy machine is no fault
page.on("request", (r) => seen.requests.push(r.url()));
page.on("console", (m) => {
  if (["error", "warning"].includes(m.type())) seen.complaints.push(m.text());
});
page.on("pageerror", (e) => seen.complaints.push(String(e)));
for (const [width, height] of [[1366, 820], [390, 844]]) {
  await page.setViewportSize({ width, height });
  for (const name of width > 390 ? pages.slice(0, 1) : pages) {
    await page.goto(`${root}/en/${name}`, { waitUntil: "load" });
    await page.waitForFunction(() => document.getElementById("lost").hidden);
    if (await page.evaluate(() => document.documentElement.scrollWidth > innerWidth)) {
      seen.wide.push([width, name]);
    }
    await page.evaluate(readFileSync(axe, "utf8"));
    const told = await page.evaluate((r) => globalThis.axe.run(document, r), rules);
    seen.passes += told.passes.length;
    seen.violations.push(...told.violations.map((v) => [width, name, v.id]));
    const file = `${pictures}/playwright-${width}-${name.replaceAll("/", "-") || "overview"}.png`;
    await page.screenshot({ path: file, fullPage: true });
  }
}
await page.goto(`${root}/en/`);
seen.figures = await page.locator("#part-values tbody tr").evaluateAll((rows) =>
  rows.map((row) => [...row.cells].map((cell) => cell.textContent)));
await browser.close();
console.log(JSON.stringify(seen));
