/* A table of any length of which only the rows in sight are in the document. Rows are all as high as `ROW`; the list behind it
   (`lib/rows.js`) is asked for what scrolls into sight.

   Keyboard, as ARIA's grid pattern has it: the table takes the focus, the arrow keys move the current row, Enter opens it, Tab goes on to
   the buttons of the current row. */
import { useNow } from "../lib/clock.js";
import { html, useEffect, useId, useLayoutEffect, useRef, useState } from "../lib/html.js";
import { Cells, Head } from "./table_rows.js";

export const ROW = 32;
const BEYOND = 6; // rows drawn beyond what is in sight, on either side

export function VirtualTable({ label, columns, rows, rowId, sort, onSort, onOpen, empty, perSecond = true }) {
  const scroller = useRef(null);
  const id = useId();
  const [box, setBox] = useState({ width: 0, height: 0 });
  const [first, setFirst] = useState(0);
  const [current, setCurrent] = useState(0);
  const now_s = useNow(perSecond ? 1 : 3600);
  const total = rows?.total ?? null;
  const num = Math.ceil(box.height / ROW) + 1;
  const from = Math.max(0, first - BEYOND);
  const until = Math.min(total ?? 0, first + num + BEYOND);

  useLayoutEffect(() => {
    const watch = new ResizeObserver(([entry]) => setBox({ width: entry.contentRect.width, height: entry.contentRect.height }));
    watch.observe(scroller.current);
    return () => watch.disconnect();
  }, []);
  useEffect(() => rows?.want(from, Math.max(from, until - 1)), [rows, from, until]);
  useEffect(() => {
    if (total !== null && current >= total) setCurrent(Math.max(0, total - 1));
  }, [total]);

  const scroll = () => setFirst(Math.floor(scroller.current.scrollTop / ROW));
  const move = (index) => {
    const wanted = Math.min(Math.max(0, index), (total ?? 1) - 1);
    setCurrent(wanted);
    const { scrollTop, clientHeight } = scroller.current;
    const room = clientHeight - ROW; // the head stays in sight
    if (wanted * ROW < scrollTop) scroller.current.scrollTop = wanted * ROW;
    else if ((wanted + 1) * ROW > scrollTop + room) scroller.current.scrollTop = (wanted + 1) * ROW - room;
  };
  const key = (event) => {
    if (event.target !== scroller.current || !total) return;
    const step = { ArrowDown: 1, ArrowUp: -1, PageDown: num - 2, PageUp: 2 - num, Home: -total, End: total }[event.key];
    if (step !== undefined) move(current + step);
    else if (event.key === "Enter" && rows.at(current)) onOpen?.(rows.at(current));
    else return;
    event.preventDefault();
  };

  const seen = columns.filter((column) => !column.from || box.width >= column.from);
  const grid = { gridTemplateColumns: seen.map((column) => column.width).join(" ") };
  const shown = [];
  for (let index = from; index < until; index++) {
    const row = rows.at(index);
    shown.push(html`<${Cells}
      key=${index}
      id=${`${id}-${index}`}
      index=${index}
      row=${row}
      rowKey=${row && rowId(row)}
      columns=${seen}
      grid=${grid}
      isCurrent=${index === current}
      now_s=${now_s}
      onOpen=${onOpen}
      onCurrent=${setCurrent}
    />`);
  }
  return html`<div
    class="virtual"
    ref=${scroller}
    role="grid"
    aria-label=${label}
    aria-rowcount=${total === null ? -1 : total + 1}
    aria-activedescendant=${total && current >= from && current < until ? `${id}-${current}` : undefined}
    tabindex="0"
    onScroll=${scroll}
    onKeyDown=${key}
  >
    <${Head} columns=${seen} grid=${grid} sort=${sort} onSort=${onSort} />
    <div class="virtual-body" role="rowgroup" style=${{ height: `${(total ?? 0) * ROW}px` }}>${shown}</div>
    ${total === null && !rows?.problem && html`<${Pale} num=${num} />`}
    ${total === 0 && html`<div class="virtual-empty" role="row"><div role="gridcell">${empty}</div></div>`}
  </div>`;
}

function Pale({ num }) {
  return html`<div aria-hidden="true">${Array.from({ length: Math.max(4, num - 1) }, () => html`<div class="row pale"><span class="waiting-line" /></div>`)}</div>`;
}
