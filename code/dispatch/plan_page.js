"use strict";
// The script of the page that a dry run writes. It draws the pictures and the rows of the table,
// narrows them to what is chosen, and makes the filter that asks for it. plan_page.py gives it
// the data as columns; an asset, or a task, is its place in them.

const data = JSON.parse(document.getElementById("data").textContent);
const { assets, tasks } = data;
const allAssets = assets.name.map((_, asset) => asset);
const allTasks = tasks.id.map((_, task) => task);

const SUBJECTS_IN_PICTURE = 200;
const PERIODS_IN_PICTURE = 53; // a year in weeks
const ROWS_AT_ONCE = 200; // of the table of tasks
const VALUES_AT_ONCE = 100; // of a field to choose by
const LONG_STRING = 10_000; // characters of a filter that fill its box, however wide the window is
const LONGEST_ARGUMENT = 100_000; // bytes of a filter in a command; Linux takes 128 KiB

const byId = (id) => document.getElementById(id);
const copyButtons = document.querySelectorAll("[data-copy]");
for (const tool of document.querySelectorAll("[data-tool]")) tool.hidden = false;

// ------------------------------------------------------------------------------------------ words

const format = new Intl.NumberFormat("en", { maximumFractionDigits: 1 });
const number = (value) => format.format(value);
const count = (value, noun) => `${number(value)} ${noun}${value === 1 ? "" : "s"}`;
const collator = new Intl.Collator("en");

function size(bytes) {
  if (bytes < 1000) return count(bytes, "Byte");
  const units = ["kB", "MB", "GB", "TB", "PB", "EB"];
  let value = bytes / 1000;
  while (value >= 1000 && units.length > 1) {
    value /= 1000;
    units.shift();
  }
  return `${value.toFixed(1)} ${units[0]}`;
}

