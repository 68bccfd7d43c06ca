"use strict";
(() => {
  const $ = (selector, root = document) => root.querySelector(selector);
  const $$ = (selector, root = document) => [...root.querySelectorAll(selector)];
  const data = JSON.parse($("#data").textContent);
  const points = (value, unit) => (unit === "fraction" || unit === "score" ? 100 * value : value);
  const signed = (value) => (Math.abs(value) < 0.05 ? "0.0" : (value > 0 ? "+" : "−") + Math.abs(value).toFixed(1));

  // Theme: automatic, light or dark.
  const themes = ["auto", "light", "dark"];
  const button = $("#theme");
  const setTheme = (theme) => {
    if (theme === "auto") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = theme;
    button.dataset.now = theme;
    $("span", button).textContent = theme[0].toUpperCase() + theme.slice(1);
    button.setAttribute("aria-label", `Theme: ${theme === "auto" ? "automatic" : theme}`);
  };
  button.hidden = false;
  setTheme("auto");
  button.addEventListener("click", () => setTheme(themes[(themes.indexOf(button.dataset.now) + 1) % 3]));

  // Sorting: column heads become buttons; rows are sorted within each part of a table.
  const key = (cell) => {
    if (!cell) return null;
    if (cell.dataset.v !== undefined) return Number(cell.dataset.v);
    const text = cell.textContent.trim();
    return text === "" || text === "–" ? null : text;
  };
  const compare = (a, b, sign) => {
    if (a === null || b === null) return (a === null) - (b === null);
    if (typeof a !== typeof b) return typeof a === "number" ? -1 : 1;
    return sign * (typeof a === "number" ? a - b : a.localeCompare(b, "en", { numeric: true }));
  };
  const sort = (table, head, index) => {
    const numeric = head.classList.contains("num");
    const now = head.getAttribute("aria-sort");
    const next = now === "none" ? (numeric ? "descending" : "ascending") : now === "ascending" ? "descending" : "ascending";
    $$("thead th[aria-sort]", table).forEach((th) => th.setAttribute("aria-sort", "none"));
    head.setAttribute("aria-sort", next);
    for (const body of table.tBodies) {
      const rows = [...body.rows].filter((row) => !row.classList.contains("part"));
      const keyed = rows.map((row) => [key(row.cells[index]), row]);
      keyed.sort((a, b) => compare(a[0], b[0], next === "ascending" ? 1 : -1));
      body.append(...keyed.map(([, row]) => row));
    }
  };
  for (const table of $$("table.sortable")) {
    $$("thead th", table).forEach((head, index) => {
      const inner = document.createElement("button");
      inner.type = "button";
      inner.append(...head.childNodes);
      head.append(inner);
      head.setAttribute("aria-sort", "none");
      inner.addEventListener("click", () => sort(table, head, index));
    });
  }

  // Filtering tasks by group and text; the leaderboard shows the rows of the group, the heat map its columns.
  const group = $("#group");
  const find = $("#find");
  const count = $("#count");
  const tagged = (element, wanted) => JSON.parse(element.dataset.tags).includes(wanted);
  const filter = () => {
    const wanted = group ? group.value : "all tasks";
    const text = find.value.trim().toLowerCase();
    $$("#table-standings tr[data-tags]").forEach((row) => (row.hidden = !tagged(row, wanted)));
    const rows = $$("#table-results tr[data-tags]");
    for (const row of rows) {
      const words = `${row.cells[0].textContent} ${row.cells[1].textContent}`.toLowerCase();
      row.hidden = !tagged(row, wanted) || !words.includes(text);
    }
    for (const body of $("#table-results").tBodies) body.hidden = $$("tr[data-tags]", body).every((row) => row.hidden);
    const shown = rows.filter((row) => !row.hidden).length;
    count.textContent = shown === rows.length ? `${rows.length} tasks` : `${shown} of ${rows.length} tasks`;
  };
  const filterHeat = () => {
    const hidden = $$("#table-heat thead th").map((head) => head.dataset.tags && !tagged(head, group.value));
    for (const row of $$("#table-heat tr")) [...row.cells].forEach((cell, i) => (cell.hidden = Boolean(hidden[i])));
  };
  if (group) group.addEventListener("change", filter);
  if (group && $("#table-heat")) group.addEventListener("change", filterHeat);
  find.addEventListener("input", filter);
  filter();

  // Choosing models; the leaderboard and the heat map always show all.
  const choice = $("#choice");
  const boxes = choice ? $$("fieldset input", choice) : [];
  const choose = (wanted) => {
    boxes.forEach((box, i) => (box.checked = wanted(box, i)));
    const chosen = new Set(boxes.filter((box) => box.checked).map((box) => box.value));
    for (const item of $$("[data-col], [data-row]")) item.hidden = !chosen.has(item.dataset.col ?? item.dataset.row);
    for (const part of $$("tr.part")) {
      const rows = $$("tr[data-row]", part.parentElement);
      part.hidden = rows.length > 0 && rows.every((row) => row.hidden);
    }
    $("[role=status]", choice).textContent = `${chosen.size} of ${boxes.length}`;
  };
  if (choice) {
    choice.hidden = false;
    const best = boxes.filter((box) => box.defaultChecked).length;
    const ways = { best: (_, i) => i < best, all: () => true, none: () => false };
    const search = $("#find-model");
    choice.addEventListener("change", ({ target }) => target !== search && choose((box) => box.checked));
    $$("[data-choose]", choice).forEach((way) => way.addEventListener("click", () => choose(ways[way.dataset.choose])));
    search.addEventListener("input", () => {
      const text = search.value.trim().toLowerCase();
      for (const box of boxes) box.parentElement.hidden = !box.parentElement.textContent.toLowerCase().includes(text);
    });
    document.addEventListener("pointerdown", ({ target }) => choice.contains(target) || (choice.open = false));
    choice.addEventListener("keydown", (event) => {
      if (event.key !== "Escape") return;
      choice.open = false;
      $("summary", choice).focus();
    });
  }

  // Figure 1 for two chosen models: the existing rows are refilled.
  const percent = (value) => `${Math.max(0, Math.min(100, value)).toFixed(2)}%`;
  const place = (element, from, to) => {
    element.hidden = from === null || to === null;
    if (element.hidden) return;
    element.style.left = percent(Math.min(from, to));
    element.style.width = percent(Math.abs(to - from));
  };
  const names = $$("#names > .named");
  const named = (index) => names[index].cloneNode(true);
  const swatch = (index) => $("svg", names[index]).cloneNode(true);
  const broken = (text) => text.split(/(?<=[-_/:])(?=[^-_/:\s])/).flatMap((part, i) => (i ? [document.createElement("wbr"), part] : [part]));
  const withRows = (table, wanted) => {
    const body = table.tBodies[0];
    while (body.rows.length > wanted) body.lastElementChild.remove();
    while (body.rows.length < wanted) body.append(body.rows[0].cloneNode(true));
    return [...body.rows];
  };
  const head = (table, sides) => {
    ["one", "two"].forEach((side, i) => $(`caption .${side}`, table).replaceChildren(named(sides[i])));
  };
  const colour = (element, index) => {
    element.classList.remove(...[0, 1, 2, 3, 4, 5].map((i) => `c${i}`));
    element.classList.add(`c${data.models[index].colour}`);
  };
  const drawScores = (rows, sides) => {
    const table = $("#scores");
    const highest = Math.max(...rows.flatMap(([, a, b]) => [a[0], b[0]]));
    const top = highest > 60 ? 100 : Math.ceil((1.12 * highest) / 4) * 4 || 4;
    head(table, sides);
    $$(".ticks span", table).forEach((tick, i) => (tick.textContent = ((top * i) / 4).toFixed(0)));
    ["one", "two"].forEach((side, i) => {
      const label = document.createElement("span");
      label.className = "hidden";
      label.textContent = data.models[sides[i]].name;
      $(`thead .${side}`, table).replaceChildren(swatch(sides[i]), label);
    });
    const sorted = [...rows].sort((a, b) => b[1][0] - a[1][0]);
    withRows(table, sorted.length).forEach((row, y) => {
      const [label, ...scores] = sorted[y];
      row.cells[0].replaceChildren(...broken(label));
      ["one", "two"].forEach((side, i) => {
        const [value, low, high] = scores[i];
        const span = $(`.span.${side}`, row);
        place(span, low === null ? null : (100 * low) / top, high === null ? null : (100 * high) / top);
        colour(span, sides[i]);
        const mark = $(`.mark.${side}`, row);
        mark.style.left = percent((100 * value) / top);
        mark.replaceChildren(swatch(sides[i]));
        row.cells[2 + i].textContent = value.toFixed(1);
      });
    });
  };
  // Findings: 0 first better, 1 second better.
  const [NOT_SIGNIFICANT, UNTESTED] = [2, 3];
  const drawGaps = (rows, sides) => {
    const table = $("#gaps");
    head(table, sides);
    const ends = rows.flatMap(([, , , gap]) => gap.filter((end) => end !== null));
    const [low, high] = [Math.min(0, ...ends), Math.max(0, ...ends)];
    const at = (value) => (value === null ? null : high === low ? 0 : (100 * (value - low)) / (high - low));
    const sorted = [...rows].sort((a, b) => b[3][0] - a[3][0]);
    withRows(table, sorted.length).forEach((row, y) => {
      const [label, , , gap, found, detail] = sorted[y];
      row.cells[0].replaceChildren(...broken(label));
      $(".zero", row).style.left = percent(at(0));
      place($(".fill", row), at(0), at(gap[0]));
      colour($(".fill", row), sides[gap[0] > 0 ? 0 : 1]);
      place($(".span", row), at(gap[1]), at(gap[2]));
      $(".fill", row).classList.toggle("faded", found === NOT_SIGNIFICANT || found === UNTESTED);
      const said = document.createElement("span");
      said.className = "hidden";
      said.textContent = ` ${data.findings[found] ?? ""}${detail}`;
      row.cells[2].replaceChildren(signed(gap[0]), said);
    });
  };
  const swap = ([label, a, b, [value, low, high], found, detail]) => {
    const back = found < NOT_SIGNIFICANT ? 1 - found : found;
    return [label, b, a, [-value, high === null ? null : -high, low === null ? null : -low], back, detail];
  };
  // A pair that was not tested: its values, where the protocols are equal.
  const untested = (sides) => {
    const [mine, theirs] = sides.map((side) => {
      const records = Object.values(data.records).filter((record) => record.model === data.models[side].name);
      return new Map(records.map((record) => [record.task, record]));
    });
    const score = (found) => [0, 1, 2].map((i) => (found[i] === null ? null : points(found[i], found[4])));
    const rows = [];
    const alone = {};
    for (const [task, record] of mine) {
      const other = theirs.get(task);
      const metric = record.primary;
      const [a, b] = [record, other].map((one) => one && one.metrics[metric]);
      if (!a || !b || a[0] === null || b[0] === null || a[4] !== "fraction" || record.protocol !== other.protocol) continue;
      const [first, second] = [score(a), score(b)];
      const figure = data.kinds[record.kind];
      if (!figure) continue;
      const label = metric === figure.unnamed ? task : `${task} (${metric})`;
      const row = [label, first, second, [first[0] - second[0], null, null], UNTESTED, "not tested"];
      rows.push(row);
      if (figure.alone) (alone[record.kind] ??= []).push(row);
    }
    const kind = Object.values(alone)[0];
    const about = "values only: these two models were not tested (cocabench report --models A,B tests a pair)";
    return rows.length ? { rows: kind ?? rows, about } : undefined;
  };
  const drawPair = () => {
    const sides = [Number($("#first").value), Number($("#second").value)];
    const straight = data.pairs[sides.join("-")];
    const swapped = data.pairs[[...sides].reverse().join("-")];
    const found = sides[0] === sides[1] ? undefined : straight || swapped || untested(sides);
    $("#pair-message").textContent = found ? "" : sides[0] === sides[1] ? "Choose two different models." : "These two models have no comparable number in common.";
    $(".pair").hidden = $("#pair-about").hidden = !found;
    if (!found) return;
    const rows = found === swapped ? found.rows.map(swap) : found.rows;
    drawScores(rows, sides);
    drawGaps(rows, sides);
    $("#pair-about").textContent = `${found.about[0].toUpperCase()}${found.about.slice(1)}.`;
  };
  if ($("#first")) {
    $("#first").addEventListener("change", drawPair);
    $("#second").addEventListener("change", drawPair);
  }

  // Galleries: load images when a task is opened; show the items on which two chosen models differ.
  const fill = (root) =>
    $$("img[data-image]", root).forEach((image) => (image.src = data.images[image.dataset.image]));
  $$("details.samples").forEach((task) => task.addEventListener("toggle", () => task.open && fill(task)));
  const outcomes = {
    all: () => true,
    first: (a, b) => a > b,
    second: (a, b) => b > a,
    right: (a, b) => a >= 1 && b >= 1,
    wrong: (a, b) => a <= 0 && b <= 0,
  };
  const pick = (gallery) => {
    const [wanted, a, b] = ["outcome", "a", "b"].map((name) => $(`select.${name}`, gallery).value);
    const items = $$(".items > li", gallery);
    for (const item of items) {
      const values = item.dataset.values.split(" ").map(Number);
      item.hidden = !outcomes[wanted](values[a], values[b]);
    }
    const showAll = $("input.all-models", gallery);
    if (showAll)
      for (const answer of $$(".answer", gallery))
        answer.hidden = !showAll.checked && answer.dataset.of !== a && answer.dataset.of !== b;
    $("output", gallery).textContent = `${items.filter((item) => !item.hidden).length} of ${items.length} shown`;
  };
  for (const gallery of $$(".gallery")) {
    if (!$("select", gallery)) continue;
    gallery.addEventListener("change", () => pick(gallery));
    pick(gallery);
  }

  // Tooltips with a number's details, on hover and focus; Escape hides them.
  const tip = $("#tip");
  const others = (record, shown) => {
    const known = Object.entries(record.metrics).filter(([name, [value]]) => name !== shown && value !== null);
    const words = known.slice(0, 6).map(([name, [value, , , , unit]]) => `${name} ${points(value, unit).toFixed(1)}`);
    return words.length ? `also: ${words.join(", ")}${known.length > 6 ? " …" : ""}` : "";
  };
  const text = (link) => {
    const target = link.dataset.r || link.hash.slice(1);
    if (target.startsWith("note-")) return $(`#${target}`).textContent;
    const record = data.records[target];
    const metric = link.dataset.m || (record && record.primary);
    const found = record && record.metrics[metric];
    if (!found) return "";
    const [value, low, high, n, unit] = found;
    const number = (x) => points(x, unit).toFixed(2);
    const interval = low === null || high === null ? "" : `, 95 % interval ${number(low)} to ${number(high)}`;
    const lines = [
      `${record.model} on ${record.task}`,
      `${metric} ${value === null ? "undefined" : number(value)}${interval}`,
      n ? `over ${n.toLocaleString("en")} images` : "",
      others(record, metric),
      `signature ${record.signature}, ${record.created}`,
      ...record.notes.map((note) => `Note: ${note}`),
    ];
    return lines.filter(Boolean).join("\n");
  };
  let owner = null;
  const hide = () => {
    if (owner) owner.removeAttribute("aria-describedby");
    owner = null;
    tip.hidden = true;
  };
  const show = (link) => {
    const words = text(link);
    if (!words) return;
    hide();
    owner = link;
    tip.textContent = words;
    tip.hidden = false;
    link.setAttribute("aria-describedby", "tip");
    move();
  };
  const move = () => {
    const box = owner.getBoundingClientRect();
    const below = box.bottom + 8 + tip.offsetHeight < innerHeight;
    tip.style.top = `${below ? box.bottom + 6 : Math.max(4, box.top - tip.offsetHeight - 6)}px`;
    tip.style.left = `${Math.max(8, Math.min(box.left, innerWidth - tip.offsetWidth - 8))}px`;
  };
  const link = (event) => (event.target instanceof Element ? event.target.closest("a.n, .note-mark a, td[data-r]") : null);
  document.addEventListener("pointerover", (event) => {
    const found = link(event);
    if (found && found !== owner) show(found);
    else if (!found && owner && event.target !== tip && document.activeElement !== owner) hide();
  });
  document.addEventListener("focusin", (event) => (link(event) ? show(link(event)) : hide()));
  document.addEventListener("keydown", (event) => event.key === "Escape" && hide());
  const scrolled = () => owner && (document.activeElement === owner ? move() : hide());
  document.addEventListener("scroll", scrolled, { passive: true, capture: true });

  // Open collapsed sections for printing.
  let collapsed = [];
  addEventListener("beforeprint", () => {
    collapsed = $$("#methods details:not([open])");
    collapsed.forEach((item) => (item.open = true));
  });
  addEventListener("afterprint", () => collapsed.forEach((item) => (item.open = false)));
})();
