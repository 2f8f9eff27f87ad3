/* The head and the rows of a virtual table. A row is drawn anew only when what it shows has changed. */
import { html } from "../lib/html.js";

export function Head({ columns, grid, sort, onSort }) {
  return html`<div class="virtual-head" role="rowgroup">
    <div class="row head" role="row" aria-rowindex="1" style=${grid}>
      ${columns.map((column) => html`<${HeadCell} key=${column.key} column=${column} sort=${sort} onSort=${onSort} />`)}
    </div>
  </div>`;
}

function HeadCell({ column, sort, onSort }) {
  const isSorted = Boolean(column.sort) && sort?.by === column.sort;
  const order = isSorted ? (sort.descending ? "descending" : "ascending") : undefined;
  const press = () => onSort(nextSort(sort, column.sort));
  return html`<div role="columnheader" class=${`cell ${column.align ?? ""}`} aria-sort=${order}>
    ${column.sort
      ? html`<button type="button" class="sort" onClick=${press}>${column.title}<span aria-hidden="true">${isSorted ? (sort.descending ? " ↓" : " ↑") : ""}</span></button>`
      : column.title || html`<span class="unseen">${column.unseenTitle ?? column.key}</span>`}
  </div>`;
}

/** Up, then down, then the order in which the fabric gives them. */
function nextSort(sort, by) {
  if (sort?.by !== by) return { by, descending: false };
  return sort.descending ? { by: "", descending: false } : { by, descending: true };
}

export function Cells({ id, index, row, columns, grid, isCurrent, now_s, onOpen, onCurrent }) {
  const place = { ...grid, transform: `translateY(${index * 32}px)` };
  const press = () => {
    onCurrent(index);
    if (row && onOpen && !String(getSelection())) onOpen(row);
  };
  return html`<div
    id=${id}
    role="row"
    aria-rowindex=${index + 2}
    aria-selected=${isCurrent}
    class=${`row${isCurrent ? " current" : ""}${index % 2 ? " odd" : ""}${onOpen ? " opens" : ""}`}
    style=${place}
    onClick=${press}
  >
    ${columns.map((column) => html`<div key=${column.key} role="gridcell" class=${`cell ${column.align ?? ""} ${column.class ?? ""}`}>
      ${row ? column.cell(row, { now_s, isCurrent }) : html`<span class="waiting-line" />`}
    </div>`)}
  </div>`;
}