// Characters that do not show, or that change the order of others, as JSON's escapes.
function visible(string) {
  const escape = (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, "0")}`;
  const hidden = /(?!\n)[\p{C}\p{Zl}\p{Zp}]/gu;
  return string.replace(hidden, (character) => character.split("").map(escape).join(""));
}

function make(name, attributes, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children);
  return element;
}

// --------------------------------------------------------------------------------------- pictures

function shape(name, attributes, string = "") {
  const element = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.textContent = string;
  return element;
}

function drawing(width, height, shapes) {
  const svg = shape("svg", { width, height, viewBox: `0 0 ${width} ${height}` });
  svg.append(...shapes);
  return svg;
}

// Round numbers from 0 to this one, in so many steps at most.
function ticksTo(most, steps) {
  let step = 1;
  for (let power = 1; most / step > steps; power *= 10) {
    const round = [1, 2, 2.5, 5, 10].map((factor) => factor * power).filter(Number.isInteger);
    step = round.find((each) => most / each <= steps) ?? step;
  }
  return Array.from({ length: Math.floor(most / step) + 1 }, (_, tick) => tick * step);
}

// One bar per worker, and a dashed line at their mean.
function drawBars(picture) {
  const loads = JSON.parse(picture.dataset.loads);
  const inWords = picture.dataset.unit === "bytes" ? size : number;
  const top = 1.05 * loads.reduce((most, load) => Math.max(most, load), 1);
  const sum = loads.reduce((total, load) => total + load, 0);
  const ticks = ticksTo(top, 4).map((load) => [load, inWords(load)]);
  const [width, height, bottom, right] = [460, 192, 148, 456];
  const left = 12 + 7.5 * Math.max(...ticks.map(([, label]) => label.length));
  const step = (right - left) / loads.length;
  const half = step * (loads.length <= 60 ? 0.4 : 0.5); // thin bars have no gaps between them
  const middle = (worker) => left + (worker + 0.5) * step;
  const y = (load) => bottom - (load / top) * (bottom - 4);
  const bars = loads.map((load, worker) => {
    const x = middle(worker);
    return `M${x - half} ${bottom}V${y(load)}H${x + half}V${bottom}Z`;
  });
  const lines = ticks.map(([load]) => `M${left} ${y(load)}H${right}`);
  picture.replaceChildren(
    drawing(width, height, [
      ...ticksTo(loads.length - 1, 9).map((worker) =>
        shape("text", { x: middle(worker), y: bottom + 17, class: "middle" }, number(worker))
      ),
      shape("text", { x: (left + right) / 2, y: height - 8, class: "middle" }, "worker"),
      ...ticks.map(([load, label]) =>
        shape("text", { x: left - 6, y: y(load) + 4, class: "left" }, label)
      ),
      shape("path", { d: lines.join(""), class: "lines" }),
      shape("path", { d: bars.join(""), class: "shade2" }),
      shape("path", { d: `M${left} ${y(sum / loads.length)}H${right}`, class: "mean" }),
    ])
  );
}

document.querySelectorAll("[data-loads]").forEach(drawBars);

// ----------------------------------------------------------------------------- subjects and weeks

const dayNumber = (day) => Date.parse(day) / 86_400_000;
const dayOf = (days) => new Date(days * 86_400_000).toISOString().slice(0, 10);
const digits = (value, places) => String(value).padStart(places, "0");
const PERIODS = {
  day: { of: dayNumber, label: dayOf },
  week: {
    of: (day) => Math.floor((dayNumber(day) + 3) / 7),
    label: (weeks) => dayOf(7 * weeks - 3), // its Monday
  },
  month: {
    of: (day) => 12 * Number(day.slice(0, 4)) + Number(day.slice(5, 7)) - 1,
    label: (months) => `${digits(Math.floor(months / 12), 4)}-${digits((months % 12) + 1, 2)}`,
  },
  year: { of: (day) => Number(day.slice(0, 4)), label: (years) => digits(years, 4) },
};

// The shortest period of which a picture has room for all from the first to the last day: its name,
// what its columns are called, and the column of each day.
function gather(days) {
  let name, numbers, columns;
  for (name of Object.keys(PERIODS)) {
    numbers = days.map(PERIODS[name].of);
    const first = numbers.reduce((least, each) => Math.min(least, each));
    const last = numbers.reduce((most, each) => Math.max(most, each));
    columns = null;
    if (last - first < PERIODS_IN_PICTURE) {
      columns = Array.from({ length: last - first + 1 }, (_, place) => first + place);
      break;
    }
  }
  columns ??= [...new Set(numbers)].sort((a, b) => a - b); // one of the days is mistaken
  const places = new Map(columns.map((each, place) => [each, place]));
  return {
    period: name,
    labels: columns.map(PERIODS[name].label),
    column: new Map(days.map((day, place) => [day, places.get(numbers[place])])),
  };
}

// How many of these assets each subject has in each period; null if none has subject and day.
function countBySubject(chosen) {
  const placed = [];
  const subjects = new Set();
  for (const asset of chosen) {
    const subject = assets.subject.values[assets.subject.rows[asset]];
    const day = assets.day.values[assets.day.rows[asset]];
    if (subject) subjects.add(subject);
    if (subject && day) placed.push([subject, day]);
  }
  if (!placed.length) return null;
  const { period, labels, column } = gather([...new Set(placed.map(([, day]) => day))]);
  const names = [...subjects].sort();
  const rows = new Map(names.map((name) => [name, new Array(labels.length).fill(0)]));
  const sums = new Array(labels.length).fill(0);
  for (const [subject, day] of placed) {
    rows.get(subject)[column.get(day)] += 1;
    sums[column.get(day)] += 1;
  }
  const total = (row) => row.reduce((sum, each) => sum + each, 0);
  return {
    period,
    labels,
    counts: [...rows.values()],
    periods: labels.map((label, place) => [label, sums[place]]),
    subjects: names.map((name) => [name, total(rows.get(name))]),
  };
}

function drawCounts({ labels, counts, periods, subjects }) {
  const drawn = subjects.slice(0, SUBJECTS_IN_PICTURE);
  const names = drawn.map(([name]) => {
    const characters = [...visible(name)];
    return characters.length > 20 ? `${characters.slice(0, 19).join("")}…` : characters.join("");
  });
  const cell = 18;
  const left = 12 + 8 * Math.max(...names.map((name) => name.length));
  const [top, bar] = [98, 56];
  const [wide, high] = [labels.length * cell, drawn.length * cell];
  const most = counts.slice(0, drawn.length).flat().reduce((a, b) => Math.max(a, b), 4);
  const highest = periods.reduce((a, [, sum]) => Math.max(a, sum), 1);
  const squares = ["", "", "", ""];
  const numbers = [];
  counts.slice(0, drawn.length).forEach((row, y) => {
    row.forEach((value, x) => {
      if (!value) return;
      const shade = Math.ceil((4 * value) / most);
      const [right, down] = [left + x * cell, top + y * cell];
      squares[shade - 1] += `M${right} ${down}h${cell}v${cell}h${-cell}z`;
      if (value > 1) {
        const place = { x: right + cell / 2, y: down + cell / 2 + 4, class: `more on${shade}` };
        numbers.push(shape("text", place, String(value)));
      }
    });
  });
  const bars = periods.map(([, sum], x) => {
    const height = (sum / highest) * bar;
    return `M${left + (x + 0.1) * cell} ${8 + bar}v${-height}h${0.8 * cell}v${height}z`;
  });
  let gaps = "";
  for (let x = 0; x <= labels.length; x += 1) gaps += `M${left + x * cell} ${top}v${high}`;
  for (let y = 0; y <= drawn.length; y += 1) gaps += `M${left} ${top + y * cell}h${wide}`;
  const empty = { x: left, y: top, width: wide, height: high, class: "empty" };
  const shapes = [
    shape("rect", empty),
    ...squares.map((d, place) => shape("path", { d, class: `shade${place + 1}` })),
    shape("path", { d: gaps, class: "gaps" }),
    ...numbers,
    shape("path", { d: bars.join(""), class: "shade2" }),
    shape("text", { x: left - 6, y: 8 + bar, class: "left" }, "0"),
    shape("text", { x: left - 6, y: 14, class: "left" }, number(highest)),
  ];
  for (let x = 0; x < labels.length; x += 6) {
    shapes.push(shape("text", { x: left + x * cell, y: top - 7 }, labels[x]));
  }
  drawn.forEach(([, total], row) => {
    const y = top + row * cell + cell / 2 + 4.5;
    shapes.push(shape("text", { x: left - 6, y, class: "left" }, names[row]));
    shapes.push(shape("text", { x: left + wide + 8, y }, number(total)));
  });
  return drawing(left + wide + 90, top + high + 8, shapes);
}

function captionOf({ period, subjects }) {
  const whichPeriods = { week: ", from Monday", year: " that has sessions" }[period] ?? "";
  const drawn = `The first ${SUBJECTS_IN_PICTURE} of ${number(subjects.length)} subjects are drawn`;
  return [
    `One row per subject, one column per ${period}${whichPeriods}.`,
    "A square is one asset, a number in it counts more.",
    "Bars add up the columns, numbers at the right the rows.",
    subjects.length > SUBJECTS_IN_PICTURE
      ? `${drawn}; the bars and the table of subjects count all.`
      : "",
  ].join(" ");
}

function showSpread(place, noun, counts) {
  const fewestFirst = [...counts].sort(([, a], [, b]) => a - b);
  const sum = counts.reduce((total, [, each]) => total + each, 0);
  const entry = (title, value, name = "") =>
    make(
      "div",
      {},
      make("dt", {}, title),
      make("dd", {}, `${number(value)} `, make("span", { class: "quiet" }, name))
    );
  const [least, most] = [fewestFirst[0], fewestFirst[fewestFirst.length - 1]];
  document.querySelector(`[data-spread=${place}]`).replaceChildren(
    entry(`Least per ${noun}`, least[1], least[0]),
    entry(`Most per ${noun}`, most[1], most[0]),
    entry("Mean", sum / counts.length)
  );
  const table = document.querySelector(`[data-counted=${place}]`);
  const title = `Assets by ${noun}, as a table`;
  table.querySelector("summary").textContent = title;
  table.querySelector("[role=region]").setAttribute("aria-label", title);
  table.querySelector("th").textContent = noun[0].toUpperCase() + noun.slice(1);
  table.ontoggle = () => {
    if (!table.open) return; // what nobody sees is not filled in
    const rows = counts.map(([name, each]) =>
      make("tr", {}, make("th", { scope: "row" }, name), make("td", { class: "n" }, number(each)))
    );
    table.querySelector("tbody").replaceChildren(...rows);
  };
  table.ontoggle();
}

function showAssets(chosen) {
  const subjects = new Set(chosen.map((asset) => assets.subject.rows[asset]));
  const days = [...new Set(chosen.map((asset) => assets.day.rows[asset]))];
  const knownDays = days.map((day) => assets.day.values[day]).filter(Boolean).sort();
  const missing = ({ values, rows }) => chosen.filter((asset) => !values[rows[asset]]).length;
  const known = [...subjects].filter((subject) => assets.subject.values[subject]);
  const counts = countBySubject(chosen);
  const lacking = [
    [missing(assets.subject), "a subject"],
    [missing(assets.day), "a session date"],
  ].filter(([missed]) => missed);
  let sentence = `${count(chosen.length, "asset")} of ${count(known.length, "subject")}`;
  if (knownDays.length) {
    sentence += `, with sessions from ${knownDays[0]} to ${knownDays[knownDays.length - 1]}`;
  }
  if (lacking.length) {
    const without = lacking.map(([missed, what]) => `${count(missed, "asset")} without ${what}`);
    sentence += `. ${counts ? "Not in the picture" : "No picture"}: ${without.join(", ")}`;
  }
  byId("assets-text").textContent = `${sentence}.`;
  byId("assets-figure").hidden = !counts;
  if (!counts) return;
  byId("picture-text").textContent = captionOf(counts);
  document.querySelector("#assets .picture").replaceChildren(drawCounts(counts));
  showSpread("period", counts.period, counts.periods);
  showSpread("subject", "subject", counts.subjects);
}

// ------------------------------------------------------------------------------------------ tasks

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

// ----------------------------------------------------------------------------------------- choice

const TITLES = {
  project: "Project",
  subject: "Subject",
  modality: "Modality",
  level: "Data level",
  date: "Session date",
};

// A record has several values of a field, or none, which is null: a set. `rows` says which set an
// asset has. Records hold a field at one path or another, and spell a value in one way or another:
// `spelt` has the number of the path and the string, of values that are not the same at the first.
// Dates are cut to their day: `>=` and `<` say of a day what they say of the whole.
const fields = data.choices.map(({ name, paths, values: sets, rows, spelt }) => {
  const distinct = [...new Set(sets.flatMap(valuesIn))];
  const label = (value) => value ?? "(none)";
  const byLabel = (a, b) => (a === null) - (b === null) || collator.compare(label(a), label(b));
  const options = distinct.filter((value) => name !== "date" || isDay(value)).sort(byLabel);
  const chosen = new Set();
  return { name, paths, sets, rows, options, spelt: new Map(spelt), chosen, from: "", to: "" };
});

// The values of a set; of days, a set has a list for each path that they stand at.
function valuesIn(set) {
  return set?.flat() ?? [null];
}

// Whether a value is a day, and the next one has a name in four digits, too.
function isDay(value) {
  if (!/^\d{4}-\d\d-\d\d$/.test(value ?? "")) return false;
  return value < "9999-12-31" && dayOf(dayNumber(value) || 0) === value;
}

const dayAfter = (day) => day && dayOf(dayNumber(day) + 1);

function isChosen(field) {
  return field.chosen.size > 0 || field.from !== "" || field.to !== "";
}

function passes(field, set) {
  if (!isChosen(field)) return true;
  if (field.name !== "date") return valuesIn(set).some((value) => field.chosen.has(value));
  const end = dayAfter(field.to);
  return (set ?? []).some((days) => {
    const later = !field.from || days.some((day) => day >= field.from);
    const earlier = !end || days.some((day) => day < end);
    return later && earlier;
  });
}

// The assets that all choices let pass, and for each field how many assets have each of its sets
// that the choices in the other fields let pass.
function choose() {
  const passing = fields.map((field) => field.sets.map((set) => passes(field, set)));
  const bySet = fields.map((field) => new Array(field.sets.length).fill(0));
  const chosen = allAssets.filter((asset) => {
    const failed = fields.filter((field, place) => !passing[place][field.rows[asset]]);
    fields.forEach((field, place) => {
      const others = failed.length - failed.includes(field);
      if (!others) bySet[place][field.rows[asset]] += 1;
    });
    return !failed.length;
  });
  return { chosen, bySet };
}

function countByValue(field, bySet) {
  const counts = new Map(field.options.map((value) => [value, 0]));
  field.sets.forEach((set, place) => {
    for (const value of new Set(valuesIn(set))) counts.set(value, counts.get(value) + bySet[place]);
  });
  return counts;
}

// The conditions of the choice. "(none)" is whatever holds no string: null, missing, [], a number.
function conditions(chosen) {
  if (assets.record_id) return [{ _id: { $in: chosen.map((asset) => assets.record_id[asset]) } }];
  return fields.filter(isChosen).map((field) => {
    const branches = field.name === "date" ? daysAsked(field) : valuesAsked(field);
    return branches.length === 1 ? branches[0] : { $or: branches };
  });
}

// The filters that ask for days, one for each path that has any here.
function daysAsked(field) {
  const end = dayAfter(field.to);
  const range = { ...(field.from && { $gte: field.from }), ...(end && { $lt: end }) };
  const held = field.paths.filter((_, place) => field.sets.some((set) => set?.[place].length));
  return held.map((path) => ({ [path]: range }));
}

// The filters that ask for values, one for each path that they stand at.
function valuesAsked(field) {
  const values = field.options.filter((value) => value !== null && field.chosen.has(value));
  const strings = field.paths.map(() => []);
  for (const value of values) {
    const places = field.spelt.get(value) ?? [[0, value]];
    for (const [place, string] of places) strings[place].push(string);
  }
  const branches = [];
  field.paths.forEach((path, place) => {
    const asked = strings[place];
    if (asked.length) branches.push({ [path]: asked.length === 1 ? asked[0] : { $in: asked } });
  });
  if (field.chosen.has(null)) {
    const none = field.paths.map((path) => ({ [path]: { $type: "string" } }));
    branches.push({ $nor: none });
  }
  return branches;
}

// The filter as JSON. The dry run's own stays the string that it is: JavaScript rounds numbers.
function filterOf(chosen, indent) {
  const asked = data.query && data.query !== "{}" ? [indent ? original.filter : data.query] : [];
  const added = conditions(chosen).map((condition) => JSON.stringify(condition, null, indent));
  const parts = [...asked, ...added].map(visible);
  if (parts.length === 1) return parts[0];
  if (!indent) return `{"$and":[${parts.join(",")}]}`;
  const inner = parts.map((part) => part.replace(/^/gm, " ".repeat(2 * indent)));
  const pad = " ".repeat(indent);
  return `{\n${pad}"$and": [\n${inner.join(",\n")}\n${pad}]\n}`;
}

// The ids that were asked for, in their order: any of an asset's ids may have been.
function idsOf(chosen) {
  const ids = chosen.map((asset) => assets.id[asset]);
  const isPlain = ids.every((id) => /^[\w-]+$/.test(id));
  return visible(isPlain ? ids.join(",") : JSON.stringify(ids));
}

const original = {
  filter: byId("filter").textContent,
  command: byId("command").textContent,
  title: byId("command-title").textContent,
};

function showFilter(chosen, isNarrowed) {
  let { filter, command, title } = original;
  let isLong = false;
  let choosing = "";
  if (isNarrowed) {
    const short = assets.id ? idsOf(chosen) : filterOf(chosen, 0);
    const quoted = `'${short.replaceAll("'", `'"'"'`)}'`;
    isLong = new Blob([quoted]).size > LONGEST_ARGUMENT;
    if (assets.id && !chosen.length) {
      choosing = `--query '{"_id":{"$in":[]}}'`;
    } else if (assets.id) {
      choosing = isLong ? "--use_data_asset_csv 1" : `--${data.list} ${quoted}`;
    } else {
      filter = filterOf(chosen, 2);
      choosing = `--query ${isLong ? "query.json" : quoted}`;
    }
    command = `${data.command_without_query} ${choosing}`;
    // of an asset that is cut, no more tasks than are shown
    if (data.limits) command += ` --max_tasks ${isChosenTask.filter(Boolean).length}`;
    title = "The command that dispatches what is chosen";
  }
  for (const [id, string] of Object.entries({ filter, command })) {
    byId(id).textContent = string;
    byId(id).classList.toggle("long", string.length > LONG_STRING);
  }
  byId("command-title").textContent = title;
  byId("too-long").hidden = !isLong;
  // what has been copied is no longer what is shown
  for (const button of copyButtons) button.nextElementSibling.textContent = "";
  byId("filter-block").hidden = !filter;
  byId("no-filter").hidden = Boolean(filter);
  byId("download").hidden = !filter && !(assets.id && isNarrowed);
  document.querySelector("#narrow [data-copy=filter]").hidden = !filter;
}

