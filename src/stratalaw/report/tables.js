"use strict";
/* Tables whose headers sort and whose rows a text filters. A cell sorts by its data-value, or else by its text. */
for (const table of document.querySelectorAll("table.sortable")) {
  const body = table.tBodies[0], headers = [...table.tHead.rows[0].cells], rows = [...body.rows];
  const key = (row, column) => {
    const cell = row.cells[column];
    return "value" in cell.dataset ? (cell.dataset.value === "" ? null : Number(cell.dataset.value)) : cell.textContent;
  };
  const compare = (a, b) => (typeof a === "number" ? a - b : a.localeCompare(b, "en", { numeric: true }));
  headers.forEach((header, column) => {
    header.querySelector("button").addEventListener("click", () => {
      const sign = header.getAttribute("aria-sort") === "ascending" ? -1 : 1;
      for (const other of headers) other.removeAttribute("aria-sort");
      header.setAttribute("aria-sort", sign > 0 ? "ascending" : "descending");
      /* What is missing comes last both ways. */
      const place = row => [key(row, column) === null ? 1 : 0, key(row, column)];
      rows.sort((one, other) => {
        const [a, x] = place(one), [b, y] = place(other);
        return a || b ? a - b : sign * compare(x, y);
      });
      body.append(...rows);
    });
  });
  const filter = document.getElementById(table.dataset.filter), count = document.getElementById(table.dataset.count);
  const show = () => {
    const words = filter.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    for (const row of rows) {
      row.hidden = !words.every(word => row.textContent.toLowerCase().includes(word));
      shown += !row.hidden;
    }
    count.textContent = `${shown} of ${rows.length} rows`;
  };
  filter.addEventListener("input", show);
  show();
}
