"use strict";
document.documentElement.classList.add("js");
const all = (selector, root = document) => [...root.querySelectorAll(selector)];
const one = (selector, root = document) => root.querySelector(selector);

// Sorting: each head of the matrix becomes a button.
const table = one("#matrix-table");
all("thead th", table).forEach((head, column) => {
  const button = document.createElement("button");
  button.type = "button";
  button.append(...head.childNodes);
  head.append(button);
  button.addEventListener("click", () => {
    // Figures and verdicts begin with the highest, which people look for.
    const first = head.dataset.kind === "number" ? "descending" : "ascending";
    const other = first === "ascending" ? "descending" : "ascending";
    const order = head.getAttribute("aria-sort") === first ? other : first;
    all("thead th", table).forEach((h) => h.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", order);
    const key = (row) => row.cells[column].dataset.sort;
    const compare = (a, b) => head.dataset.kind === "number" ? key(a) - key(b) : key(a).localeCompare(key(b));
    const rows = all("tbody tr", table).sort((a, b) => order === "ascending" ? compare(a, b) : compare(b, a));
    one("tbody", table).append(...rows);
  });
});

// Filtering: rows of the matrix and cells, by what they say, by verdict, by surprise.
const text = one("#filter-text"), verdict = one("#filter-verdict"), unexpected = one("#filter-unexpected");
const cells = all("details.cell");
const said = new Map([...all("tbody tr", table), ...cells].map((e) =>
  [e, (e.matches("tr") ? e.textContent : all("summary, .checks, .plain:not(.console)", e).map((p) => p.textContent).join(" ")).toLowerCase()]));
function filter() {
  const fits = (e) => said.get(e).includes(text.value.trim().toLowerCase())
    && (!verdict.value || e.dataset.verdicts.split(" ").includes(verdict.value))
    && (!unexpected.checked || e.dataset.unexpected === "true");
  cells.forEach((cell) => { cell.hidden = !fits(cell); });
  const shown = cells.filter((c) => !c.hidden);
  all("tbody tr", table).forEach((row) => {
    const links = all("a[href^='#cell']", row).map((a) => one(a.getAttribute("href")));
    row.hidden = !fits(row) && !links.some((cell) => cell && !cell.hidden);
  });
  one("#filter-count").textContent = `${shown.length} of ${cells.length} cells`;
}
[text, verdict, unexpected].forEach((control) => control.addEventListener("input", filter));
one(".filter").addEventListener("submit", (e) => e.preventDefault());
filter();

// A link to a cell, or to something in one, opens it.
function reveal() {
  const target = location.hash && document.getElementById(location.hash.slice(1));
  if (!target) return;
  for (let e = target; e; e = e.parentElement) if (e.matches("details")) e.open = true;
  target.scrollIntoView();
  if (target.matches("details")) one("summary", target).focus({ preventScroll: true });
}
addEventListener("hashchange", reveal);
document.addEventListener("click", (e) => {
  const link = e.target.closest("a[href^='#']");
  if (link && link.getAttribute("href") === location.hash) reveal();
});
reveal();
const openAll = (open) => cells.forEach((cell) => { cell.open = open; });
one("#open-all").addEventListener("click", () => openAll(true));
one("#close-all").addEventListener("click", () => openAll(false));
// On paper nothing can be opened: cells are, what is inside them stays as it is.
let closed = [];
addEventListener("beforeprint", () => { closed = cells.filter((cell) => !cell.open); openAll(true); });
addEventListener("afterprint", () => closed.forEach((cell) => { cell.open = false; }));

// Searching a console: every hit is painted, Enter goes to the next one.
all("details.console").forEach((box) => {
  const input = one(".search", box), log = one(".log", box), count = one("output", box);
  if (!input) return;
  let hits = [], at = -1;
  input.addEventListener("input", () => {
    const wanted = input.value.toLowerCase();
    hits = []; at = -1;
    const walk = document.createTreeWalker(log, NodeFilter.SHOW_TEXT);
    while (wanted && walk.nextNode()) {
      const line = walk.currentNode.data.toLowerCase();
      for (let i = line.indexOf(wanted); i >= 0; i = line.indexOf(wanted, i + wanted.length)) {
        const range = new Range();
        range.setStart(walk.currentNode, i);
        range.setEnd(walk.currentNode, i + wanted.length);
        hits.push(range);
      }
    }
    if (CSS.highlights) CSS.highlights.set("hits", new Highlight(...hits));
    count.textContent = wanted ? `${hits.length} ${hits.length === 1 ? "match" : "matches"}` : "";
    next();
  });
  function next() {
    if (!hits.length) return;
    at = (at + 1) % hits.length;
    const hit = hits[at].getBoundingClientRect(), view = log.getBoundingClientRect();
    log.scrollTop += hit.top - view.top - view.height / 3;
    if (hits.length > 1) count.textContent = `${at + 1} of ${hits.length} matches`;
  }
  input.addEventListener("keydown", (e) => { if (e.key === "Enter") { e.preventDefault(); next(); } });
});

// Copying, or at least selecting where the browser does not let pages copy.
all("button.copy").forEach((button) => button.addEventListener("click", async () => {
  const command = document.getElementById(button.dataset.copy);
  getSelection().selectAllChildren(command);
  let done = false;
  try { await navigator.clipboard.writeText(command.textContent); done = true; } catch { done = document.execCommand("copy"); }
  button.firstChild.data = done ? "Copied" : "Selected";
}));