function showChosen(chosen, isNarrowed) {
  const chosenAssets = new Set(chosen);
  isChosenTask = tasks.assets.map((held) => held.some((asset) => chosenAssets.has(asset)));
  const chosenTasks = allTasks.filter((task) => isChosenTask[task]);
  const sizeOf = (group) => size(group.reduce((sum, task) => sum + tasks.size[task], 0));
  const partOf = (part, all, noun) => `${number(part)} of ${count(all, noun)}`;
  const parts = [
    partOf(chosen.length, allAssets.length, "asset"),
    partOf(chosenTasks.length, allTasks.length, "task"),
  ];
  if (tasks.first.some(Boolean)) parts.push(`${sizeOf(chosenTasks)} of ${sizeOf(allTasks)}`);
  const start = isNarrowed ? "Chosen" : "Nothing is chosen, which is all";
  let sentence = `${start}: ${parts.join(", ")}.`;
  const hasOthers = (task) => tasks.assets[task].some((asset) => !chosenAssets.has(asset));
  if (isNarrowed && chosenTasks.some(hasOthers)) {
    sentence += " A task that has other assets, too, counts with all of its files.";
  }
  byId("chosen").textContent = sentence;
}

function narrow() {
  const { chosen, bySet } = choose();
  const isNarrowed = fields.some(isChosen);
  fields.forEach((field, place) => field.show(countByValue(field, bySet[place])));
  showChosen(chosen, isNarrowed);
  showAssets(chosen);
  listTasks();
  showFilter(chosen, isNarrowed);
}

