// Follows the site: puts changed parts in place without losing focus, scroll or an opened detail.

function morph(from, to) {
  if (from.nodeType !== to.nodeType || from.nodeName !== to.nodeName) {
    from.replaceWith(to);
    return;
  }
  if (from.nodeType !== Node.ELEMENT_NODE) {
    if (from.data !== to.data) from.data = to.data;
    return;
  }
  for (const { name, value } of to.attributes) {
    if (from.getAttribute(name) !== value) from.setAttribute(name, value);
  }
  for (const { name } of [...from.attributes]) {
    if (!to.hasAttribute(name) && name !== "open") from.removeAttribute(name);
  }
  const old = [...from.childNodes];
  const next = [...to.childNodes];
  next.forEach((node, k) => (old[k] ? morph(old[k], node) : from.append(node)));
  old.slice(next.length).forEach((node) => node.remove());
}

export function put(element, html) {
  const made = element.cloneNode(false);
  made.innerHTML = html;
  morph(element, made);
}

function filter() {
  const field = document.getElementById("search");
  if (!field) return;
  const wanted = field.value.trim().toLowerCase();
  for (const row of document.querySelectorAll("#searched tbody tr")) {
    row.hidden = wanted !== "" && !row.textContent.toLowerCase().includes(wanted);
  }
}

function lost(yes) {
  document.body.classList.toggle("lost", yes);
  document.getElementById("lost").hidden = !yes;
}

const story = /\/trades\/./.test(location.pathname); // one trade's page shows other parts

function follow(address) {
  const source = new EventSource(address);
  let watch = 0;
  const alive = () => {
    lost(false);
    clearTimeout(watch);
    watch = setTimeout(() => lost(true), 10000);
  };
  source.addEventListener("parts", (event) => {
    alive();
    const told = JSON.parse(event.data);
    if (told.revision !== document.body.dataset.revision) {
      location.reload();
      return;
    }
    if (told.title !== undefined) document.title = told.title;
    for (const [id, html] of Object.entries(told.parts)) {
      const element = document.getElementById(id);
      if (element) put(element, html);
      else if (!story) location.reload(); // a part that was not there when the page was made
    }
    filter();
  });
  source.addEventListener("error", () => {
    lost(true);
    if (source.readyState === EventSource.CLOSED) {
      // A session that has ended: the page asks for it again.
      fetch("/state.json").then((told) => told.status === 401 && location.reload(), () => {});
      setTimeout(() => follow(address), 5000);
      source.close();
    }
  });
}

document.getElementById("search")?.addEventListener("input", filter);
if (document.body.dataset.events) follow(document.body.dataset.events);
if (document.getElementById("check")) {
  import("./receipt.js").then((module) => module.attach());
}
