"use strict";
const all = (q, root = document) => [...root.querySelectorAll(q)];
const body = document.querySelector("tbody"), rows = all("tr", body), find = document.querySelector("#find");
const texts = new Map(rows.map((row) => [row, row.textContent.toLowerCase()]));

function show() {
  const words = find.value.toLowerCase().split(/\s+/).filter(Boolean);
  const equal = all("[data-filter]").filter((e) => e.value).map((e) => [e.dataset.filter, e.value]);
  const most = all("[data-most]").filter((e) => e.value !== "").map((e) => [e.dataset.most, Number(e.value)]);
  const since = all("[data-since]").filter((e) => e.value).map((e) => [e.dataset.since, e.value]);
  let shown = 0;
  for (const row of rows) {
    const fits = words.every((w) => texts.get(row).includes(w)) && equal.every(([k, v]) => row.dataset[k] === v)
      && most.every(([k, v]) => row.dataset[k] !== "" && Number(row.dataset[k]) <= v) && since.every(([k, v]) => row.dataset[k] >= v);
    row.hidden = !fits;
    shown += fits;
  }
  document.querySelector("#found").textContent = shown === rows.length ? `${shown} results` : `${shown} of ${rows.length} results`;
}
document.addEventListener("input", show);

all("thead button").forEach((button, i) => button.addEventListener("click", () => {
  const th = button.parentElement, up = th.getAttribute("aria-sort") === (th.matches(".num") ? "descending" : null);
  all("thead th").forEach((other) => other.removeAttribute("aria-sort"));
  th.setAttribute("aria-sort", up ? "ascending" : "descending");
  const key = (row) => (th.matches(".num") ? (row.cells[i].dataset.v === "" ? null : Number(row.cells[i].dataset.v)) : row.cells[i].textContent);
  const keyed = rows.map((row) => ({ row, key: key(row) }));
  keyed.sort((x, y) => x.key === null || y.key === null ? (x.key === null) - (y.key === null)
    : (typeof x.key === "string" ? x.key.localeCompare(y.key) : x.key - y.key) * (up ? 1 : -1));
  body.append(...keyed.map((k) => k.row));
}));
show();  // a browser may have kept what was typed