// --------------------------------------------------------------------------- lists to choose from

function listValues(field) {
  const id = `values-of-${field.name}`;
  const list = make("ul", { class: "values framed", id });
  const note = make("p", { class: "quiet" });
  const searchBox = make("input", { type: "search", autocomplete: "off", spellcheck: "false" });
  const title = TITLES[field.name];
  searchBox.setAttribute("aria-label", `Search in the values of ${title.toLowerCase()}`);
  searchBox.setAttribute("aria-controls", id);
  const name = (value) => (value === null ? "(none)" : value === "" ? "(empty)" : value);
  let counts = new Map();
  let rows = [];

  function fill() {
    const wanted = searchBox.value.toLowerCase().trim();
    const fitting = field.options.filter((value) => name(value).toLowerCase().includes(wanted));
    const first = new Set(fitting.slice(0, VALUES_AT_ONCE));
    const listed = field.options.filter((value) => first.has(value) || field.chosen.has(value));
    rows = listed.map((value) => {
      const box = make("input", { type: "checkbox" });
      box.addEventListener("change", () => {
        if (box.checked) field.chosen.add(value);
        else field.chosen.delete(value);
        choiceChanged();
      });
      const countShown = make("span", { class: "held" });
      const label = make("label", {}, box, make("span", {}, name(value)), countShown);
      return { value, box, countShown, label };
    });
    list.replaceChildren(...rows.map(({ label }) => make("li", {}, label)));
    const all = count(fitting.length, "value");
    note.textContent = `${number(first.size)} of ${all}: search for more`;
    note.hidden = first.size === fitting.length;
    update();
  }

  function update() {
    for (const { value, box, countShown, label } of rows) {
      const assetCount = counts.get(value) ?? 0;
      countShown.textContent = number(assetCount);
      box.checked = field.chosen.has(value);
      label.classList.toggle("gone", !assetCount);
    }
  }

  field.show = (newCounts) => {
    counts = newCounts;
    update();
  };
  field.fill = fill;
  searchBox.addEventListener("input", fill);
  searchBox.hidden = field.options.length <= 10;
  return make("fieldset", {}, make("legend", {}, title), searchBox, list, note);
}

