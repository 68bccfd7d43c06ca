"use strict";
const all = (q, root = document) => [...root.querySelectorAll(q)];
const one = (q, root = document) => root.querySelector(q);
const names = [...(one('select[data-role="a"]')?.options ?? [])].map((o) => o.textContent);
const [first, second] = document.body.dataset.ab.split(" ").map(Number);
const chosen = (role, known) => Number(one(`select[data-role="${role}"]`)?.value ?? known);  // B has no select on a page without pictures
const state = { a: chosen("a", first), b: chosen("b", second ?? first), f: "all" };
state.base = state.a;  // of the paired differences: A, or a model without a colour, whose rows lie packed in the page
const packed = JSON.parse(one("#bases")?.textContent ?? "[]"), coloured = names.length - packed.length;
const few = coloured <= Number(document.body.dataset.all);

// Pictures: which cards to show for A, B and the filter. A strip without answers of A or B compares the first two it has.
function pairOf(strip) {
  const able = strip.dataset.models.split(" ").map(Number);
  return able.includes(state.a) && able.includes(state.b) ? [state.a, state.b] : able.slice(0, 2);
}

function wanted(card, able, [a, b]) {
  if (state.f === "all" || b === undefined) return true;
  const values = card.dataset.values.split(" ").map(Number);
  const d = values[able.indexOf(a)] - values[able.indexOf(b)];
  return { differ: Math.abs(d) >= 1, a: d >= 1, b: d <= -1 }[state.f];
}

function showCards() {
  for (const strip of all(".strip")) {
    const able = strip.dataset.models.split(" ").map(Number), pair = pairOf(strip), cards = all(".card", strip);
    const found = cards.filter((c) => wanted(c, able, pair)), most = Number(strip.dataset.most);
    const shown = strip.dataset.open ? found.length : most;
    cards.forEach((c) => (c.hidden = true));
    found.slice(0, shown).forEach((c) => (c.hidden = false));
    one(".count", strip).textContent = found.length ? `${Math.min(shown, found.length)} of ${found.length}` : "No image fits this filter.";
    const more = one(".more", strip);
    more.hidden = found.length <= most;
    more.textContent = strip.dataset.open ? "Show fewer" : `Show all ${found.length}`;
    const lacking = [state.a, state.b].filter((i) => !able.includes(i)).map((i) => names[i]);
    const instead = pair.length > 1 ? `; ${names[pair[0]]} against ${names[pair[1]]}` : "";
    one(".instead", strip).textContent = coloured > 1 && lacking.length ? `No answers of ${lacking.join(" and ")}${instead}.` : "";
    if (!few) all("[data-of]", strip).forEach((e) => (e.hidden = !pair.includes(Number(e.dataset.of))));
  }
  if (!few) all(".three [data-of], section > .cards [data-of]").forEach((e) => (e.hidden = ![state.a, state.b].includes(Number(e.dataset.of))));
}

async function unpack(base) {
  const bytes = Uint8Array.from(atob(packed[base - coloured]), (c) => c.charCodeAt(0));
  const markup = await new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"))).text();
  all('[data-base="other"]').forEach((t) => t.remove());
  if (state.base !== base) return;  // another was chosen meanwhile
  one(".forest table").insertAdjacentHTML("beforeend", markup);
  all('[data-base="other"] .rest').forEach(openRest);
}

function sync() {
  for (const role of ["a", "b", "base"]) all(`b[data-name="${role}"]`).forEach((e) => (e.textContent = names[state[role]]));
  for (const role of ["a", "b"]) all(`select[data-role="${role}"]`).forEach((s) => (s.value = state[s.closest(".forest") ? "base" : role]));
  all('[data-base="other"]').forEach((t) => t.remove());
  all("[data-base]").forEach((t) => (t.hidden = Number(t.dataset.base) !== state.base || (t.matches(".restrows") && !t.dataset.open)));
  if (packed[state.base - coloured]) unpack(state.base);
  const key = [state.a, state.b].sort((x, y) => x - y).join("-");
  all("[data-pair]").forEach((d) => (d.hidden = d.dataset.pair !== key));
  showCards();
}

document.addEventListener("change", (event) => {
  const { role } = event.target.dataset, value = Number(event.target.value);
  if (role && value >= coloured) {
    state.base = value;
    sync();
  } else if (role) {
    const other = role === "a" ? "b" : "a", was = state[role];
    state[role] = value;
    if (state[other] === state[role]) state[other] = was;
    state.base = state.a;
    sync();
  }
  if (event.target.name === "f") { state.f = event.target.value; showCards(); }
  if (event.target.name === "cols") one(".board").dataset.cols = event.target.value;
});
all(".more").forEach((b) => b.addEventListener("click", () => {
  const strip = b.closest(".strip");
  if (strip.dataset.open) delete strip.dataset.open; else strip.dataset.open = "1";
  showCards();
}));
function openRest(button) {
  button.addEventListener("click", () => {
    const rows = button.closest("tbody").nextElementSibling;
    if (rows.dataset.open) delete rows.dataset.open; else rows.dataset.open = "1";
    rows.hidden = !rows.dataset.open;
    button.setAttribute("aria-expanded", String(!rows.hidden));
  });
}
all(".rest").forEach(openRest);

