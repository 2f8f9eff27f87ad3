/* A short table: all its rows are here. `columns`: `[{key, title, align, cell(row), isHeader}]` */
import { html } from "../lib/html.js";

export function PlainTable({ caption, columns, rows, keyOf = (row, index) => index, classOf }) {
  return html`<div class="plain-table" role="region" aria-label=${caption} tabindex="0">
    <table>
      <caption class="unseen">${caption}</caption>
      <thead>
        <tr>${columns.map((column) => html`<th key=${column.key} scope="col" class=${column.align ?? ""}>${column.title}</th>`)}</tr>
      </thead>
      <tbody>
        ${rows.map((row, index) => html`<tr key=${keyOf(row, index)} class=${classOf ? classOf(row, index) : ""}>
          ${columns.map((column) => column.isHeader
            ? html`<th key=${column.key} scope="row">${column.cell(row, index)}</th>`
            : html`<td key=${column.key} class=${column.align ?? ""}>${column.cell(row, index)}</td>`)}
        </tr>`)}
      </tbody>
    </table>
  </div>`;
}
