// The table of tasks.

const table = byId("task-table");
const headers = Array.from(table.tHead.rows[0].cells);
const search = byId("search");
const moreButton = byId("more");

// What a column says of a task; numbers sort as numbers.
const COLUMNS = {
  worker: (task) => tasks.worker[task],
  assets: (task) => {
    const held = tasks.assets[task];
    const names = held.slice(0, 3).map((asset) => assets.name[asset]).join(", ");
    return held.length > 3 ? `${names} and ${number(held.length - 3)} more` : names;
  },
  first: (task) => (tasks.first[task] ?? []).join(assets.name[tasks.assets[task][0]]),
  files: (task) => tasks.files[task],
  size: (task) => tasks.size[task],
  parameters: (task) => tasks.parameters.values[tasks.parameters.rows[task]],
  id: (task) => tasks.id[task],
};

function shownIn(column, task) {
  const value = COLUMNS[column](task);
  if (typeof value === "string") return value;
  return column === "size" ? size(value) : String(value);
}

function rowOf(task) {
  const row = make("tr", {});
  for (const header of headers) {
    const { column } = header.dataset;
    const string = shownIn(column, task);
    if (column === "assets") {
      row.append(make("th", { scope: "row" }, string));
    } else if (column === "first") {
      const nameStart = string.replace(/\/+$/, "").lastIndexOf("/") + 1;
      const folder = make("span", { class: "quiet" }, string.slice(0, nameStart));
      row.append(make("td", {}, folder, string.slice(nameStart)));
    } else if (column === "id") {
      row.append(make("td", { class: "id", title: string }, make("code", {}, string)));
    } else if (column === "parameters") {
      row.append(make("td", {}, make("code", {}, string)));
    } else {
      row.append(make("td", { class: "n" }, string));
    }
  }
  return row;
}

let order = allTasks;
let isChosenTask = allTasks.map(() => true);
let listedTasks = allTasks; // those that the table lists, the first of them as rows
let searchedStrings; // of each task, what search looks at

function listTasks() {
  const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
  if (words.length) {
    searchedStrings ??= allTasks.map((task) =>
      headers.map((header) => shownIn(header.dataset.column, task)).join(" ").toLowerCase()
    );
  }
  listedTasks = order.filter(
    (task) => isChosenTask[task] && words.every((word) => searchedStrings[task].includes(word))
  );
  table.tBodies[0].replaceChildren();
  showMore();
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

function showMore() {
  const body = table.tBodies[0];
  const shown = body.rows.length;
  body.append(...listedTasks.slice(shown, shown + ROWS_AT_ONCE).map(rowOf));
  moreButton.hidden = body.rows.length === listedTasks.length;
  const rows = `${number(body.rows.length)} of ${number(listedTasks.length)} rows`;
  moreButton.textContent = `Show more: ${rows}`;
}

search.addEventListener("input", listTasks);
moreButton.addEventListener("click", () => {
  const firstNew = table.tBodies[0].rows.length;
  showMore();
  if (moreButton.hidden) table.closest("[tabindex]").focus();
  table.tBodies[0].rows[firstNew].scrollIntoView({ block: "nearest" });
});

for (const header of headers) {
  header.querySelector("button").addEventListener("click", () => {
    const descending = header.getAttribute("aria-sort") === "ascending";
    const keys = allTasks.map(COLUMNS[header.dataset.column]);
    const compare = (a, b) => (typeof a === "string" ? collator.compare(a, b) : a - b);
    order = [...order].sort((a, b) => (descending ? -1 : 1) * compare(keys[a], keys[b]));
    for (const other of headers) other.removeAttribute("aria-sort");
    header.setAttribute("aria-sort", descending ? "descending" : "ascending");
    listTasks();
  });
}