function listDays(field) {
  const choice = make("fieldset", {}, make("legend", {}, TITLES[field.name]));
  const selects = ["from", "to"].map((end) => {
    const select = make("select", { id: `date-${end}` }, make("option", { value: "" }, "any"));
    select.append(...field.options.map((day) => make("option", { value: day }, day)));
    select.addEventListener("change", () => {
      field[end] = select.value;
      choiceChanged();
    });
    // there can be thousands of days: their numbers stand there while the list is in use
    for (const event of ["pointerdown", "focus"]) {
      select.addEventListener(event, () => label(select, withCount));
    }
    select.addEventListener("blur", () => label(select, (day) => day));
    choice.append(make("label", { for: select.id }, end === "from" ? "From" : "To"), select);
    return select;
  });
  let counts = new Map();
  function label(select, labelOf) {
    for (const option of select.options) {
      if (option.value) option.textContent = labelOf(option.value);
    }
  }
  const withCount = (day) => `${day} (${number(counts.get(day))})`;
  field.show = (newCounts) => {
    counts = newCounts;
    selects.forEach((select) => {
      select.value = field[select.id.slice("date-".length)];
      if (select === document.activeElement) label(select, withCount);
    });
  };
  field.fill = () => {};
  return choice;
}

// ---------------------------------------------------------------------------------------- address

