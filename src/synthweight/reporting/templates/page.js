"use strict";
const none = v => v === null || v === undefined || v === "";
const key = v => Array.isArray(v) ? v[0] : v;  // an interval is sorted by its mean
function compare(a, b, direction) {  // holes last, in either direction
  [a, b] = [key(a), key(b)];
  return none(a) - none(b) || direction * (typeof a === "number" && typeof b === "number" ? a - b :
    String(a).localeCompare(String(b), undefined, {numeric: true}));
}
function make(tag, values = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(values)) name in made ? made[name] = value : made.setAttribute(name, value);
  made.append(...children);
  return made;
}
function headButton(head, sort) {
  const button = make("button", {type: "button", onclick: sort}, ...head.childNodes);
  head.replaceChildren(button);
}
function mark(heads, by, direction) {
  heads.forEach((head, i) => head.setAttribute("aria-sort", i !== by ? "none" : direction > 0 ? "ascending" : "descending"));
}

// A whole table: a click on a column's head sorts it, by data-value where a cell has one.
for (const table of document.querySelectorAll("table.results")) {
  const heads = [...table.tHead.rows[0].cells], body = table.tBodies[0];
  let by = -1, direction = 1;
  const value = (row, i) => {
    const cell = row.cells[i];
    return cell.dataset.value !== undefined ? Number(cell.dataset.value) : cell.classList.contains("n") ? null : cell.textContent;
  };
  heads.forEach((head, i) => headButton(head, () => {
    direction = by === i ? -direction : head.classList.contains("n") ? -1 : 1;
    by = i;
    body.append(...[...body.rows].sort((a, b) => compare(value(a, i), value(b, i), direction)));
    mark(heads, by, direction);
  }));
}

// A long table: its rows are JSON, shown in parts, with a search and choices.
function intervalSvg([mean, low, high], from, to) {
  const x = v => 4 + 192 * (v - from) / (to - from || 1), none = low === null;
  return `<svg viewBox="0 0 200 14" aria-hidden="true"><line class="ideal" x1="${x(0)}" x2="${x(0)}" y1="0" y2="14"/>` +
    (none ? "" : `<line class="range" x1="${x(low)}" x2="${x(high)}" y1="7" y2="7"/>`) +
    `<circle class="dot" cx="${x(mean)}" cy="7" r="4"/></svg>`;
}
for (const root of document.querySelectorAll("div.long-table")) {
  const {columns, rows, sort, direction: first, filters, page} = JSON.parse(root.querySelector("script").textContent);
  const words = make("input", {type: "search", placeholder: "search", "aria-label": "search"});
  const values = i => [...new Set(rows.map(r => r[i]))].filter(v => !none(v));
  const chosen = filters.filter(i => values(i).length > 1), choices = chosen.map(i => make("select", {"aria-label": columns[i][0]},
    new Option(`every ${columns[i][0]}`, ""), ...values(i).map(v => new Option(v))));
  const before = make("button", {type: "button"}, "‹ before"), after = make("button", {type: "button"}, "after ›");
  const count = make("p", {className: "soft", "aria-live": "polite"});
  const heads = columns.map(([title, kind]) => make("th", {scope: "col", className: kind === "number" ? "n" : ""}, title));
  const body = make("tbody"), table = make("table", {}, make("thead", {}, make("tr", {}, ...heads)), body);
  const controls = make("div", {className: "controls"}, words, ...choices, before, after);
  root.append(controls, count, make("div", {className: "wide"}, table));
  const ends = columns.map(([, kind], i) => kind !== "interval" ? null : rows.flatMap(r => r[i] ?? []).filter(v => v !== null));
  const ranges = ends.map(values => values && values.reduce(([a, b], v) => [Math.min(a, v), Math.max(b, v)], [0, 0]));
  const decimals = columns.map(([, kind], i) => kind !== "number" ? null :
    rows.reduce((most, r) => Math.max(most, (String(r[i] ?? "").split(".")[1] ?? "").length), 0));
  const text = (value, i) => typeof value === "number" && decimals[i] !== null ? value.toFixed(decimals[i]) : value ?? "";
  let by = sort, direction = first, start = 0;
  function update(again) {
    if (again) start = 0;
    const wanted = words.value.toLowerCase().split(/\s+/);
    const found = rows.filter(r => choices.every((choice, k) => !choice.value || String(r[chosen[k]]) === choice.value) &&
      (!words.value || wanted.every(w => r.join(" ").toLowerCase().includes(w))));
    if (by >= 0) found.sort((a, b) => compare(a[by], b[by], direction));
    start = Math.max(0, Math.min(start, Math.floor((found.length - 1) / page) * page));
    body.replaceChildren(...found.slice(start, start + page).map(r => make("tr", {}, ...columns.map(([, kind], i) => {
      const cell = make("td", {className: kind === "number" ? "n" : kind === "verdict" ? `verdict-${String(r[i]).replace(/ /g, "-")}` : kind});
      if (kind === "interval") cell.innerHTML = r[i] ? intervalSvg(r[i], ...ranges[i]) : ""; else cell.textContent = text(r[i], i);
      return cell;
    }))));
    const last = Math.min(start + page, found.length);
    count.textContent = found.length ? `${start + 1}–${last} of ${found.length}` : "none";
    [before.disabled, after.disabled] = [start === 0, last === found.length];
    before.hidden = after.hidden = found.length <= page;
    mark(heads, by, direction);
  }
  heads.forEach((head, i) => headButton(head, () => { direction = by === i ? -direction : 1; by = i; update(true); }));
  for (const control of [words, ...choices]) control.oninput = () => update(true);
  before.onclick = () => { start -= page; update(false); };
  after.onclick = () => { start += page; update(false); };
  update(true);
}
