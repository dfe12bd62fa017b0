// Tables that sort by a click or a key, and choices between views of them. Without this script every
// view is shown, and the rows stand as they were written.

/** Return what a row is sorted by: a number, a text, or null where there is nothing. */
function keyOf(row, column, numeric) {
  const cell = row.cells[column];
  if (!numeric) return cell.textContent.trim();
  return "v" in cell.dataset ? Number(cell.dataset.v) : null;
}

function compare(a, b, numeric) {
  if (a === null || b === null) return (a === null) - (b === null);
  return numeric ? a - b : a.localeCompare(b, undefined, { numeric: true });
}

/** Sort the first body of a table; what is missing stays last, and floors stay below. */
function sort(table, header, way) {
  for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
  header.setAttribute("aria-sort", way);
  const numeric = header.dataset.kind === "number", sign = way === "ascending" ? 1 : -1;
  const keyed = [...table.tBodies[0].rows].map((row) => [keyOf(row, header.cellIndex, numeric), row]);
  keyed.sort(([a], [b]) => (a === null || b === null ? 1 : sign) * compare(a, b, numeric));
  table.tBodies[0].append(...keyed.map(([, row]) => row));
  table.dispatchEvent(new CustomEvent("sorted"));
}

for (const table of document.querySelectorAll("table.sortable"))
  for (const header of table.tHead.rows[0].cells) {
    if (header.dataset.kind === "none") continue;
    const button = document.createElement("button");
    button.type = "button";
    button.className = "sort";
    button.append(...header.childNodes);
    header.append(button);
    button.addEventListener("click", () =>
      sort(table, header, header.getAttribute("aria-sort") === "ascending" ? "descending" : "ascending"));
  }

/** Show what belongs to a choice, and hide the rest of its section. */
function show(radio) {
  for (const part of radio.closest("section").querySelectorAll("[data-view]"))
    part.hidden = part.dataset.view !== radio.value;
}

for (const choice of document.querySelectorAll(".choose")) choice.hidden = false;
for (const radio of document.querySelectorAll("input[name$='-view']")) {
  radio.addEventListener("change", () => show(radio));
  if (radio.checked) show(radio);
}