// Tables: sort by a column; words upwards, numbers downwards first. Rows without a number stay last.
function valueOf(row, i) {
  const cell = row.cells[i], text = cell.dataset.v ?? cell.textContent.trim();
  const number = Number(text.replace("−", "-").replace(/,/g, ""));
  return text === "" || text.startsWith("–") ? null : Number.isNaN(number) ? text.toLowerCase() : number;
}

for (const table of all(".sortable")) {
  const heads = all("thead th", table);
  heads.forEach((th, i) => one("button", th).addEventListener("click", () => {
    const bodies = [...table.tBodies], rowsOf = (body) => [...body.rows].filter((r) => !r.matches(".part"));
    const text = bodies.flatMap(rowsOf).some((r) => typeof valueOf(r, i) === "string");
    const up = th.ariaSort ? th.ariaSort === "descending" : text;
    heads.forEach((h) => h.removeAttribute("aria-sort"));
    th.setAttribute("aria-sort", up ? "ascending" : "descending");
    for (const body of bodies) {
      const keyed = rowsOf(body).map((row) => ({ row, key: valueOf(row, i) }));
      keyed.sort((x, y) => x.key === null || y.key === null ? (x.key === null) - (y.key === null)
        : (text ? String(x.key).localeCompare(String(y.key)) : x.key - y.key) * (up ? 1 : -1));
      body.append(...keyed.map((k) => k.row));
    }
  }));
}

one("#find")?.addEventListener("input", (event) => {
  const words = event.target.value.toLowerCase().split(/\s+/).filter(Boolean), rows = all(".board tbody tr[data-name]");
  rows.forEach((r) => (r.hidden = !words.every((w) => r.dataset.name.includes(w))));
  one("#found").textContent = words.length ? `${rows.filter((r) => !r.hidden).length} of ${rows.length} models` : "";
});

// Copy, theme, the section in view, links into closed details, print.
all("[data-copy]").forEach((b) => b.addEventListener("click", async () => {
  const source = one(`#${b.dataset.copy}`);
  try { await navigator.clipboard.writeText(source.textContent); b.textContent = "Copied"; }
  catch { getSelection().selectAllChildren(source); b.textContent = "Press Ctrl+C"; }
  setTimeout(() => (b.textContent = "Copy"), 1500);
}));

const themes = ["auto", "light", "dark"], button = one("#theme");
function setTheme(name) {
  if (name === "auto") delete document.documentElement.dataset.theme; else document.documentElement.dataset.theme = name;
  one(".now", button).textContent = `${name[0].toUpperCase()}${name.slice(1)}`;
  button.dataset.now = name;
  try { localStorage.setItem("cocabench-theme", name); } catch { /* a page from a file may have no storage */ }
}
let kept = null;
try { kept = localStorage.getItem("cocabench-theme"); } catch { /* as above */ }
setTheme(themes.includes(kept) ? kept : "auto");
button.addEventListener("click", () => setTheme(themes[(themes.indexOf(button.dataset.now) + 1) % 3]));

const links = new Map(all(".top nav a").map((a) => [a.hash.slice(1), a]));
const seen = new IntersectionObserver((entries) => entries.forEach((e) => {
  if (!e.isIntersecting) return;
  links.forEach((a) => a.removeAttribute("aria-current"));
  links.get(e.target.id)?.setAttribute("aria-current", "true");
}), { rootMargin: "-20% 0px -75% 0px" });
all("main > section").forEach((s) => seen.observe(s));

function openTarget() {
  const target = location.hash.length > 1 ? document.getElementById(decodeURIComponent(location.hash.slice(1))) : null;
  for (let e = target; e; e = e.parentElement) if (e.matches("details")) e.open = true;
  target?.scrollIntoView();
}
addEventListener("hashchange", openTarget);
if (location.hash) openTarget();

// What scrolls can be reached by keyboard.
function reach() {
  for (const box of all(".cards, .scroll, .three, .top nav")) {
    if (box.scrollWidth > box.clientWidth + 1 || box.scrollHeight > box.clientHeight + 1) box.tabIndex = 0;
    else box.removeAttribute("tabindex");
  }
}
addEventListener("resize", reach);
document.addEventListener("toggle", reach, true);
const closed = [];
addEventListener("beforeprint", () => {
  const found = all("details:not([open])").filter((d) => !d.closest("#methods details details"));
  found.forEach((d) => (d.open = true));
  closed.push(...found);  // a preview may begin twice before it ends
});
addEventListener("afterprint", () => closed.splice(0).forEach((d) => (d.open = false)));
sync();
reach();
