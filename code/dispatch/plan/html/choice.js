// What is chosen, what it comes to, and the filter and the command that ask for it.

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
  const byLabel = (a, b) => (a === null) - (b === null) || natural(label(a), label(b));
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
  portable: byId("portable").textContent,
  title: byId("command-title").textContent,
};

function showFilter(chosen, isNarrowed) {
  let { filter, command, portable, title } = original;
  let isLong = false;
  let choosing = "";
  if (isNarrowed) {
    const short = assets.id ? idsOf(chosen) : filterOf(chosen, 0);
    const quoted = `'${short.replaceAll("'", `'"'"'`)}'`;
    isLong = new Blob([quoted]).size > LONGEST_ARGUMENT;
    if (assets.id && !chosen.length) {
      choosing = `--query '{"_id":{"$in":[]}}'`;
    } else if (assets.id) {
      choosing = isLong ? "--use_data_asset_csv 1" : `--asset ${quoted}`;
    } else {
      filter = filterOf(chosen, 2);
      choosing = `--query ${isLong ? "query.json" : quoted}`;
    }
    // of an asset that is cut, no more tasks than are shown
    if (data.limits) choosing += ` --max_tasks ${isChosenTask.filter(Boolean).length}`;
    command = `${data.command_without_query} ${choosing}`;
    portable = `${data.portable_without_query} ${choosing}`;
    title = "The command that dispatches what is chosen";
  }
  for (const [id, string] of Object.entries({ filter, command, portable })) {
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
  document.querySelector("#bar [data-copy=filter]").hidden = !filter;
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
  showFigures(chosen, chosenTasks, isNarrowed);
  drawLoads(chosenTasks, isNarrowed);
  byId("dealt").hidden = !isNarrowed;
}

const wholeFigures = new Map();
for (const shown of document.querySelectorAll("[data-figure]")) {
  wholeFigures.set(shown, shown.textContent);
}

// The figures of what is chosen, of the whole.
function showFigures(chosen, chosenTasks, isNarrowed) {
  const sum = (column) => chosenTasks.reduce((total, task) => total + column[task], 0);
  const figures = {
    assets: () => number(chosen.length),
    tasks: () => number(chosenTasks.length),
    files: () => number(sum(tasks.files)),
    size: () => size(sum(tasks.size)),
    workers: () => number(new Set(chosenTasks.map((task) => tasks.worker[task])).size),
  };
  for (const [shown, whole] of wholeFigures) {
    if (!isNarrowed) shown.textContent = whole;
    else {
      const part = figures[shown.dataset.figure]();
      shown.replaceChildren(part, make("span", { class: "whole" }, ` of ${whole}`));
    }
  }
  for (const shown of document.querySelectorAll(".numbers dd:not([data-figure])")) {
    const note = make("span", { class: "whole" }, " in the whole plan");
    const kept = shown.firstChild;
    shown.replaceChildren(kept, ...(isNarrowed ? [note] : []));
  }
}

// A chip for each thing that is chosen, which takes it back.
function showChips() {
  const chips = [];
  const add = (field, text, takeBack) => {
    const words = `${TITLES[field.name]}: ${text}`;
    const name = { type: "button", title: words, "aria-label": `Take back ${words}` };
    const chip = make("button", name, `${visible(words)} ×`);
    chip.addEventListener("click", () => {
      takeBack();
      choiceChanged();
      (byId("chips").querySelector("button") ?? byId("clear")).focus();
    });
    chips.push(chip);
  };
  for (const field of fields) {
    for (const value of field.chosen) {
      add(field, nameOf(value), () => field.chosen.delete(value));
    }
    for (const end of ["from", "to"]) {
      if (field[end]) add(field, `${end} ${field[end]}`, () => (field[end] = ""));
    }
  }
  byId("chips").replaceChildren(...chips);
}

function narrow() {
  const { chosen, bySet } = choose();
  const isNarrowed = fields.some(isChosen);
  fields.forEach((field, place) => field.show(countByValue(field, bySet[place])));
  showChips();
  showChosen(chosen, isNarrowed);
  showAssets(chosen);
  listTasks();
  showFilter(chosen, isNarrowed);
}
