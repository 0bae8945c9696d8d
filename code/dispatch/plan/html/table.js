// The table of tasks.

const table = byId("task-table");
const headers = Array.from(table.tHead.rows[0].cells);
const search = byId("search");
const box = table.closest("[tabindex]"); // in which the rows scroll
const margins = table.parentElement; // in place of the rows out of sight

// What a column says of a task; numbers sort as numbers.
const COLUMNS = {
  worker: (task) => workerOf[task],
  assets: (task) => {
    const held = tasks.assets[task];
    const names = held.slice(0, 3).map((asset) => assets.name[asset]).join(", ");
    return held.length > 3 ? `${names} and ${number(held.length - 3)} more` : names;
  },
  first: (task) => urlOf(task),
  files: (task) => tasks.files[task],
  size: (task) => tasks.size[task],
  parameters: (task) => tasks.parameters.values[tasks.parameters.rows[task]],
  id: (task) => tasks.id[task],
};
for (const [key, { values, rows }] of Object.entries(tasks.groups)) {
  COLUMNS[`group_metadata.${key}`] = (task) => values[rows[task]];
}
const MONOSPACED = ["parameters", "id"];
const CHARACTERS_AT_END = 12; // of a name that is cut in the middle

function shownIn(column, task) {
  const value = COLUMNS[column](task);
  if (typeof value === "string") return value;
  return column === "size" ? size(value) : String(value);
}

// The path of a task's first file below the location of its first asset; "" if it has no file.
function pathOf(task) {
  return (tasks.first[task] ?? []).join(assets.name[tasks.assets[task][0]]);
}

function urlOf(task) {
  const path = pathOf(task);
  const [asset] = tasks.assets[task];
  const isWhole = !path || /^\w+:\/\//.test(path);
  return isWhole ? path : `${assets.location[asset].join(assets.name[asset])}/${path}`;
}

// What cuts a string in its middle, where it is too long for its column.
function cutInMiddle(string) {
  const characters = [...string];
  if (characters.length <= 2 * CHARACTERS_AT_END) return [string];
  const end = characters.splice(-CHARACTERS_AT_END).join("");
  return [make("span", { class: "start" }, characters.join("")), make("span", {}, end)];
}

function cellOf(header, task) {
  const { column } = header.dataset;
  const string = shownIn(column, task);
  const label = { "data-label": header.textContent.trim() };
  if (header.classList.contains("n")) {
    return make("td", { role: "cell", class: "n", ...label }, string);
  }
  const shown = column === "first" ? pathOf(task) : string;
  const inside = MONOSPACED.includes(column) ? [make("code", {}, shown)] : cutInMiddle(shown);
  if (column === "assets") {
    return make("th", { role: "rowheader", scope: "row", title: string, ...label }, ...inside);
  }
  return make("td", { role: "cell", title: string, ...label }, ...inside);
}

// The tasks as they were made, before they were dealt.
const inOrder = [...allTasks].sort((a, b) => tasks.place[a] - tasks.place[b]);
let workerOf = tasks.worker;
let isChosenTask = allTasks.map(() => true);
let order = allTasks;
let listedTasks = allTasks; // those that the table lists, the first of them as rows
let searchedStrings; // of each task, what search looks at

function listTasks() {
  if (isByWorker) sortTasks(); // who may have been dealt others
  const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
  if (words.length) {
    searchedStrings ??= allTasks.map((task) =>
      headers.map((header) => shownIn(header.dataset.column, task)).join(" ").toLowerCase()
    );
  }
  listedTasks = order.filter(
    (task) => isChosenTask[task] && words.every((word) => searchedStrings[task].includes(word))
  );
  table.setAttribute("aria-rowcount", listedTasks.length + 1);
  box.scrollTop = 0;
  drawRowsAnew();
  let sentence = `${count(data.all_tasks, "task")}.`;
  if (data.all_tasks > allTasks.length) {
    sentence = `The first ${number(allTasks.length)} of ${count(data.all_tasks, "task")};`;
    sentence += " dispatch_plan.csv has all.";
  }
  if (listedTasks.length < allTasks.length || words.length) {
    sentence = `${number(listedTasks.length)} of ${number(allTasks.length)} rows match.`;
  }
  byId("shown").textContent = sentence;
}

