// The list of slides: found by words, filtered by flags, and shown some rows at a time.
const list = document.getElementById("list"), at = (id) => document.getElementById(id);
const PAGE = Number(list.dataset.page);
const words = new Map([...list.tBodies[0].rows].map((row) =>
  [row, [...row.querySelectorAll("th, td.text")].map((cell) => cell.textContent).join(" ").toLowerCase()]));
let first = 0;

function matches(row) {
  const flag = at("flag").value, flags = row.dataset.flags.split("|").filter(Boolean);
  if (flag && !(flag === "none" ? flags.length === 0 : flags.includes(flag))) return false;
  return at("text").value.toLowerCase().split(/\s+/).every((word) => words.get(row).includes(word));
}

function lay() {
  const rows = [...list.tBodies[0].rows], found = rows.filter(matches);
  first = Math.max(0, Math.min(first, Math.floor((found.length - 1) / PAGE) * PAGE));
  const seen = new Set(found.slice(first, first + PAGE));
  for (const row of rows) row.hidden = !seen.has(row);
  at("count").textContent = found.length === rows.length ? `${rows.length} slides` : `${found.length} of ${rows.length} slides`;
  at("pager").hidden = found.length <= PAGE;
  at("page-of").textContent = `${first + 1} – ${Math.min(first + PAGE, found.length)} of ${found.length}`;
  at("before").disabled = first === 0;
  at("after").disabled = first + PAGE >= found.length;
}

const anew = () => { first = 0; lay(); };
at("text").addEventListener("input", anew);
at("flag").addEventListener("change", anew);
list.addEventListener("sorted", anew);
at("before").addEventListener("click", () => { first -= PAGE; lay(); });
at("after").addEventListener("click", () => { first += PAGE; lay(); });
lay();

// An address with #slide=… leads on to the page of that slide, with all that it says.
const wanted = new URLSearchParams(location.hash.slice(1)).get("slide");
const link = [...document.querySelectorAll("a[data-slide]")].find((a) => a.dataset.slide === wanted);
if (link) location.replace(link.href + location.hash);