// The choice as the part of the address behind #, such as project=Striatum&none=subject.
function addressOf() {
  const pairs = new URLSearchParams();
  for (const field of fields) {
    for (const value of field.options) {
      if (!field.chosen.has(value)) continue;
      if (value === null) pairs.append("none", field.name);
      else pairs.append(field.name, value);
    }
    if (field.from) pairs.append("from", field.from);
    if (field.to) pairs.append("to", field.to);
  }
  return String(pairs);
}

function readAddress() {
  const pairs = new URLSearchParams(location.hash.slice(1));
  for (const field of fields) {
    if (field.name === "date") {
      for (const end of ["from", "to"]) {
        field[end] = field.options.includes(pairs.get(end)) ? pairs.get(end) : "";
      }
      continue;
    }
    const wanted = new Set(pairs.getAll(field.name));
    if (pairs.getAll("none").includes(field.name)) wanted.add(null);
    field.chosen = new Set(field.options.filter((value) => wanted.has(value)));
  }
}

function writeAddress() {
  const choice = addressOf();
  history.replaceState(null, "", choice ? `#${choice}` : location.href.split("#")[0]);
}

function choiceChanged() {
  writeAddress();
  narrow();
}

function clearChoice() {
  for (const field of fields) Object.assign(field, { chosen: new Set(), from: "", to: "" });
  fields.forEach((field) => field.fill());
  choiceChanged();
}