// Rows only as they come into sight: 50,000 of them take seconds to lay out. All are equally high.
let rowHeight = 0;
let firstDrawn = -1;

function drawRows(first) {
  if (first === firstDrawn) return;
  firstDrawn = first;
  const drawn = listedTasks.slice(first, first + ROWS_AT_ONCE);
  const rows = drawn.map((task, place) => {
    const attributes = { role: "row", "aria-rowindex": first + place + 2 }; // the first one: header
    return make("tr", attributes, ...headers.map((header) => cellOf(header, task)));
  });
  table.tBodies[0].replaceChildren(...rows);
  // measured once, since to lay out all is what takes time
  rowHeight ||= table.tBodies[0].getBoundingClientRect().height / rows.length || 0;
  margins.style.paddingTop = `${first * rowHeight}px`;
  const after = listedTasks.length - first - drawn.length;
  margins.style.paddingBottom = `${after * rowHeight}px`;
}

function drawRowsInSight() {
  const inSight = rowHeight ? Math.floor(box.scrollTop / rowHeight) : 0; // a box shows 25 at most
  const step = ROWS_AT_ONCE / 4; // so that few scrolls draw anew, and some rows are there before
  drawRows(Math.max(0, (Math.floor(inSight / step) - 1) * step));
}

function drawRowsAnew() {
  [firstDrawn, rowHeight] = [-1, 0];
  drawRows(0); // which shows how high a row is
  drawRowsInSight();
}

// Paper has all rows, in a table of its own that no screen lays out, and all that is skipped.
let isOnPaper = false;

function goToPaper(isPaper) {
  if (isPaper === isOnPaper) return;
  isOnPaper = isPaper;
  byId("paper").replaceChildren(...(isPaper ? rowsForPaper() : []));
  listSkips(isPaper ? Infinity : NAMES_AT_ONCE);
}

function rowsForPaper() {
  const titles = headers.map((header) => make("th", { scope: "col" }, header.textContent.trim()));
  const rows = listedTasks.map((task) => {
    const cells = headers.map((header) => {
      const { column } = header.dataset;
      return make("td", {}, column === "first" ? pathOf(task) : shownIn(column, task));
    });
    return make("tr", {}, ...cells);
  });
  return [make("thead", {}, make("tr", {}, ...titles)), make("tbody", {}, ...rows)];
}

box.addEventListener("scroll", drawRowsInSight);
window.addEventListener("resize", drawRowsAnew);
window.addEventListener("beforeprint", () => goToPaper(true));
window.addEventListener("afterprint", () => goToPaper(false));
matchMedia("print").addEventListener("change", ({ matches }) => goToPaper(matches));
search.addEventListener("input", listTasks);

// By what the table is sorted: at first as the plan is, by worker.
let [sortedBy, isDescending, isByWorker] = ["worker", false, true];
let isSorted = false;

function sortTasks() {
  const keys = allTasks.map(COLUMNS[sortedBy]);
  const compare = (a, b) => (typeof a === "string" ? collator.compare(a, b) : a - b);
  const sign = isDescending ? -1 : 1;
  order = [...(isSorted ? order : inOrder)].sort((a, b) => sign * compare(keys[a], keys[b]));
}

for (const header of headers) {
  header.querySelector("button").addEventListener("click", () => {
    isDescending = header.getAttribute("aria-sort") === "ascending";
    sortedBy = header.dataset.column;
    isByWorker = sortedBy === "worker";
    isSorted = true;
    sortTasks();
    for (const other of headers) other.removeAttribute("aria-sort");
    header.setAttribute("aria-sort", isDescending ? "descending" : "ascending");
    listTasks();
  });
}