if (allTasks.length) {
  byId("choices").append(
    ...fields.map((field) => (field.name === "date" ? listDays(field) : listValues(field)))
  );
  byId("clear").addEventListener("click", clearChoice);
  byId("download").addEventListener("click", () => {
    let [string, name, type] = [byId("filter").textContent, "query.json", "application/json"];
    if (assets.id) {
      const ids = choose().chosen.map((asset) => assets.id[asset]);
      const cells = ids.map((id) => `"${id.replaceAll('"', '""')}"`);
      string = [data.list, ...cells].join("\n");
      [name, type] = ["data_asset_input.csv", "text/csv"];
    }
    const file = new Blob([string, "\n"], { type });
    make("a", { href: URL.createObjectURL(file), download: name }).click();
  });
  if (assets.id) byId("download").textContent = "Download data_asset_input.csv";
  addEventListener("hashchange", () => {
    // a link to a section of the page took the place of the choice, which comes back
    if (location.hash && !location.hash.includes("=")) {
      if (fields.some(isChosen)) writeAddress();
      return;
    }
    readAddress();
    fields.forEach((field) => field.fill());
    narrow();
  });
  readAddress();
  fields.forEach((field) => field.fill());
  narrow();
} else {
  showAssets([]);
}

// Copy: where the browser keeps the clipboard to itself, the text is selected, for the keyboard.
for (const button of copyButtons) {
  button.addEventListener("click", async () => {
    const source = byId(button.dataset.copy);
    const status = button.nextElementSibling;
    try {
      await navigator.clipboard.writeText(source.textContent);
      status.textContent = "Copied";
    } catch {
      getSelection().selectAllChildren(source);
      status.textContent = "Selected: press Ctrl+C";
    }
  });
}
